// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// ownStatus returns the fields of s that the node writes.
func ownStatus(s *corev1.PodStatus) corev1.PodStatus {
	own := corev1.PodStatus{
		ObservedGeneration: s.ObservedGeneration, Phase: s.Phase, Reason: s.Reason, Message: s.Message,
		HostIP: s.HostIP, HostIPs: s.HostIPs, PodIP: s.PodIP, PodIPs: s.PodIPs, StartTime: s.StartTime,
		InitContainerStatuses: s.InitContainerStatuses, ContainerStatuses: s.ContainerStatuses,
	}
	for _, c := range s.Conditions {
		switch c.Type {
		case corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady:
			own.Conditions = append(own.Conditions, c)
		}
	}
	return own
}

// publish stores the status if it differs from what is stored. A terminal one
// is never changed again.
func (w *worker) publish(ctx context.Context, now time.Time) error {
	if isTerminal(w.written.Phase) {
		return nil
	}
	want := computeStatus(w.facts(), w.written, metav1.NewTime(now))
	if equality.Semantic.DeepEqual(want, w.written) {
		return nil
	}
	patch, err := statusPatch(w.pod.UID, &w.written, &want)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err = w.n.client.CoreV1().Pods(w.pod.Namespace).
		Patch(ctx, w.pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if isNoMore(err) {
		return nil // nothing to report to; still unwritten if this was a mistake
	}
	if err != nil {
		return fmt.Errorf("writing the status: %w", err)
	}
	w.written = want
	return nil
}

func (w *worker) facts() facts {
	f := facts{pod: w.pod, ip: w.n.ip, start: w.start, stopped: w.stopped, deadline: w.deadline}
	for _, c := range w.inits {
		f.inits = append(f.inits, &c.record)
	}
	for _, c := range w.main {
		f.main = append(f.main, &c.record)
	}
	return f
}

// statusPatch returns the patch from one status to another. The UID in it makes
// the API server refuse it for another Pod of the same name.
func statusPatch(uid types.UID, from, to *corev1.PodStatus) ([]byte, error) {
	before, err := json.Marshal(corev1.Pod{Status: *from})
	if err != nil {
		return nil, fmt.Errorf("encoding the status: %w", err)
	}
	after, err := json.Marshal(corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: uid}, Status: *to})
	if err != nil {
		return nil, fmt.Errorf("encoding the status: %w", err)
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(before, after, corev1.Pod{})
	if err != nil {
		return nil, fmt.Errorf("computing the status patch: %w", err)
	}
	return patch, nil
}

// release tells the API object of a deleted Pod to go, once its terminal status
// is stored. Finalizers may keep it; there is nothing more to do then.
func (w *worker) release(ctx context.Context) error {
	grace := w.pod.DeletionGracePeriodSeconds
	if w.released || w.pod.DeletionTimestamp == nil || !isTerminal(w.written.Phase) || (grace != nil && *grace == 0) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	opts := metav1.NewDeleteOptions(0)
	opts.Preconditions = metav1.NewUIDPreconditions(string(w.pod.UID))
	err := w.n.client.CoreV1().Pods(w.pod.Namespace).Delete(ctx, w.pod.Name, *opts)
	if err != nil && !isNoMore(err) && !apierrors.IsConflict(err) { // a conflict of UIDs
		return fmt.Errorf("deleting the Pod: %w", err)
	}
	w.released = true
	return nil
}

// isNoMore tells whether a request failed because the Pod is gone, perhaps with
// another of its name in its place. The informer is about to say so, too.
func isNoMore(err error) bool {
	cause, invalid := apierrors.StatusCause(err, metav1.CauseTypeFieldValueInvalid)
	return apierrors.IsNotFound(err) || (invalid && cause.Field == "metadata.uid")
}
