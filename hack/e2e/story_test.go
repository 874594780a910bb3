//go:build e2e

// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/hack/internal/install"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/podspec"
)

// story is one test with a namespace of its own.
type story struct {
	*testing.T
	ctx       context.Context
	namespace string
}

// begin makes a namespace for the test, in which only Pods of the Pod Security level
// restricted may run. When the test ends the namespace is deleted,
// and it must go: a Pod that kept a finalizer would hold it for ever.
func begin(t *testing.T) *story {
	t.Helper()
	s := &story{T: t, ctx: t.Context()}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}}}
	if err := kube.Create(s.ctx, ns); err != nil {
		t.Fatalf("making a namespace: %v", err)
	}
	s.namespace = ns.Name
	t.Cleanup(func() {
		s.ctx = context.Background()
		if t.Failed() {
			s.dump()
		}
		if err := kube.Delete(s.ctx, ns); err != nil {
			t.Errorf("deleting the namespace: %v", err)
		}
		s.eventually(2*time.Minute, "the namespace to go, with all that was in it", func() error {
			if err := kube.Get(s.ctx, client.ObjectKeyFromObject(ns), ns); client.IgnoreNotFound(err) == nil && err != nil {
				return nil
			}
			return fmt.Errorf("conditions: %v", ns.Status.Conditions)
		})
	})
	s.eventually(30*time.Second, "the default service account", func() error {
		return kube.Get(s.ctx, client.ObjectKey{Namespace: s.namespace, Name: "default"}, &corev1.ServiceAccount{})
	})
	return s
}

// dump shows what there is when a story has failed.
func (s *story) dump() {
	for _, args := range [][]string{{"get", "batchjobs,pods", "-o", "wide"}, {"get", "batchjobs", "-o", "yaml"}, {"get", "events"}} {
		out, _ := s.kubectl("", args...)
		s.Logf("kubectl %s\n%s", strings.Join(args, " "), out)
	}
	if cluster.NodeKind != "process" {
		out, _ := cluster.Kubectl(s.ctx, "-n", install.Namespace, "logs", "deployment/batchcompute-controller-manager", "--tail=100").CombinedOutput()
		s.Logf("manager's log\n%s", out)
		out, _ = cluster.Kubectl(s.ctx, "-n", install.Namespace, "logs", "--selector=control-plane=gateway", "--tail=100").CombinedOutput()
		s.Logf("gateways' logs\n%s", out)
	}
}

// kubectl runs kubectl in the story's namespace and returns all that it prints.
func (s *story) kubectl(stdin string, args ...string) (string, error) {
	cmd := cluster.Kubectl(s.ctx, append([]string{"-n", s.namespace}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// must is kubectl for what cannot fail.
func (s *story) must(args ...string) string {
	s.Helper()
	out, err := s.kubectl("", args...)
	if err != nil {
		s.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// sample is a manifest of config/samples.
func (s *story) sample(name string) string {
	s.Helper()
	data, err := os.ReadFile("config/samples/" + name + ".yaml")
	if err != nil {
		s.Fatal(err)
	}
	return string(data)
}

// job is a manifest with the given spec.job.
func job(name, spec string) string {
	return fmt.Sprintf(`apiVersion: batchcompute.dev/v1alpha1
kind: BatchJob
metadata: {name: %s}
spec:
  placement: {zone: ap-guangzhou-2}
  job:
%s`, name, indent(spec, 4))
}

func indent(text string, n int) string {
	var out strings.Builder
	for line := range strings.Lines(strings.Trim(text, "\n") + "\n") {
		out.WriteString(strings.Repeat(" ", n) + line)
	}
	return out.String()
}

// apply applies a manifest and returns the job's name.
func (s *story) apply(manifest string) string {
	s.Helper()
	if out, err := s.kubectl(manifest, "apply", "-f", "-"); err != nil {
		s.Fatalf("kubectl apply: %v\n%s", err, out)
	}
	var meta metav1.PartialObjectMetadata
	if err := yaml.Unmarshal([]byte(manifest), &meta); err != nil {
		s.Fatal(err)
	}
	return meta.Name
}

// get returns the job as it is.
func (s *story) get(name string) *v1alpha1.BatchJob {
	s.Helper()
	job := &v1alpha1.BatchJob{}
	if err := kube.Get(s.ctx, client.ObjectKey{Namespace: s.namespace, Name: name}, job); err != nil {
		s.Fatalf("reading job %s: %v", name, err)
	}
	return job
}

// end waits for the end of the job.
func (s *story) end(name string, want v1alpha1.JobState) *v1alpha1.BatchJob {
	s.Helper()
	var job *v1alpha1.BatchJob
	s.eventually(8*time.Minute, "the end of job "+name, func() error {
		if job = s.get(name); job.Status.EndTime == nil {
			return fmt.Errorf("it is %s: %s", job.Status.State, job.Status.Message)
		}
		return nil
	})
	if job.Status.State != want {
		s.Fatalf("job %s ended %s, want %s: %s", name, job.Status.State, want, job.Status.Message)
	}
	return job
}

// task returns the status of a task; the zero value for one that is PENDING.
func task(job *v1alpha1.BatchJob, name string) v1alpha1.TaskStatus {
	for _, t := range job.Status.Tasks {
		if t.Name == name {
			return t
		}
	}
	return v1alpha1.TaskStatus{}
}

// pods returns the Pods of a task, or of all tasks for "", by index and attempt.
func (s *story) pods(taskName string) []corev1.Pod {
	s.Helper()
	var list corev1.PodList
	labels := client.MatchingLabels{}
	if taskName != "" {
		labels[v1alpha1.LabelTaskName] = naming.TaskLabel(taskName)
	}
	if err := kube.List(s.ctx, &list, client.InNamespace(s.namespace), client.HasLabels{v1alpha1.LabelJobID}, labels); err != nil {
		s.Fatalf("listing pods: %v", err)
	}
	slices.SortFunc(list.Items, func(a, b corev1.Pod) int {
		return cmp.Or(label(a, v1alpha1.LabelTaskInstanceIndex)-label(b, v1alpha1.LabelTaskInstanceIndex),
			label(a, v1alpha1.LabelAttempt)-label(b, v1alpha1.LabelAttempt))
	})
	return list.Items
}

func label(pod corev1.Pod, name string) int {
	n, _ := strconv.Atoi(pod.Labels[name])
	return n
}

// ran returns when the Pod's command started and ended.
func (s *story) ran(pod corev1.Pod) (from, to time.Time) {
	s.Helper()
	if len(pod.Status.ContainerStatuses) == 0 || pod.Status.ContainerStatuses[0].State.Terminated == nil {
		s.Fatalf("pod %s has not run: %+v", pod.Name, pod.Status)
	}
	t := pod.Status.ContainerStatuses[0].State.Terminated
	return t.StartedAt.Time, t.FinishedAt.Time
}

// log returns what the Pod printed.
func (s *story) log(pod corev1.Pod) string {
	s.Helper()
	return s.must("logs", pod.Name, "-c", podspec.ContainerName)
}

// event waits for an event with the reason that is about the job.
func (s *story) event(name, reason string) {
	s.Helper()
	s.eventually(30*time.Second, "event "+reason, func() error {
		out := s.must("get", "events", "--field-selector", "involvedObject.name="+name, "-o", "jsonpath={.items[*].reason}")
		if !slices.Contains(strings.Fields(out), reason) {
			return fmt.Errorf("there are %s", out)
		}
		return nil
	})
}

// released fails the story if a Pod keeps the tracking finalizer or label after its job's end.
func (s *story) released() {
	s.Helper()
	s.eventually(30*time.Second, "the finalizers of Pods to be removed", func() error {
		for _, pod := range s.pods("") {
			if slices.Contains(pod.Finalizers, v1alpha1.FinalizerTracking) || pod.Labels[v1alpha1.LabelTracked] != "" {
				return fmt.Errorf("pod %s is still held: finalizers %v", pod.Name, pod.Finalizers)
			}
		}
		return nil
	})
}

// eventually waits until try gives no error.
func (s *story) eventually(limit time.Duration, what string, try func() error) {
	s.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.Fatalf("waited %s for %s: %v", limit, what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
