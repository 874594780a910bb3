// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
)

var hostileBytes = flag.String("hostile.bytes", "8Mi", "the quota of bytes that a hostile tenant uses up; the default of the operator is 64Mi")

// TestHostileJobsOfManyTasks has one tenant store as many jobs as a quota of bytes lets in, of the kind that
// takes most memory for its bytes: 5,000 tasks with little in them. They are suspended first, then all are
// resumed, and last the manager restarts while they run. Each takes 17 MiB once it has started; the manager
// has 100 MiB, whatever their number, and a job of another tenant gets its Pod all the time.
func TestHostileJobsOfManyTasks(t *testing.T) {
	c := startCluster(t)
	t.Setenv("GOMEMLIMIT", "100MiB") // config/manager gives 460 MiB
	p := c.startManager(t)
	c.namespace(t, "many", "")
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.AnnotationJobBytesQuota, *hostileBytes)
	must(t, c.Patch(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "many"}}, client.RawPatch(types.MergePatchType, []byte(patch))))
	c.namespace(t, "neighbour", "")
	s, neighbour := c.as(t, "", "many"), c.as(t, "", "neighbour")
	var tasks, edges []any
	for i := range 5000 {
		if i > 0 { // so that only the first makes a Pod, which never ends here
			edges = append(edges, map[string]any{"startTask": "t0", "endTask": fmt.Sprint("t", i)})
		}
		tasks = append(tasks, map[string]any{
			"taskName": fmt.Sprint("t", i), "computeEnv": map[string]any{}, "application": map[string]any{"deliveryForm": "LOCAL", "command": "c"},
		})
	}
	stored := 0
	var err error
	for ; err == nil && stored < 1000; stored++ {
		_, err = s.create(t.Context(), good, named(fmt.Sprint("many-", stored)), set(true, "spec", "suspend"),
			set(tasks, "spec", "job", "tasks"), set(edges, "spec", "job", "dependences"))
	}
	stored--
	if !refusedWith(err, errcode.JobQuota) || stored < 6 {
		t.Fatalf("%d jobs of 5,000 tasks: %v", stored, err)
	}
	runs := func(phase string) {
		t.Helper()
		name := fmt.Sprint("beside-", phase)
		eventually(t, func() error { // the API server hears of the webhook's new address through a watch
			_, err := neighbour.create(t.Context(), good, named(name))
			return client.IgnoreAlreadyExists(err)
		})
		eventually(t, func() error {
			var pods corev1.PodList
			must(t, c.List(t.Context(), &pods, client.InNamespace("neighbour")))
			for i := range pods.Items {
				if owner := metav1.GetControllerOf(&pods.Items[i]); owner != nil && owner.Name == name {
					return nil
				}
			}
			return errors.New("the job of another tenant has no Pod")
		})
		t.Logf("%s: %d jobs of %d tasks, %d MiB resident, %d at most", phase, stored, len(tasks), p.memory(t, "VmRSS:")/1024, p.memory(t, "VmHWM:")/1024)
	}
	suspended := func(want bool) func() error {
		return func() error {
			var jobs v1alpha1.BatchJobList
			must(t, c.List(t.Context(), &jobs, client.InNamespace("many"), client.Limit(4)))
			for i := range jobs.Items {
				s := &jobs.Items[i].Status
				if (s.Reason == v1alpha1.ReasonSuspended) != want || s.JobID == "" {
					return fmt.Errorf("%s is %s, %s", jobs.Items[i].Name, s.State, s.Reason)
				}
			}
			return nil
		}
	}
	eventually(t, suspended(true))
	runs("suspended")
	for i := range stored { // the API server takes seconds for each
		_, err := s.jobs.Patch(t.Context(), fmt.Sprint("many-", i), types.MergePatchType, []byte(`{"spec":{"suspend":false}}`), metav1.PatchOptions{})
		must(t, err)
	}
	eventually(t, suspended(false))
	runs("resumed")
	hwm := p.memory(t, "VmHWM:")
	p.stop(t)
	p = c.startManager(t)
	runs("restarted")
	// The pages of the program itself come on top of the limit.
	if hwm = max(hwm, p.memory(t, "VmHWM:")) >> 10; hwm > 160 && !raceDetector {
		t.Errorf("%d MiB were resident at most, want 160", hwm)
	}
	ctx := context.WithoutCancel(t.Context())
	if err := s.jobs.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil && !apierrors.IsNotFound(err) {
		t.Error(err)
	}
}
