// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/internal/testutil"
)

// Course is what becomes of a Pod. The zero Course is a command that ends with 0.
type Course struct {
	// Code is the exit code of the command.
	Code int32
	// Reason, such as Evicted, is why the node ends the Pod as a whole.
	Reason string
	// Since is how long the command has been running when that is first heard of.
	Since time.Duration
	// Hangs says that the command runs until it is asked to stop.
	Hangs bool
	// NoNode says that no node fits the Pod.
	NoNode bool
}

// killed is the exit code of a command that did not stop by itself.
const killed = 137

// Player plays the scheduler and the kubelets for the Pods of a namespace. Unlike the
// methods of ControlPlane it takes errors, since the API server may be away.
type Player struct {
	*ControlPlane
	Namespace string
	// Course is asked what becomes of a Pod; nil means the zero Course for all.
	Course func(pod *corev1.Pod) Course
	// Quick says that a Pod which gets on does so to its end in one round, without a node;
	// it saves calls where the way there does not matter.
	Quick bool
	// Lazy says whether a Pod is left alone this time; nil means never.
	Lazy func() bool
}

// Round takes every Pod one step further: to a node, to its start, to its end. A Pod that
// is being deleted and runs is stopped instead.
func (p *Player) Round(ctx context.Context) error {
	var pods corev1.PodList
	if err := p.List(ctx, &pods, client.InNamespace(p.Namespace)); err != nil {
		return err
	}
	return p.Play(ctx, pods.Items)
}

// Play is a Round with Pods that were read a moment ago.
func (p *Player) Play(ctx context.Context, pods []corev1.Pod) error {
	var errs []error
	for i := range pods {
		if p.Lazy == nil || !p.Lazy() {
			errs = append(errs, p.step(ctx, &pods[i]))
		}
	}
	return errors.Join(errs...)
}

func (p *Player) step(ctx context.Context, pod *corev1.Pod) error {
	if hasEnded(pod) {
		if pod.DeletionTimestamp != nil && (pod.DeletionGracePeriodSeconds == nil || *pod.DeletionGracePeriodSeconds > 0) {
			return p.clear(ctx, pod)
		}
		return nil
	}
	course, now := p.course(pod), time.Now()
	switch {
	case pod.Spec.NodeName == "" && pod.DeletionTimestamp != nil:
		return nil // it is no node's
	case course.NoNode:
		if len(pod.Status.Conditions) > 0 {
			return nil
		}
		return p.report(ctx, pod, func(pod *corev1.Pod) { testutil.Unschedulable(pod, "0/1 nodes are available") })
	case p.Quick && course == Course{Code: course.Code}:
		return p.report(ctx, pod, func(pod *corev1.Pod) {
			testutil.Start(pod, now)
			testutil.Finish(pod, course.Code, now)
		})
	case pod.Spec.NodeName == "":
		return p.bind(ctx, pod)
	case pod.DeletionTimestamp != nil:
		if err := p.report(ctx, pod, func(pod *corev1.Pod) { testutil.Finish(pod, killed, now) }); err != nil {
			return err
		}
		return p.clear(ctx, pod)
	case pod.Status.Phase != corev1.PodRunning:
		return p.report(ctx, pod, func(pod *corev1.Pod) { testutil.Start(pod, now.Add(-course.Since)) })
	case course.Hangs:
		return nil
	case course.Reason != "":
		return p.report(ctx, pod, func(pod *corev1.Pod) {
			testutil.Finish(pod, killed, now)
			pod.Status.Reason = course.Reason
		})
	}
	return p.report(ctx, pod, func(pod *corev1.Pod) { testutil.Finish(pod, course.Code, now) })
}

func (p *Player) course(pod *corev1.Pod) Course {
	if p.Course == nil {
		return Course{}
	}
	return p.Course(pod)
}

// clear takes a Pod away whose containers have ended, save for its finalizers.
func (p *ControlPlane) clear(ctx context.Context, pod *corev1.Pod) error {
	err := p.Delete(ctx, pod.DeepCopy(), client.GracePeriodSeconds(0), client.Preconditions{UID: &pod.UID})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("clearing pod %s away: %w", pod.Name, err)
	}
	return nil
}

func hasEnded(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}
