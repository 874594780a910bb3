// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	testingclock "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/lookup"
	"batchcompute.dev/operator/internal/nodes"
	"batchcompute.dev/operator/internal/proof"
	"batchcompute.dev/operator/internal/testutil"
	"batchcompute.dev/operator/internal/testutil/controlplane"
	"batchcompute.dev/operator/internal/validation"
)

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard())
	os.Exit(controlplane.Main(m))
}

// eventuallyTimeout bounds every wait for a cache.
const eventuallyTimeout = 2 * time.Minute

// testEnv has the namespace of one test, a cache of that namespace, and a clock that only the test moves.
type testEnv struct {
	*controlplane.ControlPlane
	t     testing.TB
	ns    string
	cache cache.Cache
	clock *testingclock.FakePassiveClock
	// resourceWait is the acquisition timeout of a first machine; 0 means the default.
	resourceWait time.Duration
	// nodes is the index of the cluster's nodes that the processes get; nil means that they get none.
	nodes *nodes.Index
	// script returns the exit code of an attempt; nil means 0.
	script func(task string, index, attempt int) int32
}

func newTestEnv(t testing.TB) *testEnv {
	t.Helper()
	p := controlplane.Get(t)
	e := &testEnv{ControlPlane: p, t: t, ns: p.Namespace(t), clock: testingclock.NewFakePassiveClock(time.Now().Truncate(time.Second))}
	var err error
	e.cache, err = cache.New(p.Config, cache.Options{Scheme: p.Scheme, Mapper: p.RESTMapper(), DefaultNamespaces: map[string]cache.Config{e.ns: {}}, ByObject: CacheOptions()})
	if err == nil {
		err = errors.Join(lookup.AddIndexes(t.Context(), e.cache), e.cache.IndexField(t.Context(), &corev1.Pod{}, podsByJob, indexPod))
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, obj := range []client.Object{&v1alpha1.BatchJob{}, &corev1.Pod{}, &v1alpha1.ComputeEnv{}} {
		if _, err := e.cache.GetInformer(t.Context(), obj, cache.BlockUntilSynced(false)); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		if err := e.cache.Start(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	if !e.cache.WaitForCacheSync(t.Context()) {
		t.Fatal("the cache does not sync")
	}
	return e
}

// process is one controller: a reconciler, with what it remembers, and a client that counts its calls to
// the API server and can fail them.
type process struct {
	*Reconciler
	e *testEnv
	*faultClient
}

// faultClient passes the calls of a process on to the API server, counts them, and injects faults.
type faultClient struct {
	mu sync.Mutex
	// calls counts the writes by verb and kind, and log lists them in order.
	calls map[string]int
	log   []string
	// fault is called before every write, with its number from 1 and its name, and returns the fault to
	// inject; nil means that there is none.
	fault func(n int, call string) fault
	// always says that revive keeps fault for the next process.
	always bool
	// refusal is called likewise, and returns the API server's refusal; nil means that there is none.
	refusal func(n int, call, name string) error
	dead    bool
	// cached serves the reads.
	cached client.Reader
}

// fault is what goes wrong with a write.
type fault int

const (
	noFault    fault = iota // the write is done
	diesBefore              // the process dies before the write is done
	diesAfter               // the process dies after the write is done
	answerLost              // the write is done, and its answer is lost
	callFails               // the write is not done, and the process gets an error
)

var (
	errDead    = errors.New("the process is dead")
	errLost    = errors.New("the answer was lost")
	errRefused = errors.New("refused") // wrapped together with the refusal
)

// eventRecorder collects Events.
type eventRecorder struct {
	mu     sync.Mutex
	events []string
}

func (e *eventRecorder) Eventf(_, _ runtime.Object, kind, reason, _, note string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.events = append(e.events, fmt.Sprintf("%s %s: %s", kind, reason, fmt.Sprintf(note, args...)))
}

// start starts a process, which calls the API server through fc. It reads from fc.cached, or from the cache
// of the test if that is nil.
func (e *testEnv) start(fc *faultClient) *process {
	e.t.Helper()
	if fc == nil {
		fc = &faultClient{}
	}
	if fc.cached == nil {
		fc.cached = e.cache
	}
	fc.calls, fc.log, fc.dead = map[string]int{}, nil, false
	c := interceptor.NewClient(e.WithWatch, fc.funcs(false))
	live := interceptor.NewClient(e.WithWatch, fc.funcs(true))
	r := NewReconciler(c, podsThrough(c), live, &eventRecorder{}, Options{Catalog: catalog.Default, Validate: validate, Clock: e.clock, ResourceWait: e.resourceWait, Nodes: e.nodes, PodKey: testKey})
	return &process{Reconciler: r, e: e, faultClient: fc}
}

// testKey is the key with which the processes of tests sign their Pods.
func testKey(context.Context) (*proof.Key, error) {
	return proof.New([]byte("a key that no tenant has, in tests"))
}

// podsThrough returns a reader of the Pods of a job that uses a client which has the index.
func podsThrough(c client.Reader) podReader {
	return func(ctx context.Context, job types.NamespacedName) ([]*corev1.Pod, error) {
		var list corev1.PodList
		err := c.List(ctx, &list, client.InNamespace(job.Namespace), client.MatchingFields{podsByJob: job.String()})
		pods := make([]*corev1.Pod, len(list.Items))
		for i := range list.Items {
			pods[i] = &list.Items[i]
		}
		return pods, err
	}
}

func validate(job *v1alpha1.BatchJob) (code, message string) {
	for _, p := range (validation.Validator{}).ValidateCreate(job) {
		return string(p.Code), p.Field.String() + ": " + p.Detail
	}
	return "", ""
}

// write does one write, and injects its fault.
func (fc *faultClient) write(call, name string, do func() error) error {
	fc.mu.Lock()
	if fc.dead {
		fc.mu.Unlock()
		return errDead
	}
	fc.calls[call]++
	fc.log = append(fc.log, call+" "+name)
	f := noFault
	if fc.fault != nil {
		f = fc.fault(len(fc.log), call)
	}
	fc.dead = f == diesBefore || f == diesAfter
	var refusal error
	if fc.refusal != nil {
		refusal = fc.refusal(len(fc.log), call, name)
	}
	fc.mu.Unlock()
	if refusal != nil {
		return fmt.Errorf("%w: %w", errRefused, refusal)
	}
	switch f {
	case diesBefore:
		return errDead
	case callFails:
		return errLost
	}
	err := do()
	if f == diesAfter || f == answerLost {
		return errLost
	}
	return err
}

func (fc *faultClient) read(do func() error) error {
	fc.mu.Lock()
	dead := fc.dead
	fc.mu.Unlock()
	if dead {
		return errDead
	}
	return do()
}

func (fc *faultClient) funcs(live bool) interceptor.Funcs {
	return interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			return fc.read(func() error {
				if live {
					return c.Get(ctx, key, obj, opts...)
				}
				return fc.cached.Get(ctx, key, obj, opts...)
			})
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			return fc.read(func() error {
				if live {
					return c.List(ctx, list, opts...)
				}
				return fc.cached.List(ctx, list, opts...)
			})
		},
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			return fc.write("create "+kindOf(obj), obj.GetName(), func() error { return c.Create(ctx, obj, opts...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.DeleteOption) error {
			return fc.write("delete "+kindOf(obj), obj.GetName(), func() error { return c.Delete(ctx, obj, opts...) })
		},
		Update: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.UpdateOption) error {
			return fc.write("update "+kindOf(obj), obj.GetName(), func() error { return c.Update(ctx, obj, opts...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
			return fc.write("patch "+kindOf(obj), obj.GetName(), func() error { return c.Patch(ctx, obj, patch, opts...) })
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
			return fc.write("patch "+sub, obj.GetName(), func() error { return c.SubResource(sub).Patch(ctx, obj, patch, opts...) })
		},
	}
}

// kindOf returns the kind of an object that is written.
func kindOf(obj client.Object) string {
	if o, ok := obj.(*metav1.PartialObjectMetadata); ok {
		return strings.ToLower(o.Kind)
	}
	switch obj.(type) {
	case *corev1.Pod:
		return "pod"
	case *v1alpha1.BatchJob:
		return "job"
	case *corev1.ConfigMap:
		return "tombstones"
	}
	return fmt.Sprintf("%T", obj)
}

// sum returns the number of writes so far.
func (fc *faultClient) sum() int {
	fc.mu.Lock()
	defer fc.mu.Unlock()
	return len(fc.log)
}

// submit creates a job and waits until the cache shows it.
func (e *testEnv) submit(b *testutil.JobBuilder) *v1alpha1.BatchJob {
	e.t.Helper()
	job := b.New(e.ns)
	if err := e.Create(context.Background(), job); err != nil {
		e.t.Fatal(err)
	}
	e.sync()
	return job
}

// job returns the job as the API server has it.
func (e *testEnv) job(name string) *v1alpha1.BatchJob {
	e.t.Helper()
	job := &v1alpha1.BatchJob{}
	if err := e.Get(context.Background(), client.ObjectKey{Namespace: e.ns, Name: name}, job); err != nil {
		e.t.Fatal(err)
	}
	return job
}

// sync waits until the cache has what the API server has.
func (e *testEnv) sync() {
	e.t.Helper()
	// Others may write at the same time, so the API server is asked again from time to time.
	want, looks := "", 0
	e.eventually("the cache has what the API server has", func() bool {
		if looks%20 == 0 {
			want = e.versions(e.ControlPlane)
		}
		looks++
		return e.versions(e.cache) == want
	})
}

func (e *testEnv) versions(from client.Reader) string {
	e.t.Helper()
	var jobs v1alpha1.BatchJobList
	var pods corev1.PodList
	if err := errors.Join(from.List(context.Background(), &jobs, client.InNamespace(e.ns)),
		from.List(context.Background(), &pods, client.InNamespace(e.ns), client.MatchingLabels{v1alpha1.LabelTracked: "true"})); err != nil {
		e.t.Fatal(err)
	}
	var out []string
	for _, job := range jobs.Items {
		out = append(out, job.Name+"@"+job.ResourceVersion)
	}
	for _, pod := range pods.Items {
		out = append(out, pod.Name+"@"+pod.ResourceVersion)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (e *testEnv) eventually(what string, ok func() bool) {
	e.t.Helper()
	for end := time.Now().Add(eventuallyTimeout); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			e.t.Fatalf("timed out after %s: %s", eventuallyTimeout, what)
		}
	}
}

// pass calls Reconcile once, with a cache that is up to date.
func (p *process) pass(name string) (ctrl.Result, error) {
	p.e.t.Helper()
	p.e.sync()
	return p.Reconcile(context.Background(), p.request(name))
}

func (p *process) request(name string) ctrl.Request {
	return ctrl.Request{NamespacedName: client.ObjectKey{Namespace: p.e.ns, Name: name}}
}

// must is pass for a pass that must not fail.
func (p *process) must(name string) ctrl.Result {
	p.e.t.Helper()
	res, err := p.pass(name)
	if err != nil {
		p.e.t.Fatal(err)
	}
	return res
}

// tick moves the clock by a few seconds: more than informational status updates are delayed.
func (e *testEnv) tick() { e.clock.SetTime(e.clock.Now().Add(3 * time.Second)) }

// work runs every Pod to its end, as the script says. It does not bind Pods to nodes, which would take two
// more calls for each.
func (e *testEnv) work() {
	e.t.Helper()
	for _, pod := range e.Pods(e.t, e.ns) {
		if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		code := int32(0)
		if e.script != nil {
			index, _ := strconv.Atoi(pod.Labels[v1alpha1.LabelTaskInstanceIndex])
			attempt, _ := strconv.Atoi(pod.Labels[v1alpha1.LabelAttempt])
			code = e.script(pod.Labels[v1alpha1.LabelTaskName], index, attempt)
		}
		e.Report(e.t, &pod, func(pod *corev1.Pod) {
			testutil.Start(pod, e.clock.Now())
			testutil.Finish(pod, code, e.clock.Now())
		})
	}
}

// pod returns the Pod of an attempt: "a/0" is attempt 0 of instance 0 of task a, and "a/0/1" is attempt 1.
func (e *testEnv) pod(attempt string) *corev1.Pod {
	e.t.Helper()
	parts := append(strings.Split(attempt, "/"), "0")
	for _, pod := range e.Pods(e.t, e.ns) {
		l := pod.Labels
		if l[v1alpha1.LabelTaskName] == parts[0] && l[v1alpha1.LabelTaskInstanceIndex] == parts[1] && l[v1alpha1.LabelAttempt] == parts[2] {
			return &pod
		}
	}
	e.t.Fatalf("there is no Pod of %s", attempt)
	return nil
}

// play runs the job to its end: it calls pass and work in turn.
func (p *process) play(name string) {
	p.e.t.Helper()
	for range 60 {
		if _, err := p.pass(name); err != nil && !p.dead && !errors.Is(err, errLost) && !errors.Is(err, errRefused) {
			p.e.t.Fatal(err)
		}
		if p.dead {
			again := p.e.start(&faultClient{cached: p.cached})
			again.faultClient.calls = p.calls
			p.Reconciler, p.faultClient = again.Reconciler, again.faultClient
			continue
		}
		if job := p.e.job(name); job.Status.EndTime != nil && len(p.e.tracked()) == 0 {
			return
		}
		p.e.work()
		p.e.tick()
	}
	p.e.t.Fatalf("the job does not end: %q", brief(p.e.job(name)))
}

// tracked returns the names of the Pods that have the tracking finalizer or label.
func (e *testEnv) tracked() []string {
	e.t.Helper()
	var out []string
	for _, pod := range e.Pods(e.t, e.ns) {
		if pod.Labels[v1alpha1.LabelTracked] != "" || slices.Contains(pod.Finalizers, v1alpha1.FinalizerTracking) {
			out = append(out, pod.Name)
		}
	}
	return out
}

// brief returns the short form of a job's status: its state, a line for each task, and a line for each failure.
func brief(job *v1alpha1.BatchJob) []string {
	s := &job.Status
	out := []string{fmt.Sprintf("%s %s %s", s.State, s.TaskProgress, s.TaskInstanceProgress)}
	if s.Run > 0 {
		out[0] += fmt.Sprintf(" run=%d", s.Run)
	}
	if s.Reason == v1alpha1.ReasonAlreadyRan {
		out[0] += " reason=" + s.Reason
	}
	for _, t := range s.Tasks {
		line := fmt.Sprintf("%s %s", t.Name, t.State)
		for _, part := range []struct{ name, value string }{
			{"succeeded", t.Succeeded}, {"failed", t.Failed}, {"active", t.Active}, {"retrying", t.Retrying}, {"interrupted", t.Interrupted}, {"reason", t.Reason},
		} {
			if part.value != "" {
				line += " " + part.name + "=" + part.value
			}
		}
		out = append(out, line)
	}
	for _, f := range s.Failures {
		line := fmt.Sprintf("failure %s/%d/%d %s", f.TaskName, f.TaskInstanceIndex, f.Attempt, f.Reason)
		if f.ExitCode != nil {
			line += fmt.Sprintf(" %d", *f.ExitCode)
		}
		out = append(out, line)
	}
	return out
}

// want compares the short form of a job with the lines that are wanted.
func (e *testEnv) want(name string, want ...string) {
	e.t.Helper()
	if got := brief(e.job(name)); !slices.Equal(got, want) {
		e.t.Errorf("the job is\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func keys(m map[string]int) iter.Seq[string] { return maps.Keys(m) }

// clear removes every job, Pod and ConfigMap of the namespace.
func (e *testEnv) clear() {
	e.t.Helper()
	for _, pod := range e.Pods(e.t, e.ns) {
		if len(pod.Finalizers) == 0 {
			continue
		}
		body := []byte(`{"metadata":{"finalizers":null}}`)
		if err := e.Patch(context.Background(), &pod, client.RawPatch("application/merge-patch+json", body)); err != nil {
			e.t.Fatal(err)
		}
	}
	if err := e.DeleteAllOf(context.Background(), &v1alpha1.BatchJob{}, client.InNamespace(e.ns)); err != nil {
		e.t.Fatal(err)
	}
	if err := e.DeleteAllOf(context.Background(), &corev1.Pod{}, client.InNamespace(e.ns), client.GracePeriodSeconds(0)); err != nil {
		e.t.Fatal(err)
	}
	if err := e.DeleteAllOf(context.Background(), &corev1.ConfigMap{}, client.InNamespace(e.ns)); err != nil {
		e.t.Fatal(err)
	}
	e.sync()
}
