// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package actions

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/gateway/objects"
	"batchcompute.dev/operator/internal/gateway/refusal"
	"batchcompute.dev/operator/internal/gateway/view"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/validation"
)

// envID is the answer of CreateComputeEnv.
type envID struct {
	EnvID string `json:"EnvId"`
}

// createComputeEnv creates an environment, and then the Secrets of its passwords and keys, which it owns. A repeated
// request continues where the first stopped.
func createComputeEnv(ctx context.Context, c *call) (any, error) {
	s := newSubmission(c, envPrefix)
	for range maxTries {
		env, secrets, err := s.env(newPart())
		if err != nil {
			return nil, err
		}
		env.Namespace = c.client.Namespace
		err = c.client.Create(ctx, env)
		if apierrors.IsAlreadyExists(err) {
			if env, secrets, err = c.existingEnv(ctx, s); err == nil && env == nil {
				continue // it was deleted in this moment
			}
		}
		if err != nil {
			return nil, refusal.Explain(err, func() []validation.Problem {
				return validation.Validator{Catalog: c.Catalog}.ValidateComputeEnvCreate(env)
			})
		}
		if err := c.createSecrets(ctx, secrets, metav1.OwnerReference{
			APIVersion: v1alpha1.GroupVersion.String(), Kind: "ComputeEnv", Name: env.Name, UID: env.UID,
		}); err != nil {
			return nil, err
		}
		return envID{naming.EnvID(env.UID)}, nil
	}
	return nil, refusal.New(errcode.InternalError, "the environment was deleted while it was created; repeat the request")
}

// env returns the environment of the request as the cluster stores it, and the Secrets of its credentials.
func (s *submission) env(part string) (*v1alpha1.ComputeEnv, []corev1.Secret, error) {
	r, err := s.convert(part)
	if err != nil {
		return nil, nil, err
	}
	env := r.Env
	env.Name = s.name
	if len(r.Secrets) > 0 {
		env.Annotations = map[string]string{v1alpha1.AnnotationCredentials: part}
	}
	return env, r.Secrets, nil
}

// existingEnv is existing for an environment. What ModifyComputeEnv changed since does not count.
func (c *call) existingEnv(ctx context.Context, s *submission) (*v1alpha1.ComputeEnv, []corev1.Secret, error) {
	known, err := objects.WholeEnv(ctx, c.client, s.name)
	if known == nil || err != nil {
		return nil, nil, err
	}
	same, secrets, err := s.env(known.Annotations[v1alpha1.AnnotationCredentials])
	if err != nil {
		return nil, nil, err
	}
	created, err := view.AsCreated(known)
	if err != nil {
		return nil, nil, err
	}
	if !apiequality.Semantic.DeepEqual(created.Spec, same.Spec) {
		return nil, nil, usedToken("environment", naming.EnvID(known.UID), "")
	}
	return known, secrets, nil
}

// ofEnv are the parameters of an action on one environment.
type ofEnv struct {
	EnvID string `json:"EnvId" params:"required"`
}

func describeComputeEnv(ctx context.Context, c *call, in *ofEnv) (any, error) {
	env, err := c.Objects.Env(ctx, c.client, in.EnvID)
	if err != nil {
		return nil, err
	}
	pods, err := c.podsOn(ctx, env, true)
	if err != nil {
		return nil, err
	}
	return view.EnvDetails(env, pods, c.Catalog()), nil
}

// podsOn reads the Pods of instances on nodes of an environment: all that exist, or those that use one now.
func (c *call) podsOn(ctx context.Context, env *v1alpha1.ComputeEnv, now bool) ([]corev1.Pod, error) {
	terms := labels.Set{v1alpha1.LabelEnvID: naming.EnvID(env.UID)}
	if now {
		terms[v1alpha1.LabelTracked] = "true"
	}
	return c.manyPods(ctx, labels.SelectorFromSet(terms), func(pod *corev1.Pod) bool { return !now || plan.HoldsNode(pod, c.Now()) })
}

func describeComputeEnvCreateInfo(ctx context.Context, c *call, in *ofEnv) (any, error) {
	env, err := c.Objects.Env(ctx, c.client, in.EnvID)
	if err != nil {
		return nil, err
	}
	return view.CreateInfo(env)
}

// envListRequest are the parameters of the actions that list environments.
type envListRequest struct {
	EnvIDs  []string `json:"EnvIds"`
	Filters []filter `params:"orItem"`
	Offset  *int64
	Limit   *int64
}

// envList is the answer of DescribeComputeEnvs.
type envList struct {
	ComputeEnvSet []view.EnvView
	TotalCount    int64
}

// The filters of environments. Source: BatchCompute, DescribeComputeEnvs and DescribeComputeEnvCreateInfos, Filters.
var (
	createInfoFilters = map[string]property[*v1alpha1.ComputeEnv]{
		"zone":     equal(func(e *v1alpha1.ComputeEnv) string { return e.Spec.Placement.Zone }),
		"env-id":   equal(func(e *v1alpha1.ComputeEnv) string { return naming.EnvID(e.UID) }),
		"env-name": equal(func(e *v1alpha1.ComputeEnv) string { return e.Spec.EnvName }),
	}
	envFilters = map[string]property[*v1alpha1.ComputeEnv]{
		"zone": createInfoFilters["zone"], "env-id": createInfoFilters["env-id"], "env-name": createInfoFilters["env-name"],
		resourceTypeFilter: equal(func(*v1alpha1.ComputeEnv) string { return view.ResourceTypeCVM }),
	}
)

const resourceTypeFilter = "resource-type"

func describeComputeEnvs(ctx context.Context, c *call, in *envListRequest) (any, error) {
	for i, f := range in.Filters {
		for _, value := range f.Values {
			if f.Name == resourceTypeFilter && value != view.ResourceTypeCVM && value != "CPM" {
				return nil, refusal.New(errcode.ResourceType, "Filters.%d.Values must be CVM or CPM, got %s", i, validation.Quote(value))
			}
		}
	}
	page, total, err := c.envs(ctx, in, envFilters, func(e *v1alpha1.ComputeEnv) []v1alpha1.Tag { return e.Spec.Tags })
	if err != nil {
		return nil, err
	}
	out := envList{ComputeEnvSet: []view.EnvView{}, TotalCount: total}
	for _, env := range page {
		out.ComputeEnvSet = append(out.ComputeEnvSet, view.OfEnv(env))
	}
	return out, nil
}

// createInfoList is the answer of DescribeComputeEnvCreateInfos.
type createInfoList struct {
	TotalCount              int64
	ComputeEnvCreateInfoSet []map[string]json.RawMessage
}

func describeComputeEnvCreateInfos(ctx context.Context, c *call, in *envListRequest) (any, error) {
	page, total, err := c.envs(ctx, in, createInfoFilters, nil)
	if err != nil {
		return nil, err
	}
	out := createInfoList{total, []map[string]json.RawMessage{}}
	for _, env := range page {
		info, err := view.CreateInfo(env)
		if err != nil {
			return nil, err
		}
		out.ComputeEnvCreateInfoSet = append(out.ComputeEnvCreateInfoSet, info)
	}
	return out, nil
}

// envs returns one page of the environments that a request asks for, the newest first, and how many there are.
func (c *call) envs(ctx context.Context, in *envListRequest, known map[string]property[*v1alpha1.ComputeEnv], tags func(*v1alpha1.ComputeEnv) []v1alpha1.Tag) ([]*v1alpha1.ComputeEnv, int64, error) {
	if err := checkChoice("EnvIds", in.EnvIDs, in.Filters); err != nil {
		return nil, 0, err
	}
	for _, id := range in.EnvIDs {
		if err := objects.CheckEnvID(id); err != nil {
			return nil, 0, err
		}
	}
	page, err := pagingOf(in.Offset, in.Limit, defaultLimit, maxLimit, errcode.InvalidParameterValue)
	if err != nil {
		return nil, 0, err
	}
	matches, err := matcherOf(in.Filters, known, tags)
	if err != nil {
		return nil, 0, err
	}
	all, err := c.Objects.AllEnvs(ctx, c.client)
	if err != nil {
		return nil, 0, err
	}
	ids := set(in.EnvIDs)
	found := slices.DeleteFunc(all, func(env *v1alpha1.ComputeEnv) bool {
		return !matches(env) || len(ids) > 0 && !ids[naming.EnvID(env.UID)]
	})
	slices.SortFunc(found, func(a, b *v1alpha1.ComputeEnv) int {
		return cmp.Or(b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(a.UID, b.UID))
	})
	return pageOf(found, page), int64(len(found)), nil
}

// activitiesRequest are the parameters of DescribeComputeEnvActivities. The first SDKs have one filter, not a list.
type activitiesRequest struct {
	EnvID   string   `json:"EnvId" params:"required"`
	Filters []filter `params:"orItem"`
	Offset  *int64
	Limit   *int64
}

// activityList is the answer of DescribeComputeEnvActivities.
type activityList struct {
	ActivitySet []view.Activity
	TotalCount  int64
}

// describeComputeEnvActivities lists the creation of nodes, the newest first: of those whose Pods still exist.
func describeComputeEnvActivities(ctx context.Context, c *call, in *activitiesRequest) (any, error) {
	page, err := pagingOf(in.Offset, in.Limit, defaultLimit, maxLimit, errcode.InvalidParameterValue)
	if err != nil {
		return nil, err
	}
	matches, err := matcherOf(in.Filters, map[string]property[view.Activity]{
		"compute-node-id": equal(func(a view.Activity) string { return a.ComputeNodeID }),
	}, nil)
	if err != nil {
		return nil, err
	}
	for _, f := range in.Filters {
		for _, id := range f.Values {
			if err := checkNodeID(id); err != nil {
				return nil, err
			}
		}
	}
	env, err := c.Objects.Env(ctx, c.client, in.EnvID)
	if err != nil {
		return nil, err
	}
	pods, err := c.podsOn(ctx, env, false)
	if err != nil {
		return nil, err
	}
	all := slices.DeleteFunc(view.Activities(env, pods), func(a view.Activity) bool { return !matches(a) })
	return activityList{pageOf(all, page), int64(len(all))}, nil
}

// modifyRequest are the parameters of ModifyComputeEnv.
type modifyRequest struct {
	EnvID                   string `json:"EnvId" params:"required"`
	DesiredComputeNodeCount *int64
	EnvName                 *string
	EnvDescription          *string
	EnvData                 *struct {
		InstanceTypes []string `params:"required"`
	}
}

// modifyComputeEnv changes an environment. A change applies to instances that start after it.
func modifyComputeEnv(ctx context.Context, c *call, in *modifyRequest) (any, error) {
	if in.EnvData != nil && len(in.EnvData.InstanceTypes) == 0 {
		return nil, refusal.New(errcode.InstanceTypesEmpty, "EnvData.InstanceTypes must have at least one machine type")
	}
	env, err := c.Objects.Env(ctx, c.client, in.EnvID)
	if err != nil {
		return nil, err
	}
	var before *v1alpha1.ComputeEnv
	err = c.changeEnv(ctx, env, func(now *v1alpha1.ComputeEnv) (map[string]any, error) {
		before = now
		spec := in.spec()
		if len(spec) == 0 {
			return nil, nil
		}
		if now.Annotations[v1alpha1.AnnotationCreatedAs] != "" {
			return map[string]any{"spec": spec}, nil
		}
		created, err := json.Marshal(now.Spec)
		if err != nil {
			return nil, err
		}
		return map[string]any{"spec": spec, "metadata": map[string]any{"annotations": map[string]any{v1alpha1.AnnotationCreatedAs: string(created)}}}, nil
	})
	return nil, refusal.Explain(err, func() []validation.Problem {
		return validation.Validator{Catalog: c.Catalog}.ValidateComputeEnvUpdate(before, in.changed(before))
	})
}

// changed returns an environment with the numbers and texts of the request: what the API server checks itself.
func (in *modifyRequest) changed(before *v1alpha1.ComputeEnv) *v1alpha1.ComputeEnv {
	after := before.DeepCopy()
	if in.DesiredComputeNodeCount != nil {
		after.Spec.DesiredComputeNodeCount = in.DesiredComputeNodeCount
	}
	if in.EnvName != nil {
		after.Spec.EnvName = *in.EnvName
	}
	if in.EnvDescription != nil {
		after.Spec.EnvDescription = *in.EnvDescription
	}
	return after
}

// spec returns the change as a merge patch of the spec.
func (in *modifyRequest) spec() map[string]any {
	spec := map[string]any{}
	if in.DesiredComputeNodeCount != nil {
		spec["desiredComputeNodeCount"] = *in.DesiredComputeNodeCount
	}
	if in.EnvName != nil {
		spec["envName"] = *in.EnvName
	}
	if in.EnvDescription != nil {
		spec["envDescription"] = *in.EnvDescription
	}
	if in.EnvData != nil { // in place of the type or size that there was
		spec["envData"] = map[string]any{"instanceTypes": in.EnvData.InstanceTypes, "instanceType": nil, "instanceTypeOptions": nil}
	}
	return spec
}

// changeEnv is changeJob for an environment. It refuses one that is being deleted.
func (c *call) changeEnv(ctx context.Context, env *v1alpha1.ComputeEnv, patch func(*v1alpha1.ComputeEnv) (map[string]any, error)) error {
	for try := 1; ; try++ {
		now, err := objects.WholeEnv(ctx, c.client, env.Name)
		switch {
		case err != nil:
			return err
		case now == nil || now.UID != env.UID:
			return refusal.New(errcode.ComputeEnvNotFound, "the environment was deleted")
		case now.DeletionTimestamp != nil:
			return beingDeleted(now)
		}
		body, err := patch(now)
		if body == nil || err != nil {
			return err
		}
		err = c.patch(ctx, &v1alpha1.ComputeEnv{}, now, body)
		switch {
		case apierrors.IsNotFound(err):
			return refusal.New(errcode.ComputeEnvNotFound, "the environment was deleted")
		case !apierrors.IsConflict(err), try == maxTries:
			return err
		}
		pause(ctx, try)
	}
}

func beingDeleted(env *v1alpha1.ComputeEnv) error {
	return refusal.New(errcode.ComputeEnvAcceptOtherRequest, "environment %s is being deleted", naming.EnvID(env.UID))
}

// deleteComputeEnv deletes an environment that no job uses.
func deleteComputeEnv(ctx context.Context, c *call, in *ofEnv) (any, error) {
	env, err := c.Objects.Env(ctx, c.client, in.EnvID)
	if err != nil {
		return nil, err
	}
	if env.DeletionTimestamp != nil {
		return nil, beingDeleted(env)
	}
	err = c.client.Delete(ctx, &v1alpha1.ComputeEnv{ObjectMeta: metav1.ObjectMeta{Namespace: env.Namespace, Name: env.Name}},
		client.Preconditions{UID: &env.UID}, client.PropagationPolicy(metav1.DeletePropagationBackground))
	var r *refusal.Refusal
	switch {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err): // the precondition is the UID
		return nil, refusal.New(errcode.ComputeEnvNotFound, "there is no compute environment %s", in.EnvID)
	case err != nil && errors.As(refusal.From(err), &r) && r.Code == errcode.ResourceInUse:
		return nil, refusal.New(errcode.ComputeEnvOperation, "%s", r.Message)
	}
	return nil, err
}
