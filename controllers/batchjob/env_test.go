// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

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

	"github.com/go-logr/logr"

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

// patience bounds every wait for a cache.
const patience = 2 * time.Minute

// env is one test's namespace, the cache over it, and a clock that stands still.
type env struct {
	*controlplane.ControlPlane
	t     testing.TB
	ns    string
	cache cache.Cache
	clock *testingclock.FakePassiveClock
	// resourceWait is how long processes wait for a first machine; 0 means the default.
	resourceWait time.Duration
	// nodes are the cluster's nodes for the processes; nil: they are not known.
	nodes *nodes.Index
	// script gives an attempt's exit code; nil means 0.
	script func(task string, index, attempt int) int32
}

func newEnv(t testing.TB) *env {
	t.Helper()
	p := controlplane.Get(t)
	e := &env{ControlPlane: p, t: t, ns: p.Namespace(t), clock: testingclock.NewFakePassiveClock(time.Now().Truncate(time.Second))}
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

// process is one controller: a reconciler with a memory of its own, and a line to the API
// server on which every call is counted and can be made to fail.
type process struct {
	*Reconciler
	e *env
	*line
}

// line is what stands between a process and the API server.
type line struct {
	mu sync.Mutex
	// calls counts the writes by verb and kind, and log has them in order.
	calls map[string]int
	log   []string
	// fault is asked before every write, with its number from 1 and its name, and says
	// what becomes of it; nil means that all is well.
	fault func(n int, call string) fate
	// always says that fault goes on when the process has died.
	always bool
	// refusal is asked likewise and returns the API server's refusal; nil means none.
	refusal func(n int, call, name string) error
	dead    bool
	// cached is where reads come from.
	cached client.Reader
}

// fate is what becomes of a write.
type fate int

const (
	done   fate = iota
	before      // the process dies before the write is done
	after       // the process dies after the write is done
	lost        // the write is done, and its answer is lost
	failed      // the write is not done, and the process is told so
)

var (
	errDead    = errors.New("the process is dead")
	errLost    = errors.New("the answer was lost")
	errRefused = errors.New("refused") // beside what the API server would have said
)

// news collects events.
type news struct {
	mu   sync.Mutex
	told []string
}

func (e *news) Eventf(_, _ runtime.Object, kind, reason, _, note string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.told = append(e.told, fmt.Sprintf("%s %s: %s", kind, reason, fmt.Sprintf(note, args...)))
}

// start begins a process. It reads through the cache, or through reader if one is given.
func (e *env) start(l *line) *process {
	e.t.Helper()
	if l == nil {
		l = &line{}
	}
	if l.cached == nil {
		l.cached = e.cache
	}
	l.calls, l.log, l.dead = map[string]int{}, nil, false
	c := interceptor.NewClient(e.WithWatch, l.funcs(false))
	live := interceptor.NewClient(e.WithWatch, l.funcs(true))
	r := NewReconciler(c, podsThrough(c), live, &news{}, Options{Catalog: catalog.Default, Validate: validate, Clock: e.clock, ResourceWait: e.resourceWait, Nodes: e.nodes, PodKey: testKey})
	return &process{Reconciler: r, e: e, line: l}
}

// testKey is the key with which the processes of tests sign their Pods.
func testKey(context.Context) (*proof.Key, error) {
	return proof.New([]byte("a key that no tenant has, in tests"))
}

// podsThrough reads the Pods of a job through a client that has the index.
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

// write does one write, as far as fate allows.
func (l *line) write(call, name string, do func() error) error {
	l.mu.Lock()
	if l.dead {
		l.mu.Unlock()
		return errDead
	}
	l.calls[call]++
	l.log = append(l.log, call+" "+name)
	f := done
	if l.fault != nil {
		f = l.fault(len(l.log), call)
	}
	l.dead = f == before || f == after
	var refusal error
	if l.refusal != nil {
		refusal = l.refusal(len(l.log), call, name)
	}
	l.mu.Unlock()
	if refusal != nil {
		return fmt.Errorf("%w: %w", errRefused, refusal)
	}
	switch f {
	case before:
		return errDead
	case failed:
		return errLost
	}
	err := do()
	if f == after || f == lost {
		return errLost
	}
	return err
}

func (l *line) read(do func() error) error {
	l.mu.Lock()
	dead := l.dead
	l.mu.Unlock()
	if dead {
		return errDead
	}
	return do()
}

func (l *line) funcs(live bool) interceptor.Funcs {
	return interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			return l.read(func() error {
				if live {
					return c.Get(ctx, key, obj, opts...)
				}
				return l.cached.Get(ctx, key, obj, opts...)
			})
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			return l.read(func() error {
				if live {
					return c.List(ctx, list, opts...)
				}
				return l.cached.List(ctx, list, opts...)
			})
		},
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			return l.write("create "+kindOf(obj), obj.GetName(), func() error { return c.Create(ctx, obj, opts...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.DeleteOption) error {
			return l.write("delete "+kindOf(obj), obj.GetName(), func() error { return c.Delete(ctx, obj, opts...) })
		},
		Update: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.UpdateOption) error {
			return l.write("update "+kindOf(obj), obj.GetName(), func() error { return c.Update(ctx, obj, opts...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
			return l.write("patch "+kindOf(obj), obj.GetName(), func() error { return c.Patch(ctx, obj, patch, opts...) })
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
			return l.write("patch "+sub, obj.GetName(), func() error { return c.SubResource(sub).Patch(ctx, obj, patch, opts...) })
		},
	}
}

// kindOf names the kind of what is written.
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

// sum is the number of writes so far.
func (l *line) sum() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.log)
}

// submit creates a job and waits until the cache shows it.
func (e *env) submit(b *testutil.JobBuilder) *v1alpha1.BatchJob {
	e.t.Helper()
	job := b.New(e.ns)
	if err := e.Create(context.Background(), job); err != nil {
		e.t.Fatal(err)
	}
	e.sync()
	return job
}

// job is the job as the API server has it.
func (e *env) job(name string) *v1alpha1.BatchJob {
	e.t.Helper()
	job := &v1alpha1.BatchJob{}
	if err := e.Get(context.Background(), client.ObjectKey{Namespace: e.ns, Name: name}, job); err != nil {
		e.t.Fatal(err)
	}
	return job
}

// sync waits until the cache shows what the API server has.
func (e *env) sync() {
	e.t.Helper()
	// The API server is asked again now and then only: others may write meanwhile.
	want, looks := "", 0
	e.eventually("the cache shows what the API server has", func() bool {
		if looks%20 == 0 {
			want = e.versions(e.ControlPlane)
		}
		looks++
		return e.versions(e.cache) == want
	})
}

func (e *env) versions(from client.Reader) string {
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

func (e *env) eventually(what string, ok func() bool) {
	e.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			e.t.Fatalf("after %s it is still not so: %s", patience, what)
		}
	}
}

// pass is one call of Reconcile with a cache that is up to date.
func (p *process) pass(name string) (ctrl.Result, error) {
	p.e.t.Helper()
	p.e.sync()
	return p.Reconcile(context.Background(), p.request(name))
}

func (p *process) request(name string) ctrl.Request {
	return ctrl.Request{NamespacedName: client.ObjectKey{Namespace: p.e.ns, Name: name}}
}

// must is a pass that must not fail.
func (p *process) must(name string) ctrl.Result {
	p.e.t.Helper()
	res, err := p.pass(name)
	if err != nil {
		p.e.t.Fatal(err)
	}
	return res
}

// tick lets a few seconds pass: more than the news wait for.
func (e *env) tick() { e.clock.SetTime(e.clock.Now().Add(3 * time.Second)) }

// work runs every Pod that is there to its end, as the script says, and leaves out that
// it has a node: that is two calls a Pod.
func (e *env) work() {
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

// pod is the Pod of an attempt, as in "a/0" or "a/0/1".
func (e *env) pod(attempt string) *corev1.Pod {
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

// play runs the job to its end: passes of the process, and rounds of work between them.
func (p *process) play(name string) {
	p.e.t.Helper()
	for range 60 {
		if _, err := p.pass(name); err != nil && !p.dead && !errors.Is(err, errLost) && !errors.Is(err, errRefused) {
			p.e.t.Fatal(err)
		}
		if p.dead {
			again := p.e.start(&line{cached: p.cached})
			again.line.calls = p.calls
			p.Reconciler, p.line = again.Reconciler, again.line
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

// tracked are the Pods that have the finalizer or the label of tracking.
func (e *env) tracked() []string {
	e.t.Helper()
	var out []string
	for _, pod := range e.Pods(e.t, e.ns) {
		if pod.Labels[v1alpha1.LabelTracked] != "" || slices.Contains(pod.Finalizers, v1alpha1.FinalizerTracking) {
			out = append(out, pod.Name)
		}
	}
	return out
}

// brief is what became of a job: its state, a line for each task, and every failure.
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

// want compares a job with its short form.
func (e *env) want(name string, want ...string) {
	e.t.Helper()
	if got := brief(e.job(name)); !slices.Equal(got, want) {
		e.t.Errorf("the job is\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}
