// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/nodes"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/testutil"
)

// cluster is an API server that holds one job and its Pods. What it holds is replaced,
// never changed in place, so that a copy of its fields is what it was at that time.
type cluster struct {
	spec *resolve.Job
	made *v1alpha1.BatchJob // as it was submitted
	job  *v1alpha1.BatchJob // as it is stored; nil once it is gone
	pods map[string]*corev1.Pod
	now  time.Time
	uids int
	envs map[string]EnvView // the ComputeEnvs that tasks name
	// nodes are those that are known; nil means that they are not.
	nodes *nodes.Index
}

var errConflict = errors.New("conflict")

func newCluster(job *v1alpha1.BatchJob) (*cluster, error) {
	spec, err := resolve.Resolve(job)
	return &cluster{spec: spec, made: job, job: job, pods: map[string]*corev1.Pod{}, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, err
}

// store is a status write under optimistic lock.
func (c *cluster) store(version string, status *v1alpha1.BatchJobStatus) error {
	if c.job == nil || c.job.ResourceVersion != version {
		return errConflict
	}
	c.changeJob(func(job *v1alpha1.BatchJob) { job.Status = *status.DeepCopy() })
	return nil
}

func (c *cluster) changeJob(change func(*v1alpha1.BatchJob)) {
	c.job = c.job.DeepCopy()
	change(c.job)
	n, _ := strconv.Atoi(c.job.ResourceVersion)
	c.job.ResourceVersion = strconv.Itoa(n + 1)
}

// create makes the Pod of an instance, or repairs the labels of the one that is there. It
// reports whether it made one.
func (c *cluster) create(in resolve.Instance) bool {
	t := &c.spec.Tasks[in.Task]
	has := podspec.Cluster{Catalog: machines}
	if c.nodes != nil {
		has.Hosts = c.nodes.Hosts
	}
	want, err := podspec.Build(c.made, c.spec, in, cmp.Or(t.Env, c.envs[t.EnvID].Env), has)
	if err != nil {
		panic(err)
	}
	if _, ok := c.pods[want.Name]; ok {
		c.change(want.Name, func(pod *corev1.Pod) {
			pod.Labels = want.Labels
			if pod.DeletionTimestamp == nil {
				pod.Finalizers = want.Finalizers
			}
		})
		return false
	}
	c.uids++
	want.UID = types.UID("pod-" + strconv.Itoa(c.uids))
	want.Status.Phase = corev1.PodPending
	want.CreationTimestamp.Time = c.now.Truncate(time.Second)
	c.pods[want.Name] = want
	return true
}

// change replaces a Pod by a changed copy. One that is being deleted goes when no node
// has it any more and no finalizer holds it.
func (c *cluster) change(name string, change func(*corev1.Pod)) {
	pod := c.pods[name].DeepCopy()
	change(pod)
	c.pods[name] = pod
	if pod.DeletionTimestamp != nil && len(pod.Finalizers) == 0 && HasFinished(pod) {
		delete(c.pods, name)
	}
}

// askToStop is a deletion, if the Pod is still the one that is meant.
func (c *cluster) askToStop(pod *corev1.Pod) {
	if now := c.pods[pod.Name]; now != nil && now.UID == pod.UID {
		c.change(pod.Name, func(pod *corev1.Pod) { testutil.AskToStop(pod, c.now) })
	}
}

// release takes label and finalizer off, if the Pod is still the one that is meant.
func (c *cluster) release(pod *corev1.Pod) {
	if now := c.pods[pod.Name]; now != nil && now.UID == pod.UID {
		c.change(pod.Name, func(pod *corev1.Pod) {
			delete(pod.Labels, v1alpha1.LabelTracked)
			pod.Finalizers = nil
		})
	}
}

// tracked are the Pods that a cache shows, by name.
func (c *cluster) tracked() []*corev1.Pod {
	var out []*corev1.Pod
	for _, pod := range c.pods {
		if pod.Labels[v1alpha1.LabelTracked] != "" {
			out = append(out, pod)
		}
	}
	slices.SortFunc(out, func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// world is a cluster with a controller that makes no mistakes and is never late.
type world struct {
	*cluster
	t    *testing.T
	last Plan
	// emitted are the events so far.
	emitted []string
	// refusals, taken, noMemory and live are handed to Compute.
	refusals map[int]Refusal
	taken    map[string]NameConflict
	noMemory string
	// scheduled is when the scheduler looked at a Pod last.
	scheduled time.Time
	live      bool
	delivery  *Delivery
}

func newWorld(t *testing.T, job *testutil.JobBuilder) *world {
	t.Helper()
	c, err := newCluster(job.Obj())
	if err != nil {
		t.Fatal(err)
	}
	return &world{cluster: c, t: t}
}

func (w *world) observation() Observation {
	obs := Observation{Job: w.job, Spec: w.spec, Pods: w.tracked(), Refusals: w.refusals, Envs: w.envs, Live: w.live, NameConflicts: w.taken, NoMemory: w.noMemory, Delivery: w.delivery}
	l := LookupsOf(obs.Spec, obs.Envs, obs.Pods)
	for _, name := range l.Schedulers {
		if obs.Scheduled == nil {
			obs.Scheduled = map[string]time.Time{}
		}
		obs.Scheduled[name] = w.scheduled
	}
	if w.nodes != nil {
		obs.Nodes = &Nodes{Zones: w.nodes.Zones(), Hosts: map[string][]string{}}
		for _, address := range l.Addresses {
			obs.Nodes.Hosts[address] = w.nodes.Hosts([]string{address})
		}
	}
	return obs
}

// compute plans without carrying the plan out.
func (w *world) compute() Plan {
	w.t.Helper()
	return w.must(w.observation())
}

func (w *world) must(obs Observation) Plan {
	w.t.Helper()
	p, err := wantSame(w.t, obs, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// step plans once and carries the plan out.
func (w *world) step() *world {
	w.t.Helper()
	p := w.compute()
	if p.NeedLive {
		obs := w.observation()
		obs.Live = true
		p = w.must(obs)
	}
	if len(p.Verify) > 0 {
		obs := w.observation()
		obs.Absent = map[string]bool{}
		for _, in := range p.Verify {
			name := w.spec.PodName(in)
			if w.pods[name] != nil {
				w.create(in)
			} else if !w.taken[name].MayRun {
				obs.Absent[name] = true
			}
		}
		p = w.must(obs)
	}
	w.last = p
	if p.Changed(&w.job.Status) {
		if err := w.store(w.job.ResourceVersion, &p.Status); err != nil {
			w.t.Fatal(err)
		}
		for _, n := range p.Events {
			w.emitted = append(w.emitted, n.Reason+": "+n.Message)
		}
	}
	for _, in := range slices.Concat(p.Create, p.Adopt) {
		_, refused := w.refusals[in.Task]
		if _, taken := w.taken[w.spec.PodName(in)]; !refused && !taken {
			w.create(in)
		}
	}
	for _, pod := range p.Delete {
		w.askToStop(pod)
	}
	for _, pod := range p.RemoveFinalizers {
		w.release(pod)
	}
	return w
}

// pod returns the name of the Pod of an attempt, as in "count/3", "count/3/r1" or, of
// another run of the job, "count/3/x1".
func (w *world) pod(text string) string {
	w.t.Helper()
	in := w.instance(text)
	name := w.spec.PodName(in)
	if w.pods[name] == nil {
		w.t.Fatalf("there is no Pod of %s", text)
	}
	return name
}

func (w *world) instance(text string) resolve.Instance {
	w.t.Helper()
	parts := strings.Split(text, "/")
	in := resolve.Instance{Task: w.spec.TaskByLabel(parts[0])}
	in.Index, _ = strconv.Atoi(parts[1])
	for _, p := range parts[2:] {
		n, _ := strconv.Atoi(p[1:])
		if p[0] == 'x' {
			in.Run = n
		} else {
			in.Attempt = n
		}
	}
	return in
}

// do changes the Pods of some attempts.
func (w *world) do(attempts string, change func(*corev1.Pod)) *world {
	w.t.Helper()
	for _, a := range strings.Fields(attempts) {
		w.change(w.pod(a), change)
	}
	return w
}

func (w *world) bind(attempts string) *world {
	w.t.Helper()
	return w.do(attempts, func(pod *corev1.Pod) { testutil.Bind(pod, "node-1") })
}

func (w *world) start(attempts string) *world {
	w.t.Helper()
	return w.bind(attempts).do(attempts, func(pod *corev1.Pod) { testutil.Start(pod, w.now) })
}

// finish ends the command of some attempts; one that does not run yet is started first.
func (w *world) finish(attempts string, code int32) *world {
	w.t.Helper()
	return w.do(attempts, func(pod *corev1.Pod) {
		if pod.Spec.NodeName == "" {
			testutil.Bind(pod, "node-1")
			testutil.Start(pod, w.now)
		}
		testutil.Finish(pod, code, w.now)
	})
}

func (w *world) stop(attempts string) *world {
	w.t.Helper()
	return w.do(attempts, func(pod *corev1.Pod) { testutil.AskToStop(pod, w.now) })
}

// vanish removes Pods though a finalizer holds them.
func (w *world) vanish(attempts string) *world {
	w.t.Helper()
	for _, a := range strings.Fields(attempts) {
		delete(w.pods, w.pod(a))
	}
	return w
}

func (w *world) wait(d time.Duration) *world {
	w.now = w.now.Add(d)
	return w
}

// finishAll ends everything that there is, with 0, until nothing changes any more.
func (w *world) finishAll() *world {
	w.t.Helper()
	for range 1000 {
		before := w.job.ResourceVersion
		w.step()
		for _, pod := range w.tracked() {
			w.change(pod.Name, func(pod *corev1.Pod) {
				if !HasFinished(pod) {
					testutil.Bind(pod, "node-1")
					testutil.Finish(pod, 0, w.now)
				}
			})
		}
		if w.job.ResourceVersion == before && len(w.tracked()) == 0 {
			return w
		}
	}
	w.t.Fatal("the job does not come to an end")
	return w
}

// want compares the stored status, and the Pods that are tracked, with the short form.
func (w *world) want(want ...string) *world {
	w.t.Helper()
	if got := brief(&w.job.Status); !slices.Equal(got, want) {
		w.t.Errorf("status is\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
	return w
}

// brief is a status without what follows from the rest: the job's state, and a line for
// each task: "count RUNNING succeeded=0-1 failed=2 active=3;r1:4 retrying=r1:5 starting=1 running=1 (Reason)".
func brief(s *v1alpha1.BatchJobStatus) []string {
	out := []string{string(s.State)}
	for _, t := range s.Tasks {
		line := fmt.Sprintf("%s %s", t.Name, t.State)
		for _, part := range []struct{ name, value string }{
			{"succeeded", t.Succeeded}, {"failed", t.Failed}, {"active", t.Active}, {"retrying", t.Retrying}, {"interrupted", t.Interrupted},
			{"starting", briefCount(t.Starting)}, {"running", briefCount(t.Running)},
		} {
			if part.value != "" {
				line += " " + part.name + "=" + part.value
			}
		}
		if t.Reason != "" {
			line += " (" + t.Reason + ")"
		}
		out = append(out, line)
	}
	return out
}

func briefCount(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// names are the Pods' names, sorted.
func names(pods map[string]*corev1.Pod) []string { return slices.Sorted(maps.Keys(pods)) }
