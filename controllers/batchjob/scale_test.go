// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	testingclock "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/flow"
	"batchcompute.dev/operator/internal/testutil"
	"batchcompute.dev/operator/internal/testutil/controlplane"
	"batchcompute.dev/operator/internal/validation"
)

// The tests of this file run the largest jobs that admission accepts to their end. The job is a real object: every status is
// written to a real API server, and etcd stores it. The Pods are not, since 100,000 of them with four calls each would take a
// quarter of an hour. The test simulates API server and kubelet for them.

// scaleTest is a job, its reconciler, and its Pods.
type scaleTest struct {
	*controlplane.ControlPlane
	*Reconciler
	t   *testing.T
	job *v1alpha1.BatchJob
	// code returns the exit code of an instance.
	code func(task string, index int) int32

	mu      sync.Mutex
	pods    map[string]*corev1.Pod
	created int

	writes, largest, stored int
}

// newScaleTest submits the job, which admission must accept.
func newScaleTest(t *testing.T, job *v1alpha1.BatchJob, code func(task string, index int) int32) *scaleTest {
	t.Helper()
	for _, p := range (validation.Validator{}).ValidateCreate(job) {
		t.Fatalf("admission refuses the job: %s: %s", p.Field, p.Detail)
	}
	s := &scaleTest{ControlPlane: controlplane.Get(t), t: t, job: job, code: code, pods: map[string]*corev1.Pod{}}
	job.Namespace = s.Namespace(t)
	if err := s.Create(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	c := interceptor.NewClient(s.WithWatch, interceptor.Funcs{
		Get:    s.get,
		List:   s.list,
		Create: s.create,
		Delete: s.remove,
		Patch:  s.patch,
	})
	clock := testingclock.NewFakePassiveClock(time.Now().Truncate(time.Second))
	s.Reconciler = NewReconciler(c, podsThrough(c), c, &eventRecorder{}, Options{Catalog: catalog.Default, Validate: validate, Clock: clock})
	return s
}

func podNotFound(name string) error {
	return apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, name)
}

func (s *scaleTest) get(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return c.Get(ctx, key, obj, opts...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	have := s.pods[key.Name]
	if have == nil {
		return podNotFound(key.Name)
	}
	have.DeepCopyInto(pod)
	return nil
}

func (s *scaleTest) list(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
	pods, ok := list.(*corev1.PodList)
	if !ok {
		return c.List(ctx, list, client.InNamespace(s.job.Namespace)) // the API server has no index
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.pods)) {
		pods.Items = append(pods.Items, *s.pods[name])
	}
	return nil
}

// create stores a Pod that has finished.
func (s *scaleTest) create(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return c.Create(ctx, obj, opts...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pods[pod.Name] != nil {
		return apierrors.NewAlreadyExists(schema.GroupResource{Resource: "pods"}, pod.Name)
	}
	s.created++
	now := s.options.Clock.Now()
	pod = pod.DeepCopy()
	pod.UID, pod.CreationTimestamp.Time = types.UID("pod-"+strconv.Itoa(s.created)), now
	index, err := strconv.Atoi(pod.Labels[v1alpha1.LabelTaskInstanceIndex])
	if err != nil {
		return fmt.Errorf("a Pod without an index: %w", err)
	}
	testutil.Bind(pod, "node-1")
	testutil.Start(pod, now)
	testutil.Finish(pod, s.code(pod.Labels[v1alpha1.LabelTaskName], index), now)
	s.pods[pod.Name] = pod
	return nil
}

// patch deletes the Pod whose finalizer the patch removes. It accepts no other patch of a Pod.
func (s *scaleTest) patch(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
	if kindOf(obj) != "pod" {
		return c.Patch(ctx, obj, patch, opts...)
	}
	body, err := patch.Data(obj)
	if err != nil || !strings.Contains(string(body), v1alpha1.FinalizerTracking) {
		return fmt.Errorf("unexpected patch of a Pod: %s (%w)", body, err)
	}
	return s.remove(ctx, c, obj)
}

func (s *scaleTest) remove(_ context.Context, _ client.WithWatch, obj client.Object, _ ...client.DeleteOption) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pods[obj.GetName()] == nil {
		return podNotFound(obj.GetName())
	}
	delete(s.pods, obj.GetName())
	return nil
}

// run does at most most passes until the job has ended, and checks the size of every status.
func (s *scaleTest) run(most int) *v1alpha1.BatchJob {
	s.t.Helper()
	bound := validation.WorstStatusSize(&s.job.Spec)
	key, version := client.ObjectKeyFromObject(s.job), ""
	for range most {
		if _, err := s.Reconcile(s.t.Context(), ctrl.Request{NamespacedName: key}); err != nil {
			s.t.Fatal(err)
		}
		job := &v1alpha1.BatchJob{}
		if err := s.Get(s.t.Context(), key, job); err != nil {
			s.t.Fatal(err)
		}
		if job.ResourceVersion != version {
			version = job.ResourceVersion
			s.measure(job, bound)
		}
		if job.Status.EndTime != nil {
			if len(s.pods) > 0 {
				s.t.Errorf("the job has ended, and %d Pods have the finalizer", len(s.pods))
			}
			s.t.Logf("%d Pods, %d status writes; largest status %d bytes, bound %d; largest object in etcd %d bytes, spec %d, managedFields %d",
				s.created, s.writes, s.largest, bound, s.stored, validation.SpecSize(&job.Spec), sizeOf(s.t, job.ManagedFields))
			return job
		}
		s.options.Clock.(*testingclock.FakePassiveClock).SetTime(s.options.Clock.Now().Add(2 * flow.InformationalInterval))
	}
	s.t.Fatalf("the job has not ended after %d passes: %q", most, s.job.Status.State)
	return nil
}

// measure records the size of a status as JSON. It reads the stored object from etcd only if the status is larger than the
// largest so far by a tenth, or if the job has ended.
func (s *scaleTest) measure(job *v1alpha1.BatchJob, bound int) {
	s.t.Helper()
	s.writes++
	size := sizeOf(s.t, job.Status)
	if size > bound {
		s.t.Fatalf("a status of %d bytes, more than %d", size, bound)
	}
	if size > s.largest*11/10 || job.Status.EndTime != nil {
		s.stored = max(s.stored, len(s.Stored(s.t, "/registry/batchcompute.dev/batchjobs/"+job.Namespace+"/"+job.Name)))
	}
	s.largest = max(s.largest, size)
}

func sizeOf(t *testing.T, v any) int {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return len(text)
}

// TestHundredThousandInstances: every second instance of 100,000 fails, so that no two neighbours share a range. Retries would
// add some 30 bytes to the 600,000 of the status, and take three times as many claims.
func TestHundredThousandInstances(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	const n = v1alpha1.MaxTaskInstances
	s := newScaleTest(t, testutil.Job("j").Task("a", testutil.Instances(n)).New(""), func(_ string, index int) int32 { return int32(index % 2) })
	job := s.run(2 * n / 100)
	if want := (v1alpha1.StateMetrics{SucceedCount: n / 2, FailedCount: n / 2}); job.Status.State != v1alpha1.JobFailed || job.Status.TaskInstanceMetrics != want {
		t.Errorf("the job ended %s with %+v", job.Status.State, job.Status.TaskInstanceMetrics)
	}
	if s.created != n {
		t.Errorf("%d Pods were created", s.created)
	}
	if s.largest > 600<<10 || s.largest < 560<<10 {
		t.Errorf("the largest status has %d bytes", s.largest)
	}
}

// TestFiveThousandTasks: a job has as many tasks and dependences as fit into a spec of 1 MiB. Some of the first tasks fail,
// and their successors cannot start.
func TestFiveThousandTasks(t *testing.T) {
	const n, layer, bad = v1alpha1.MaxTasks, 500, 50
	name := func(i int) string { return fmt.Sprintf("t%04d", i) }
	b := testutil.Job("j")
	for i := range n {
		b.Task(name(i))
	}
	job := b.New("")
	depend := func(from, to int) {
		job.Spec.Job.Dependences = append(job.Spec.Job.Dependences, v1alpha1.Dependence{StartTask: name(from), EndTask: name(to)})
	}
	for i := layer; i < n; i++ {
		depend(i-layer, i)
		depend(i-i%layer-layer+(i+1)%layer, i)
	}
	for i := range 10_000 - len(job.Spec.Job.Dependences) {
		depend(i, n-1-i) // from the first two layers to the last two
	}
	// Comments in the commands fill the rest of the MiB.
	left := validation.MaxSpecSize - validation.SpecSize(&job.Spec)
	if left < 2*n {
		t.Fatalf("there are only %d bytes left", left)
	}
	for i := range job.Spec.Job.Tasks {
		job.Spec.Job.Tasks[i].Application.Command += " #" + strings.Repeat("x", left/n-2)
	}
	s := newScaleTest(t, job, func(task string, _ int) int32 {
		if task < name(bad) {
			return 1
		}
		return 0
	})
	job = s.run(500)
	tasks := job.Status.TaskMetrics
	if job.Status.State != v1alpha1.JobFailed || tasks.SucceedCount+tasks.FailedCount != n || tasks.FailedCount < 500 {
		t.Errorf("the job ended %s with %+v", job.Status.State, tasks)
	}
	if int64(s.created) != tasks.SucceedCount+bad {
		t.Errorf("%d Pods were created for %d tasks that succeeded and %d that failed themselves", s.created, tasks.SucceedCount, bad)
	}
	if got := len(job.Spec.Job.Dependences); got != 10_000 {
		t.Errorf("%d dependences", got)
	}
	if got := validation.SpecSize(&job.Spec); got < validation.MaxSpecSize-n || got > validation.MaxSpecSize {
		t.Errorf("the spec has %d bytes", got)
	}
}
