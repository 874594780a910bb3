// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package actions

import (
	"context"
	"fmt"
	"regexp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/gateway/refusal"
	"batchcompute.dev/operator/internal/gateway/view"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/validation"
)

var nodeIDForm = regexp.MustCompile(`^node-[0-9a-z]{8}$`)

// checkNodeID returns a Refusal for what is no node's identifier.
func checkNodeID(id string) error {
	if !nodeIDForm.MatchString(id) {
		return refusal.New(errcode.ComputeNodeIDMalformed, "ComputeNodeId must be node- and 8 characters of 0-9 and a-z, got %s", validation.Quote(id))
	}
	return nil
}

// terminateNodeRequest are the parameters of TerminateComputeNode.
type terminateNodeRequest struct {
	EnvID         string `json:"EnvId" params:"required"`
	ComputeNodeID string `json:"ComputeNodeId" params:"required"`
}

func terminateComputeNode(ctx context.Context, c *call, in *terminateNodeRequest) (any, error) {
	return nil, c.terminateNodes(ctx, in.EnvID, []string{in.ComputeNodeID})
}

// terminateNodesRequest are the parameters of TerminateComputeNodes.
type terminateNodesRequest struct {
	EnvID          string   `json:"EnvId" params:"required"`
	ComputeNodeIDs []string `json:"ComputeNodeIds" params:"required"`
}

func terminateComputeNodes(ctx context.Context, c *call, in *terminateNodesRequest) (any, error) {
	ids := in.ComputeNodeIDs
	switch {
	case len(ids) == 0:
		return nil, refusal.New(errcode.MissingParameter, "ComputeNodeIds: must be given")
	case len(ids) > maxIDs:
		return nil, refusal.New(errcode.InvalidParameterValue, "ComputeNodeIds must have at most %d items, got %d", maxIDs, len(ids))
	case len(set(ids)) < len(ids):
		return nil, refusal.New(errcode.InvalidParameterValue, "ComputeNodeIds must not repeat one")
	}
	return nil, c.terminateNodes(ctx, in.EnvID, ids)
}

// terminateNodes makes an environment smaller by some nodes. First the environment is told, so that nobody else gets the
// nodes; then the Pods that use them are deleted, whose instances lose their machine and get another node when one is
// free. A repetition finds the Pods of the first try being deleted, or gone with their nodes.
func (c *call) terminateNodes(ctx context.Context, id string, nodes []string) error {
	for _, node := range nodes {
		if err := checkNodeID(node); err != nil {
			return err
		}
	}
	env, err := c.Objects.Env(ctx, c.client, id)
	if err != nil {
		return err
	}
	var used []corev1.Pod
	if err := c.changeEnv(ctx, env, func(now *v1alpha1.ComputeEnv) (body map[string]any, err error) {
		pods, err := c.podsOn(ctx, now, true)
		if err != nil {
			return nil, err
		}
		var idle ranges.Set
		if used, idle, err = chooseNodes(now, pods, nodes); err != nil {
			return nil, err
		}
		body = map[string]any{"spec": map[string]any{"desiredComputeNodeCount": max(0, resolve.ComputeNodeCount(now)-len(nodes))}}
		if !idle.Empty() {
			text := view.TerminatedNodes(now).Union(idle).String()
			if len(text) > maxTerminatedNodes {
				return nil, refusal.New(errcode.ComputeNodeForbidTerminate, "too many free nodes were terminated one by one; lower DesiredComputeNodeCount with ModifyComputeEnv")
			}
			body["metadata"] = map[string]any{"annotations": map[string]any{v1alpha1.AnnotationTerminatedNodes: text}}
		}
		return body, nil
	}); err != nil {
		return err
	}
	for i := range used {
		if err := c.client.Delete(ctx, &used[i], client.Preconditions{UID: &used[i].UID}); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("deleting Pod %s: %w", used[i].Name, err)
		}
	}
	return nil
}

// maxTerminatedNodes bounds the annotation with the numbers of free nodes that were terminated. Unit: bytes.
const maxTerminatedNodes = 16 << 10

// chooseNodes finds nodes of an environment: the Pods that use them, and the numbers of those that are free.
func chooseNodes(env *v1alpha1.ComputeEnv, pods []corev1.Pod, nodes []string) (used []corev1.Pod, idle ranges.Set, err error) {
	free := view.IdleNodes(env, len(pods))
	var numbers []int
	for _, id := range nodes {
		if i := slices.IndexFunc(pods, func(p corev1.Pod) bool { return view.NodeIDOf(&p) == id }); i >= 0 {
			if pods[i].DeletionTimestamp != nil {
				return nil, idle, refusal.New(errcode.ComputeNodeIsTerminating, "node %s is being terminated", id)
			}
			used = append(used, pods[i])
			continue
		}
		i := slices.IndexFunc(free, func(n view.IdleNode) bool { return n.ID == id })
		if i < 0 {
			return nil, idle, refusal.New(errcode.ComputeNodeNotFound, "the environment has no node %s", id)
		}
		numbers = append(numbers, free[i].Number)
	}
	return used, ranges.Of(numbers...), nil
}
