// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/fairrate"
	"batchcompute.dev/operator/internal/flow"
	"batchcompute.dev/operator/internal/membudget"
	"batchcompute.dev/operator/internal/metrics"
	"batchcompute.dev/operator/internal/nodepool"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/proof"
)

// Reconciler brings a BatchJob from one stored status to the next.
type Reconciler struct {
	client   client.Client
	pods     podReader
	live     client.Reader
	recorder events.EventRecorder
	options  Options

	limits   *flow.Calls
	writes   flow.StatusWrites
	debounce flow.Debouncer
	pool     *nodepool.Pool
	// loads bounds the large jobs that passes have in memory, and started those that stay there.
	loads   *membudget.Gate
	started *membudget.Shares

	tokens tokens
	quotas quotas
	// schedulers are those that were seen at work.
	schedulers schedulers
	key        atomic.Pointer[proof.Key]
	tombs      sync.Mutex // one writer at a time saves conflicts

	// nodesVersion counts the changes of nodes.
	nodesVersion atomic.Int64

	mu       sync.Mutex
	queue    queue
	memories map[types.NamespacedName]*memory
}

// Reconcile does one pass over one job, in the order that package plan demands: store
// the status, then stop and create Pods, and let go of those that are recorded.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (result ctrl.Result, err error) {
	ctx = fairrate.WithTenant(ctx, req.Namespace)
	begin := r.options.Clock.Now()
	if err := r.ensureKey(ctx); err != nil {
		return ctrl.Result{}, err
	}
	lease := &lease{}
	defer lease.end()
	obs, err := r.observe(ctx, req.NamespacedName, lease)
	if obs == nil || err != nil {
		return ctrl.Result{RequeueAfter: r.pool.RecheckAfter(req.NamespacedName)}, err
	}
	if obs.stale {
		return ctrl.Result{RequeueAfter: staleRetry}, nil
	}
	if obs.settled {
		r.options.Metrics.Observe(req.NamespacedName, metrics.Snapshot{Instances: obs.Job.Status.TaskInstanceMetrics})
		return ctrl.Result{RequeueAfter: soonest(obs.wait, r.pool.RecheckAfter(req.NamespacedName))}, nil
	}
	defer func() { r.debounce.PassEnded(req.NamespacedName, len(obs.Pods), r.options.Clock.Now()) }()
	defer func() { r.endLarge(obs, result, err) }()
	first, recorded := r.takePodEvent(obs.memory, begin), false
	defer func() {
		if !recorded {
			r.putPodEvent(obs.memory, first)
		}
	}()
	r.askForMemory(obs)
	nodes, err := r.pool.Reserve(ctx, obs.Job, obs.memory.spec, &obs.memory.nodes)
	switch {
	case errors.Is(err, nodepool.ErrCacheBehind):
		return ctrl.Result{RequeueAfter: staleRetry}, nil
	case err != nil:
		return ctrl.Result{}, err
	}
	obs.Envs = nodes.Envs()
	p, err := r.compute(ctx, obs)
	if err != nil {
		nodes.Settle(nodepool.Outcome{Job: obs.Job, Err: err})
		return ctrl.Result{}, client.IgnoreNotFound(err) // gone, and its event is on the way
	}
	r.schedulers.note(p.Scheduled)
	//mutation:create-before-claim
	//mutation:finalizer-removed-before-status
	wait, gathering, err := r.record(ctx, obs, p)
	nodes.Settle(nodepool.Outcome{Job: obs.Job, Plan: p, Written: obs.wrote, Err: err})
	switch {
	//mutation:conflict-is-success
	case apierrors.IsConflict(err):
		// The cache is behind, or another controller is at work. Nothing was done.
		return ctrl.Result{RequeueAfter: staleRetry}, nil
	case err != nil:
		return ctrl.Result{}, client.IgnoreNotFound(err)
	case gathering:
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	recorded = true
	if logger := log.FromContext(ctx).V(2); logger.Enabled() {
		logger.Info("Acting on the plan", "jobId", p.Status.JobID, "state", p.Status.State, "pods", len(obs.Pods), "stored", obs.wrote,
			"create", len(p.Create), "adopt", len(p.Adopt), "delete", len(p.Delete), "release", len(p.Release))
	}
	lease.end() // what follows may take long
	delErr := r.delete(ctx, obs, p.Delete)
	release := p.Release
	if delErr != nil {
		// A Pod that could not be stopped must stay in sight.
		deleted := make(map[*corev1.Pod]bool, len(p.Delete))
		for _, pod := range p.Delete {
			deleted[pod] = true
		}
		_, release = partition(release, func(pod *corev1.Pod) bool { return deleted[pod] })
	}
	// With its finalizer a Pod that is being deleted loses its name as well. Another process that
	// believes to lead may be about to make it once more, and should find the name taken: these
	// are let go of last, and not while they are young.
	going, staying := partition(release, func(pod *corev1.Pod) bool { return pod.DeletionTimestamp != nil })
	var young time.Duration
	if obs.Job.DeletionTimestamp == nil { // nobody begins anything for one that is being deleted
		going, young = r.ofAge(going)
	}
	var again time.Duration
	var actErr, relErr error
	r.limits.Concurrently(
		func() { again, actErr = r.act(ctx, obs, p) },
		func() { relErr = r.letGo(ctx, obs, staying) },
	)
	relErr = errors.Join(relErr, r.letGo(ctx, obs, going))
	r.measure(req.NamespacedName, obs, p, first, relErr == nil && young == 0)
	if err := errors.Join(delErr, actErr, relErr); err != nil {
		return ctrl.Result{}, err
	}
	if p.Expire {
		wait, err := r.expire(ctx, obs.Job)
		return ctrl.Result{RequeueAfter: wait}, err
	}
	//mutation:missing-pod-not-looked-for
	unseen := obs.memory.unseen(r.options.Clock.Now())
	return ctrl.Result{RequeueAfter: soonest(p.RequeueAfter, wait, again, unseen, young, obs.wait)}, nil
}

// letGo releases Pods and remembers it.
func (r *Reconciler) letGo(ctx context.Context, obs *observation, pods []*corev1.Pod) error {
	released, err := r.release(ctx, keyOf(&obs.Job.ObjectMeta), pods)
	maps.Copy(obs.memory.released, released)
	return err
}

// ofAge returns the Pods that may lose their names, and when the first of the others may; 0 if all may.
func (r *Reconciler) ofAge(pods []*corev1.Pod) ([]*corev1.Pod, time.Duration) {
	var first time.Duration
	now := r.options.Clock.Now()
	old, _ := partition(pods, func(pod *corev1.Pod) bool {
		left := pod.CreationTimestamp.Add(nameTime).Sub(now)
		if left <= 0 || left > 2*nameTime { // so far ahead is a clock that is wrong
			return true
		}
		first = soonest(first, left)
		return false
	})
	return old, first
}

// partition divides Pods by whether is holds for them.
func partition(pods []*corev1.Pod, is func(*corev1.Pod) bool) (yes, no []*corev1.Pod) {
	for _, pod := range pods {
		if is(pod) {
			yes = append(yes, pod)
		} else {
			no = append(no, pod)
		}
	}
	return yes, no
}

// measure tells the metrics where the job is, and how soon the successors of a task got
// their first Pods: counted from first, when the first event came that this pass has recorded. A job that
// has ended counts for as long as its Pods could not be let go of.
func (r *Reconciler) measure(key types.NamespacedName, obs *observation, p *plan.Plan, first time.Time, released bool) {
	m := r.options.Metrics
	if p.Opened {
		m.DependenceLatency(r.options.Clock.Since(first))
	}
	if p.Status.EndTime != nil && released {
		m.Forget(key)
		return
	}
	held := -int(p.Status.TaskInstanceMetrics.FailedInterruptedCount) // theirs are held on purpose
	for _, pod := range obs.Pods {
		if plan.HasFinished(pod) {
			held++
		}
	}
	m.Observe(key, metrics.Snapshot{Instances: p.Status.TaskInstanceMetrics, Held: max(held, 0), Unmade: len(p.Adopt) + len(p.Verify)})
}

// compute asks plan what to do: once more with the job as the API server has it when the
// Pods are ahead of the cache, and once more when it is to be known whether Pods exist.
func (r *Reconciler) compute(ctx context.Context, obs *observation) (*plan.Plan, error) {
	now := r.options.Clock.Now()
	switch {
	case obs.tombstone != nil:
		p := plan.AlreadyRan(obs.Observation, *obs.tombstone, now)
		return &p, nil
	case obs.code != "":
		p := plan.Reject(obs.Observation, obs.code, obs.message, now)
		return &p, nil
	case obs.original != nil && !plan.SameRequest(obs.Job, obs.original):
		p := plan.Reject(obs.Observation, string(errcode.InvalidParameterValue),
			fmt.Sprintf("spec.clientToken: must be new for a new request; job %q has it for another", obs.original.Name), now)
		return &p, nil
	case obs.original != nil:
		p := plan.Duplicate(obs.Observation, obs.original, now)
		return &p, nil
	}
	r.lookUp(obs)
	p, err := plan.Compute(obs.Observation, now)
	if err == nil && p.NeedLive {
		if err := r.observeLive(ctx, obs); err != nil {
			return nil, err
		}
		p, err = plan.Compute(obs.Observation, now)
	}
	if err == nil && len(p.Verify) > 0 {
		if err := r.verify(ctx, obs, p.Verify); err != nil {
			return nil, err
		}
		p, err = plan.Compute(obs.Observation, now)
	}
	if errors.Is(err, plan.ErrUnreadable) { // trying again is no use
		p, err = plan.Unreadable(obs.Observation, err, now), nil
	}
	return &p, err
}

// soonest returns the shortest of the durations that are not 0.
func soonest(ds ...time.Duration) time.Duration {
	var out time.Duration
	for _, d := range ds {
		if d > 0 && (out == 0 || d < out) {
			out = d
		}
	}
	return out
}
