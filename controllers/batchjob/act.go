// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/resolve"
)

// A Pod that was made, deleted and let go of has freed its name. A process that leads no more, or
// not alone, must not make it once more by a claim that it has known for long: so a claim counts for
// claimTime after the API server last confirmed it, and a name is not free before a Pod is as old as
// nameTime. In between is the time that the call takes.
const (
	claimTime = time.Second
	nameTime  = 5 * time.Second
)

// act creates the Pods that are claimed. It returns when to try again what the cluster
// refuses.
func (r *Reconciler) act(ctx context.Context, obs *observation, p *plan.Plan) (time.Duration, error) {
	// Claims of earlier passes come first. Another process may have made their Pods meanwhile, seen
	// them end and let them go, so the less time passes since the job was known, the better.
	claimed := slices.Concat(p.Adopt, p.Create)
	m := obs.memory
	m.forgetRefusals(slices.Concat(claimed, p.Verify))
	m.forgetTaken(obs.Spec, slices.Concat(claimed, p.Verify))
	wanted, again := r.mayAsk(obs, claimed, len(p.Release) > 0)
	if len(wanted) == 0 {
		r.standInLine(obs)
		return again, nil
	}
	//mutation:no-live-read-before-adopting
	if !obs.Live || r.options.Clock.Since(obs.known) > claimTime {
		// These claims are not of this pass, or it took long. Somebody else may have worked on
		// them, with a job that is newer than what we know: then they are his.
		version := obs.Job.ResourceVersion
		if obs.wrote {
			version = obs.memory.version
		}
		if err := r.observeLive(ctx, obs); err != nil {
			return 0, client.IgnoreNotFound(err)
		}
		if obs.Job.ResourceVersion != version {
			return staleRetry, nil
		}
	}
	refusals, names, left, err := r.create(ctx, obs, wanted)
	if left {
		again = time.Millisecond // at once, with a look at the job
	}
	for _, e := range names {
		m.take(e, r.options.Clock.Now())
		again = time.Millisecond
	}
	for _, e := range refusals {
		m.refuse(e, r.options.Clock.Now(), r.nodesVersion.Load())
		again = time.Millisecond // at once, to say so in the status
	}
	r.standInLine(obs)
	if errors.Is(err, errGoing) {
		again, err = soonest(again, staleRetry), nil
	}
	return again, err
}

// mayAsk leaves out the instances of tasks that were refused a short while ago, and those whose
// names were found taken, and says when to ask for them. Where Pods of the job have just ended there
// may be room.
func (r *Reconciler) mayAsk(obs *observation, claimed []resolve.Instance, room bool) (wanted []resolve.Instance, again time.Duration) {
	m := obs.memory
	if len(m.refusals) == 0 && len(m.taken) == 0 {
		return claimed, 0
	}
	now := r.options.Clock.Now()
	for _, in := range claimed {
		if len(m.taken) > 0 {
			if t := m.taken[obs.Spec.PodName(in)]; t != nil && now.Before(t.until) {
				again = soonest(again, t.until.Sub(now))
				continue
			}
		}
		ref := m.refusals[in.Task]
		if ref == nil || !now.Before(ref.until) || room && ref.Quota || ref.nodes && ref.version != r.nodesVersion.Load() {
			wanted = append(wanted, in)
			continue
		}
		again = soonest(again, ref.until.Sub(now))
	}
	return wanted, again
}

// standInLine enters or leaves the line of the jobs that wait for the quota of their
// namespace. The first in it asks more often than the others.
func (r *Reconciler) standInLine(obs *observation) {
	m, now := obs.memory, r.options.Clock.Now()
	if !m.waitsForQuota() {
		r.quotas.leave(obs.Job.Namespace, obs.Job.UID)
		return
	}
	if !r.quotas.enter(obs.Job.Namespace, place{obs.Spec.Priority, obs.Job.CreationTimestamp.Time, obs.Job.UID}) {
		return
	}
	for _, ref := range m.refusals {
		if soon := now.Add(firstInLineWait); ref.Quota && ref.until.After(soon) {
			ref.until = soon
		}
	}
}

// create makes the Pods of instances that the stored status claims. It begins with one call at
// a time and has one more under way after each that goes well, so that a cluster which refuses
// is not asked a thousand times; of a task that is refused no more is asked for. It returns one
// refusal for each such task, the names that are taken, and whether some are left since the claims are
// no longer fresh.
func (r *Reconciler) create(ctx context.Context, obs *observation, wanted []resolve.Instance) (_ []*refusedError, names []*takenError, left bool, _ error) {
	type answer struct {
		in   resolve.Instance
		name string
		err  error
	}
	m, calls, start, created := obs.memory, r.limits.For(keyOf(&obs.Job.ObjectMeta), len(wanted)), r.options.Clock.Now(), 0
	answers, inFlight := make(chan answer, r.limits.Max()), 0
	refusals := map[int]*refusedError{}
	var failed error
	hear := func(a answer) {
		inFlight--
		var e *refusedError
		var name *takenError
		switch {
		case a.err == nil:
			created++
			m.created[a.name] = r.options.Clock.Now()
			delete(m.taken, a.name)
			m.accepted(a.in.Task)
			m.slowStart.Succeeded(r.limits.Max())
		case errors.As(a.err, &e):
			refusals[e.task] = e
			m.slowStart.Failed()
		case errors.As(a.err, &name):
			names = append(names, name)
		default:
			failed = errors.Join(failed, a.err)
			m.slowStart.Failed()
		}
	}
	for {
		may := len(wanted) > 0 && failed == nil && !left && inFlight < m.slowStart.Window()
		if len(answers) > 0 || !may && inFlight > 0 {
			hear(<-answers)
			continue
		}
		if !may {
			break
		}
		in := wanted[0]
		if refusals[in.Task] != nil {
			wanted = wanted[1:]
			continue
		}
		release := calls.Create.Acquire()
		if left = r.options.Clock.Since(obs.known) > claimTime; left {
			release(false)
			continue
		}
		wanted = wanted[1:]
		inFlight++
		go func() {
			name, err := r.createPod(ctx, obs, in)
			release(err == nil)
			answers <- answer{in, name, err}
		}()
	}
	m.batch.Created(created, r.options.Clock.Since(start), m.writes.Latency(), plan.WaveSize)
	return slices.Collect(maps.Values(refusals)), names, left, failed
}

// createPod makes one Pod. That it is there already, as after an answer that was lost,
// is success.
func (r *Reconciler) createPod(ctx context.Context, obs *observation, in resolve.Instance) (string, error) {
	env, cluster := obs.env(in), podspec.Cluster{Catalog: r.options.Catalog()}
	if r.options.Nodes != nil {
		cluster.Hosts = r.options.Nodes.Hosts
	}
	if env == nil {
		return "", &refusedError{task: in.Task, reason: v1alpha1.ReasonComputeEnvNotFound, error: fmt.Errorf("there is no ComputeEnv %q", obs.Spec.Tasks[in.Task].EnvID)}
	}
	pod, err := podspec.Build(obs.Job, obs.Spec, in, env, cluster)
	if err != nil {
		return "", unbuildable(in.Task, err)
	}
	r.sign(&pod.ObjectMeta)
	err = r.client.Create(ctx, pod)
	r.options.Metrics.Wrote("create", "pods", err)
	switch {
	case err == nil:
		return pod.Name, nil
	case apierrors.IsAlreadyExists(err):
		return pod.Name, r.adopt(ctx, obs, &pod.ObjectMeta)
	}
	if e := refused(in.Task, err); e != nil {
		return "", e
	}
	return "", fmt.Errorf("creating pod %s: %w", pod.Name, err)
}

// errGoing says that a Pod which was let go of is still on its way out, and that the next
// one of its name can only be made after it.
var errGoing = errors.New("the Pod of that name is about to be gone")

// adopt makes sure that the Pod which has the name of want is the job's, that it is
// watched, and that it is held: somebody may have edited its metadata.
func (r *Reconciler) adopt(ctx context.Context, obs *observation, want *metav1.ObjectMeta) error {
	pod := &corev1.Pod{}
	if err := r.live.Get(ctx, keyOf(want), pod); err != nil {
		return fmt.Errorf("reading pod %s from the API server: %w", want.Name, err)
	}
	//mutation:pod-of-another-adopted
	if !r.ownsName(obs.Job, pod, obs.memory.proven) {
		return cmp.Or(r.giveUp(ctx, pod), error(takenBy(pod)))
	}
	return r.heal(ctx, pod, want, true)
}

func keyOf(meta *metav1.ObjectMeta) types.NamespacedName {
	return types.NamespacedName{Namespace: meta.Namespace, Name: meta.Name}
}

// verify asks the API server for the Pods of instances, puts those right that are there,
// and makes known to plan which are not, and which names have Pods of others.
func (r *Reconciler) verify(ctx context.Context, obs *observation, instances []resolve.Instance) error {
	var mu sync.Mutex
	absent := map[string]bool{}
	// The job may be from a cache that does not show its deletion yet. A Pod that was orphaned must
	// not get its owner reference back.
	mayAdopt := sync.OnceValue(func() bool {
		job := &v1alpha1.BatchJob{}
		err := r.live.Get(ctx, client.ObjectKeyFromObject(obs.Job), job)
		return err == nil && job.UID == obs.Job.UID && job.DeletionTimestamp == nil
	})
	err := r.limits.For(keyOf(&obs.Job.ObjectMeta), len(instances)).Get.Do(len(instances), func(i int) error {
		want := podspec.Meta(obs.Job, obs.Spec, instances[i], obs.env(instances[i]))
		r.sign(&want)
		pod := &corev1.Pod{}
		err := r.live.Get(ctx, keyOf(&want), pod)
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("reading pod %s from the API server: %w", want.Name, err)
		}
		gone, ours := err != nil, err == nil && r.ownsName(obs.Job, pod, obs.memory.proven)
		if err == nil && !ours {
			if err := r.giveUp(ctx, pod); err != nil {
				return err
			}
		}
		if ours {
			owned := metav1.GetControllerOfNoCopy(pod) != nil
			if err := r.heal(ctx, pod, &want, !owned && mayAdopt()); errors.Is(err, errGoing) {
				gone = true
			} else if client.IgnoreNotFound(err) != nil {
				return err
			}
		}
		mu.Lock()
		defer mu.Unlock()
		switch {
		case gone:
			absent[want.Name] = true
		case ours:
			delete(obs.memory.taken, want.Name)
		//mutation:disowned-pod-is-gone
		case plan.HasFinished(pod):
			absent[want.Name] = true
		default:
			obs.memory.take(takenBy(pod), r.options.Clock.Now())
		}
		return nil
	})
	obs.Absent, obs.Taken = absent, obs.memory.takenNames()
	return err
}

// heal puts back what somebody took off a Pod of the job: labels, finalizer, the annotations by which
// the Pod is found and believed, and, with mayAdopt, its owner reference.
func (r *Reconciler) heal(ctx context.Context, pod *corev1.Pod, want *metav1.ObjectMeta, mayAdopt bool) error {
	// A Pod that is being deleted takes no finalizer any more.
	mayHold := pod.DeletionTimestamp == nil
	held := slices.Contains(pod.Finalizers, v1alpha1.FinalizerTracking)
	//mutation:edited-terminating-pod-is-done
	if !mayHold && !held && plan.HasFinished(pod) && pod.Labels[v1alpha1.LabelTracked] == "" {
		return errGoing
	}
	adopts := mayAdopt && metav1.GetControllerOfNoCopy(pod) == nil
	annotations := map[string]string{}
	for _, name := range []string{v1alpha1.AnnotationJobName, v1alpha1.AnnotationProof} {
		if text := want.Annotations[name]; text != "" && text != pod.Annotations[name] {
			annotations[name] = text
		}
	}
	//mutation:labels-not-repaired
	if isSubset(want.Labels, pod.Labels) && (held || !mayHold) && !adopts && len(annotations) == 0 {
		return nil // the cache has not seen it yet
	}
	metadata := map[string]any{"uid": pod.UID, "labels": want.Labels}
	if mayHold {
		metadata["finalizers"] = want.Finalizers
	}
	if adopts {
		metadata["ownerReferences"] = want.OwnerReferences
	}
	if len(annotations) > 0 {
		metadata["annotations"] = annotations
	}
	_, err := r.patchPod(ctx, pod, metadata)
	return err
}

func isSubset(part, whole map[string]string) bool {
	for k, v := range part {
		if whole[k] != v {
			return false
		}
	}
	return true
}

// delete asks for the deletion of Pods; the tracking finalizer keeps them until their
// outcome is recorded.
func (r *Reconciler) delete(ctx context.Context, obs *observation, pods []*corev1.Pod) error {
	return r.limits.For(keyOf(&obs.Job.ObjectMeta), len(pods)).Delete.Do(len(pods), func(i int) error {
		if err := r.stop(ctx, pods[i]); err != nil {
			return fmt.Errorf("deleting pod %s: %w", pods[i].Name, err)
		}
		return nil
	})
}

// stopTries is how often a Pod may have changed before it is deleted as it is.
const stopTries = 3

// stop deletes a Pod. The cache may be behind: one that has finished meanwhile stays, and
// its log with it.
func (r *Reconciler) stop(ctx context.Context, pod *corev1.Pod) error {
	uid, version := pod.UID, &pod.ResourceVersion
	for try := 1; ; try++ {
		if try == stopTries {
			version = nil
		}
		err := r.client.Delete(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}},
			client.Preconditions{UID: &uid, ResourceVersion: version})
		r.options.Metrics.Wrote("delete", "pods", err)
		switch {
		case !apierrors.IsConflict(err):
			return client.IgnoreNotFound(err)
		case try == stopTries:
			return nil // another one by now
		}
		now := &corev1.Pod{}
		if err := r.live.Get(ctx, client.ObjectKeyFromObject(pod), now); err != nil {
			return client.IgnoreNotFound(err)
		}
		if now.UID != uid || now.DeletionTimestamp != nil || plan.HasFinished(now) && !plan.HasFinished(pod) ||
			now.Spec.NodeName != "" && pod.Spec.NodeName == "" { // it has a node after all: to be thought over
			return nil
		}
		version = &now.ResourceVersion
	}
}

// release takes the tracking finalizer and label off Pods whose outcome is stored, in
// one patch: with the label gone they leave the cache. It returns the resource versions
// that the Pods have then.
func (r *Reconciler) release(ctx context.Context, job types.NamespacedName, pods []*corev1.Pod) (map[types.UID]string, error) {
	versions := make([]string, len(pods))
	err := r.limits.For(job, len(pods)).Patch.Do(len(pods), func(i int) (err error) {
		versions[i], err = r.releasePod(ctx, pods[i])
		return ignoreOther(err)
	})
	released := make(map[types.UID]string, len(pods))
	for i, version := range versions {
		if version != "" {
			released[pods[i].UID] = version
		}
	}
	return released, err
}

// releasePod removes the tracking finalizer and label from one Pod, and returns its new resource version.
func (r *Reconciler) releasePod(ctx context.Context, pod *corev1.Pod) (version string, err error) {
	return r.patchPod(ctx, pod, map[string]any{
		"uid":                                 pod.UID,
		"labels":                              map[string]any{v1alpha1.LabelTracked: nil},
		"$deleteFromPrimitiveList/finalizers": []string{v1alpha1.FinalizerTracking},
	})
}

// patchPod merges metadata into that of the Pod, if its UID is still the one given there, and
// returns the Pod's new resource version.
func (r *Reconciler) patchPod(ctx context.Context, pod *corev1.Pod, metadata map[string]any) (version string, err error) {
	//mutation:label-stays-without-finalizer
	body, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		return "", fmt.Errorf("encoding a patch: %w", err)
	}
	target := justMetadata(corev1.SchemeGroupVersion.WithKind("Pod"), pod)
	err = r.client.Patch(ctx, target, client.RawPatch(types.StrategicMergePatchType, body))
	r.options.Metrics.Wrote("patch", "pods", err)
	if err != nil {
		return "", fmt.Errorf("patching pod %s: %w", pod.Name, err)
	}
	return target.ResourceVersion, nil
}

// justMetadata stands for an object in a request whose answer need not be all of the object.
func justMetadata(kind schema.GroupVersionKind, o client.Object) *metav1.PartialObjectMetadata {
	out := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: o.GetNamespace(), Name: o.GetName()}}
	out.SetGroupVersionKind(kind)
	return out
}

// ignoreOther returns nil for an error that says that the Pod is gone, or that its name
// belongs to another one by now.
func ignoreOther(err error) error {
	if apierrors.IsConflict(err) || apierrors.IsInvalid(err) {
		return nil
	}
	return client.IgnoreNotFound(err)
}
