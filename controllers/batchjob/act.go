// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/resolve"
)

// defaultWorkers bounds the calls that one pass has under way at once.
const defaultWorkers = 16

// Bounds of the wait after the cluster has refused to make a Pod.
const (
	refusalWait    = time.Second
	maxRefusalWait = time.Minute
)

// act stops the Pods that are to be stopped and creates those that are claimed. It
// returns when to try again what the cluster refuses.
func (r *Reconciler) act(ctx context.Context, obs *observation, p *plan.Plan) (time.Duration, error) {
	delErr := r.delete(ctx, p.Delete)
	wanted := append(p.Create, p.Adopt...)
	if len(wanted) == 0 {
		return 0, delErr
	}
	m := obs.memory
	if left := m.until.Sub(r.options.Clock.Now()); left > 0 {
		return left, delErr
	}
	if !obs.Live {
		// These claims are not of this pass. Somebody else may have worked on them, with
		// a job that is newer than our cache: then they are his.
		version := obs.Job.ResourceVersion
		if err := r.observeLive(ctx, obs); err != nil {
			return 0, errors.Join(delErr, client.IgnoreNotFound(err))
		}
		if obs.Job.ResourceVersion != version {
			return staleRetry, delErr
		}
	}
	made, err := r.create(ctx, obs, wanted)
	if made {
		m.refusals = 0 // there is some room, as with a quota: look again soon
	}
	var refused *refusedError
	if errors.As(err, &refused) {
		m.refusal = &plan.Refusal{Task: refused.task, Message: refused.Error()}
		m.until = r.options.Clock.Now().Add(min(refusalWait<<min(m.refusals, 10), maxRefusalWait))
		m.refusals++
		return time.Millisecond, delErr // at once, to say so in the status
	}
	if err == nil {
		m.refusal, m.refusals, m.until = nil, 0, time.Time{}
	}
	return 0, errors.Join(delErr, err)
}

// refusedError says that the cluster understood the request for a Pod and will not have
// it: a quota, a policy, a limit. Asking again at once is no use.
type refusedError struct {
	task int
	error
}

func (e *refusedError) Unwrap() error { return e.error }

// create makes the Pods of instances that the stored status claims, and reports whether
// it made any. It begins with one and doubles, so that a cluster which refuses is not
// asked a thousand times.
func (r *Reconciler) create(ctx context.Context, obs *observation, wanted []resolve.Instance) (made bool, err error) {
	var mu sync.Mutex
	for size := 1; len(wanted) > 0; size = min(2*size, r.workers) {
		batch := wanted[:min(size, len(wanted))]
		wanted = wanted[len(batch):]
		err := inParallel(r.workers, batch, func(in resolve.Instance) error {
			name, err := r.createPod(ctx, obs, in)
			if err == nil {
				mu.Lock()
				obs.memory.created[name], made = r.options.Clock.Now(), true
				mu.Unlock()
			}
			return err
		})
		if err != nil {
			return made, err
		}
	}
	return made, nil
}

// createPod makes one Pod. That it is there already, as after an answer that was lost,
// is success.
func (r *Reconciler) createPod(ctx context.Context, obs *observation, in resolve.Instance) (string, error) {
	pod := podspec.Build(obs.Job, obs.Spec, in, r.options.Catalog)
	err := r.client.Create(ctx, pod.DeepCopy())
	switch {
	case err == nil:
		return pod.Name, nil
	case apierrors.IsAlreadyExists(err):
		return pod.Name, r.adopt(ctx, obs, in, pod)
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return "", &refusedError{in.Task, err}
	}
	return "", fmt.Errorf("creating pod %s: %w", pod.Name, err)
}

// adopt makes sure that the Pod which has the name of want is the job's, that it is
// watched, and that it is held: somebody may have edited its labels or finalizers.
func (r *Reconciler) adopt(ctx context.Context, obs *observation, in resolve.Instance, want *corev1.Pod) error {
	pod := &corev1.Pod{}
	if err := r.live.Get(ctx, client.ObjectKeyFromObject(want), pod); err != nil {
		return fmt.Errorf("reading pod %s from the API server: %w", want.Name, err)
	}
	if !metav1.IsControlledBy(pod, obs.Job) {
		return &refusedError{in.Task, fmt.Errorf("the name %q is taken by a Pod that does not belong to the job", want.Name)}
	}
	// A Pod that is being deleted takes no finalizer any more.
	mayHold := pod.DeletionTimestamp == nil
	held := slices.Contains(pod.Finalizers, v1alpha1.FinalizerTracking)
	if isSubset(want.Labels, pod.Labels) && (held || !mayHold) {
		return nil // the cache has not seen it yet
	}
	metadata := map[string]any{"uid": pod.UID, "labels": want.Labels}
	if mayHold {
		metadata["finalizers"] = want.Finalizers
	}
	return r.patchPod(ctx, pod, metadata)
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
func (r *Reconciler) delete(ctx context.Context, pods []*corev1.Pod) error {
	return inParallel(r.workers, pods, func(pod *corev1.Pod) error {
		err := r.client.Delete(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}},
			client.Preconditions{UID: &pod.UID})
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("deleting pod %s: %w", pod.Name, err)
		}
		return nil
	})
}

// release takes the tracking finalizer and label off Pods whose outcome is stored, in
// one patch: with the label gone they leave the cache.
func (r *Reconciler) release(ctx context.Context, pods []*corev1.Pod) error {
	return inParallel(r.workers, pods, func(pod *corev1.Pod) error {
		return client.IgnoreNotFound(r.patchPod(ctx, pod, map[string]any{
			"uid":                                 pod.UID,
			"labels":                              map[string]any{v1alpha1.LabelTracked: nil},
			"$deleteFromPrimitiveList/finalizers": []string{v1alpha1.FinalizerTracking},
		}))
	})
}

// patchPod merges metadata into that of the Pod, if its UID is still the one given there.
func (r *Reconciler) patchPod(ctx context.Context, pod *corev1.Pod, metadata map[string]any) error {
	body, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		return fmt.Errorf("encoding a patch: %w", err)
	}
	target := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
	if err := r.client.Patch(ctx, target, client.RawPatch(types.StrategicMergePatchType, body)); err != nil {
		return fmt.Errorf("patching pod %s: %w", pod.Name, err)
	}
	return nil
}

// inParallel calls do for every item, with at most workers calls at once, and joins the
// errors.
func inParallel[T any](workers int, items []T, do func(T) error) error {
	errs := make([]error, len(items))
	var wg sync.WaitGroup
	slots := make(chan struct{}, workers)
	for i, item := range items {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[i] = do(item)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
