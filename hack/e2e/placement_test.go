//go:build e2e

// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
)

// TestSamplesOfPlacement runs the samples of where and on what instances run, and looks at
// what they print.
func TestSamplesOfPlacement(t *testing.T) {
	t.Parallel()
	s := begin(t)
	for name, logs := range map[string]map[string]string{
		"placement":  {"task": "runs on any node that fits\n"},
		"machines":   {"by_size": "a core and 1 GiB\n"},
		"disks":      {"task": "written to a disk of its own\n"},
		"docker":     {"task": "hello from user 1000\n"},
		"kubernetes": {"task": "runs as 2000\n"},
	} {
		s.apply(s.sample(name))
		job := s.end(name, v1alpha1.JobSucceed)
		for task, want := range logs {
			for _, pod := range s.pods(task) {
				if jobID := pod.Labels[v1alpha1.LabelJobID]; jobID == job.Status.JobID {
					if got := s.log(pod); got != want && cluster.NodeKind != "process" {
						t.Errorf("%s prints %q, want %q", name, got, want)
					}
				}
			}
		}
	}
	s.released()
}

// TestThreeZones runs a task in each of three zones, of which two have a pretended node, and
// one in a zone that no node is in.
func TestThreeZones(t *testing.T) {
	if target.Cluster != "local" {
		t.Skip("left out: the zones are those of pretended nodes of a local cluster")
	}
	t.Parallel()
	s := begin(t)
	s.apply(job("zones", `
tasks:
- {taskName: here, application: {deliveryForm: LOCAL, command: "true"}, computeEnv: {}}
- taskName: third
  application: {deliveryForm: LOCAL, command: "true"}
  computeEnv: &pretended
    envData: {zones: [ap-guangzhou-3]}
    kubernetes: {tolerations: [{key: kwok.x-k8s.io/node, operator: Exists}]}
- taskName: either
  taskInstanceNum: 4
  application: {deliveryForm: LOCAL, command: "true"}
  computeEnv:
    envData: {zones: [ap-guangzhou-3, ap-guangzhou-4], instanceTypes: [S5.2XLARGE16, S5.LARGE8]}
    kubernetes: {tolerations: [{key: kwok.x-k8s.io/node, operator: Exists}]}
`))
	s.end("zones", v1alpha1.JobSucceed)
	for task, want := range map[string]struct {
		pods  int
		zones []string
	}{"here": {1, []string{"ap-guangzhou-2"}}, "third": {1, []string{"ap-guangzhou-3"}}, "either": {4, []string{"ap-guangzhou-3", "ap-guangzhou-4"}}} {
		pods := s.pods(task)
		if len(pods) != want.pods {
			t.Errorf("%s has %d Pods, want %d", task, len(pods), want.pods)
		}
		for _, pod := range pods {
			node := &corev1.Node{}
			if err := kube.Get(s.ctx, types.NamespacedName{Name: pod.Spec.NodeName}, node); err != nil {
				t.Fatal(err)
			}
			if zone := node.Labels[corev1.LabelTopologyZone]; !slices.Contains(want.zones, zone) {
				t.Errorf("%s ran in %q, want one of %q", pod.Name, zone, want.zones)
			}
		}
	}

	s.apply(strings.Replace(job("nowhere", `
tasks: [{application: {deliveryForm: LOCAL, command: "true"}, computeEnv: {}}]
`), "zone: ap-guangzhou-2", "zone: ap-guangzhou-9", 1))
	s.eventually(time.Minute, "the job to say that it waits for a zone", func() error {
		st := s.get("nowhere").Status
		want := "no node is in zone ap-guangzhou-9; there are nodes in zones ap-guangzhou-2, ap-guangzhou-3, ap-guangzhou-4"
		if st.Reason != v1alpha1.ReasonZoneNotFound || !strings.Contains(st.Message, want) {
			return fmt.Errorf("it says %s: %s", st.Reason, st.Message)
		}
		return nil
	})
}

// TestSharedComputeEnv: two jobs share two nodes while the manager is killed again and again,
// and get more; there are never more active instances than nodes.
func TestSharedComputeEnv(t *testing.T) {
	s := begin(t)
	pool := strings.SplitN(s.sample("computeenv"), "---", 2)[0]
	if out, err := s.kubectl(pool, "apply", "-f", "-"); err != nil {
		t.Fatal(out)
	}
	watch, err := kube.Watch(s.ctx, &corev1.PodList{}, client.InNamespace(s.namespace))
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	var peak atomic.Int64 // of Pods that were live at once
	done := make(chan struct{})
	go func() {
		defer close(done)
		live := map[types.UID]bool{}
		for e := range watch.ResultChan() {
			pod, ok := e.Object.(*corev1.Pod)
			if !ok {
				continue
			}
			live[pod.UID] = e.Type != "DELETED" && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
			n := int64(0)
			for _, alive := range live {
				if alive {
					n++
				}
			}
			peak.Store(max(peak.Load(), n))
		}
	}()
	for _, name := range []string{"one", "two"} {
		s.apply(job(name, `
priority: 7
tasks: [{taskInstanceNum: 8, envId: pool, application: {deliveryForm: LOCAL, command: "sleep 1"}}]
`))
	}
	kills := 0
	ended := func() bool { return s.get("one").Status.EndTime != nil && s.get("two").Status.EndTime != nil }
	for !ended() && kills < 4 && target.Cluster == "local" {
		s.killManager()
		kills++
		time.Sleep(2 * time.Second)
	}
	if out, err := s.kubectl("", "delete", "computeenv", "pool", "--wait=false"); !ended() && (err == nil || !strings.Contains(out, "ResourceInUse")) {
		t.Errorf("deleting a ComputeEnv in use: %v\n%s", err, out)
	}
	before := peak.Load()
	if before > 2 {
		t.Errorf("%d instances were live at once on 2 nodes", before)
	}
	s.must("scale", "computeenv/pool", "--replicas=3")
	for _, name := range []string{"one", "two"} {
		s.end(name, v1alpha1.JobSucceed)
	}
	s.eventually(30*time.Second, "the ComputeEnv to be free", func() error {
		env := &v1alpha1.ComputeEnv{}
		if err := kube.Get(s.ctx, types.NamespacedName{Namespace: s.namespace, Name: "pool"}, env); err != nil {
			return err
		}
		if st := env.Status; st.InUseCount != 0 || st.WaitingJobCount != 0 || len(env.Finalizers) > 0 || st.EnvID == "" {
			return fmt.Errorf("it is %+v, finalizers %q", st, env.Finalizers)
		}
		return nil
	})
	for args, wants := range map[string][]string{
		"get computeenvs":  {"NAME", "ENVID", "NODES", "IN USE", "WAITING", "AGE", "pool", "env-"},
		"get cenv -o wide": {"ZONE", "REASON", "ap-guangzhou-2", "Ready"},
	} {
		out := s.must(strings.Fields(args)...)
		for _, want := range wants {
			if !strings.Contains(out, want) {
				t.Errorf("kubectl %s does not print %q:\n%s", args, want, out)
			}
		}
	}
	s.must("delete", "computeenv", "pool")
	watch.Stop()
	<-done
	t.Logf("16 instances of two jobs: at most %d live at once on 2 nodes, and %d on 3; the manager was killed %d times", before, peak.Load(), kills)
	if n := peak.Load(); n > 3 || n < 2 {
		t.Errorf("%d instances were live at once on 3 nodes", n)
	}
	s.released()
}
