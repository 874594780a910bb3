// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/validation"
)

// The API server calls the first webhook for creations and changes of the spec, as it does for
// BatchJobs. It calls the second for deletions, so that deleting a ComputeEnv in use by mistake is
// refused; deletions of whole namespaces are exempt. It calls the third for the subresource scale,
// whose object is a Scale. The last two have failurePolicy Ignore, so that neither a deletion nor an
// autoscaler waits for a manager that is down: the reconciler protects a ComputeEnv in use by a
// finalizer, and the reconcilers treat a number over the limit as the limit.
//
// +kubebuilder:webhook:path=/validate-batchcompute-dev-v1alpha1-computeenv,mutating=false,failurePolicy=fail,sideEffects=None,matchPolicy=Equivalent,timeoutSeconds=5,groups=batchcompute.dev,resources=computeenvs,verbs=create;update,versions=v1alpha1,name=computeenv.batchcompute.dev,admissionReviewVersions=v1,patch=`{"matchConditions":[{"name":"spec-is-new-or-changed","expression":"request.operation == 'CREATE' || has(object.spec) != has(oldObject.spec) || (has(object.spec) && object.spec != oldObject.spec)"}]}`
// +kubebuilder:webhook:path=/validate-batchcompute-dev-v1alpha1-computeenv,mutating=false,failurePolicy=ignore,sideEffects=None,matchPolicy=Equivalent,timeoutSeconds=5,groups=batchcompute.dev,resources=computeenvs,verbs=delete,versions=v1alpha1,name=computeenv-delete.batchcompute.dev,admissionReviewVersions=v1,patch=`{"matchConditions":[{"name":"not-with-its-namespace","expression":"request.userInfo.username != 'system:serviceaccount:kube-system:namespace-controller'"}]}`
// +kubebuilder:webhook:path=/validate-batchcompute-dev-v1alpha1-computeenv,mutating=false,failurePolicy=ignore,sideEffects=None,matchPolicy=Equivalent,timeoutSeconds=5,groups=batchcompute.dev,resources=computeenvs/scale,verbs=update,versions=v1alpha1,name=computeenv-scale.batchcompute.dev,admissionReviewVersions=v1

// computeEnvPath is where these webhooks are served; the markers above repeat it.
const computeEnvPath = "/validate-batchcompute-dev-v1alpha1-computeenv"

// computeEnvValidator is what this package needs of internal/validation.
type computeEnvValidator interface {
	ValidateComputeEnvCreate(env *v1alpha1.ComputeEnv) []validation.Problem
	ValidateComputeEnvUpdate(oldEnv, newEnv *v1alpha1.ComputeEnv) []validation.Problem
	ValidateComputeEnvScale(nodes int64) []validation.Problem
	ComputeEnvWarnings(env *v1alpha1.ComputeEnv) []string
}

// userFinder knows the BatchJobs that use a ComputeEnv.
type userFinder interface {
	jobsOf(ctx context.Context, env *v1alpha1.ComputeEnv) ([]string, error)
}

// computeEnvHandler answers admission requests for ComputeEnvs.
type computeEnvHandler struct {
	validator computeEnvValidator
	access    accessChecker
	users     userFinder
	quota     quotaChecker
	synced    func() bool // reports whether the caches of users and quota are synced
}

// Handle answers one request.
func (h *computeEnvHandler) Handle(ctx context.Context, req admission.Request) admission.Response {
	return respond(ctx, req, h.validate)
}

func (h *computeEnvHandler) validate(ctx context.Context, req admission.Request) (verdict, error) {
	switch req.Operation {
	case admissionv1.Create:
		return h.validateCreate(ctx, req)
	case admissionv1.Update:
		if req.SubResource == subresourceScale {
			return h.validateScale(req)
		}
		return h.validateUpdate(ctx, req)
	case admissionv1.Delete:
		return h.validateDelete(ctx, req)
	default:
		return verdict{}, fmt.Errorf("unexpected operation %q", req.Operation)
	}
}

// validateCreate checks a new ComputeEnv, in the order of batchJobHandler.validateCreate.
func (h *computeEnvHandler) validateCreate(ctx context.Context, req admission.Request) (verdict, error) {
	env, err := decode[v1alpha1.ComputeEnv](req.Object)
	if err != nil {
		return verdict{}, err
	}
	env.Namespace = req.Namespace // the object need not have it
	if refusal, err := admitCaller(ctx, h.access, h.synced, req.UserInfo, req.Namespace); err != nil || refusal != nil {
		return verdict{problems: refusal}, err
	}
	v := verdict{h.validator.ValidateComputeEnvCreate(env), h.validator.ComputeEnvWarnings(env)}
	err = v.count(ctx, h.quota, errcode.ComputeEnvQuota, req, cmp.Or(env.Name, req.Name, string(req.UID)), 0)
	return v, err
}

// validateUpdate checks, as for a create, that the caller may submit: the spec decides which image
// the jobs of others run, on which machine and as which user. It needs no cache.
func (h *computeEnvHandler) validateUpdate(ctx context.Context, req admission.Request) (verdict, error) {
	env, err := decode[v1alpha1.ComputeEnv](req.Object)
	if err != nil {
		return verdict{}, err
	}
	old, err := decode[v1alpha1.ComputeEnv](req.OldObject)
	if err != nil {
		return verdict{}, err
	}
	env.Namespace, old.Namespace = req.Namespace, req.Namespace
	always := func() bool { return true }
	if refusal, err := admitCaller(ctx, h.access, always, req.UserInfo, req.Namespace); err != nil || refusal != nil {
		return verdict{problems: refusal}, err
	}
	return verdict{h.validator.ValidateComputeEnvUpdate(old, env), h.validator.ComputeEnvWarnings(env)}, nil
}

// subresourceScale is the subresource through which autoscalers change the number of nodes.
const subresourceScale = "scale"

// validateScale checks only the number. It does not check that the caller may submit: more nodes
// run nothing that was not submitted, and an autoscaler submits nothing.
func (h *computeEnvHandler) validateScale(req admission.Request) (verdict, error) {
	scale, err := decode[autoscalingv1.Scale](req.Object)
	if err != nil {
		return verdict{}, err
	}
	return verdict{problems: h.validator.ValidateComputeEnvScale(int64(scale.Spec.Replicas))}, nil
}

// maxUsers is how many jobs a refusal names.
const maxUsers = 5

// validateDelete refuses to delete a ComputeEnv in use, unless it is being deleted already.
func (h *computeEnvHandler) validateDelete(ctx context.Context, req admission.Request) (verdict, error) {
	env, err := decode[v1alpha1.ComputeEnv](req.OldObject)
	if err != nil {
		return verdict{}, err
	}
	if env.DeletionTimestamp != nil {
		return verdict{}, nil
	}
	if !waitUntil(ctx, h.synced) {
		return verdict{}, temporaryError{errNotSynced}
	}
	env.Namespace, env.Name = req.Namespace, cmp.Or(env.Name, req.Name)
	names, err := h.users.jobsOf(ctx, env)
	if err != nil {
		return verdict{}, temporaryError{err}
	}
	if len(names) == 0 {
		return verdict{}, nil
	}
	return verdict{problems: []validation.Problem{inUse(env.Name, names)}}, nil
}

// inUse is the problem that jobs use a ComputeEnv.
func inUse(env string, jobs []string) validation.Problem {
	count, which, more := "1 BatchJob that has", "it ends, or terminate or delete it", ""
	if n := len(jobs); n > 1 {
		count, which = fmt.Sprintf("%d BatchJobs that have", n), "they end, or terminate or delete them"
		if n > maxUsers {
			more = fmt.Sprintf(" and %d more", n-maxUsers)
		}
	}
	return validation.Problem{Code: errcode.ResourceInUse, Field: field.NewPath("metadata", "name"), Detail: fmt.Sprintf(
		"ComputeEnv %s is used by %s not ended: %s%s; wait until %s", quoted(env), count, strings.Join(jobs[:min(len(jobs), maxUsers)], ", "), more, which)}
}
