// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package webhook answers the API server's admission requests with BatchCompute's
// error codes. The rules about the content of a request are in internal/validation. This
// package adds those that need the cluster: who asks, how much the namespace keeps already,
// and which request a client token belongs to.
package webhook

import (
	"cmp"
	"context"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	authnv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/sanitize"
	"batchcompute.dev/operator/internal/validation"
)

// The API server calls the webhook for creations and for changes of the spec only: not for
// status, not for metadata (so finalizers and labels can be changed while the manager is
// down), and never for deletions.
//
// +kubebuilder:webhook:path=/validate-batchcompute-dev-v1alpha1-batchjob,mutating=false,failurePolicy=fail,sideEffects=None,matchPolicy=Equivalent,timeoutSeconds=5,groups=batchcompute.dev,resources=batchjobs,verbs=create;update,versions=v1alpha1,name=batchjob.batchcompute.dev,admissionReviewVersions=v1,patch=`{"matchConditions":[{"name":"spec-is-new-or-changed","expression":"request.operation == 'CREATE' || has(object.spec) != has(oldObject.spec) || (has(object.spec) && object.spec != oldObject.spec)"}]}`

// batchJobPath is where the webhook is served; the marker above repeats it.
const batchJobPath = "/validate-batchcompute-dev-v1alpha1-batchjob"

// batchJobValidator is what this package needs of internal/validation.
type batchJobValidator interface {
	ValidateCreate(job *v1alpha1.BatchJob) []validation.Problem
	ValidateUpdate(oldJob, newJob *v1alpha1.BatchJob) []validation.Problem
	Warnings(job *v1alpha1.BatchJob) []string
	UpdateWarnings(oldJob, newJob *v1alpha1.BatchJob) []string
}

// accessChecker, tokenChecker, envFinder and quotaChecker know what is not in a request:
// what the caller may do, and which objects the namespace has.
type accessChecker interface {
	maySubmit(ctx context.Context, user authnv1.UserInfo, namespace string) (bool, error)
}

type tokenChecker interface {
	holder(ctx context.Context, job *v1alpha1.BatchJob) (*v1alpha1.BatchJob, error)
}

type envFinder interface {
	find(ctx context.Context, job *v1alpha1.BatchJob) (func(ref string) validation.EnvState, error)
}

type quotaChecker interface {
	admit(ctx context.Context, c claim) (answer, error)
}

// batchJobHandler answers admission requests for BatchJobs.
type batchJobHandler struct {
	// validator returns the rules for a namespace with these ComputeEnvs. envs is nil for an
	// update, whose rules do not need them.
	validator func(envs func(ref string) validation.EnvState) batchJobValidator
	access    accessChecker
	envs      envFinder
	tokens    tokenChecker
	quota     quotaChecker
	synced    func() bool // reports whether the caches of tokens and quota are synced
}

// Handle answers one request.
func (h *batchJobHandler) Handle(ctx context.Context, req admission.Request) admission.Response {
	return respond(ctx, req, h.validate)
}

// validate returns the problems of the request's object, and warnings.
func (h *batchJobHandler) validate(ctx context.Context, req admission.Request) (verdict, error) {
	job, err := decode[v1alpha1.BatchJob](req.Object)
	if err != nil {
		return verdict{}, err
	}
	switch req.Operation {
	case admissionv1.Create:
		// The request has both; the object need not.
		job.Namespace, job.Name = req.Namespace, cmp.Or(job.Name, req.Name, string(req.UID))
		return h.validateCreate(ctx, req, job)
	case admissionv1.Update:
		old, err := decode[v1alpha1.BatchJob](req.OldObject)
		if err != nil {
			return verdict{}, err
		}
		v := h.validator(nil)
		return verdict{v.ValidateUpdate(old, job), append(v.UpdateWarnings(old, job), v.Warnings(job)...)}, nil
	default:
		return verdict{}, fmt.Errorf("unexpected operation %q", req.Operation)
	}
}

// validateCreate first checks whether the caller may submit at all: a caller who may not
// learns nothing else. It checks the quota last, since that reserves capacity.
func (h *batchJobHandler) validateCreate(ctx context.Context, req admission.Request, job *v1alpha1.BatchJob) (verdict, error) {
	if refusal, err := admitCaller(ctx, h.access, h.synced, req.UserInfo, job.Namespace); err != nil || refusal != nil {
		return verdict{problems: refusal}, err
	}
	envs, err := h.envs.find(ctx, job)
	if err != nil {
		return verdict{}, temporaryError{err}
	}
	size := validation.StoredSize(job)
	rules := h.validator(envs)
	v := verdict{rules.ValidateCreate(job), rules.Warnings(job)}
	holder, err := h.tokens.holder(ctx, job)
	if err != nil {
		return verdict{}, temporaryError{err}
	}
	if holder != nil {
		v.problems = append(v.problems, h.otherRequest(holder, job)...)
	}
	err = v.count(ctx, h.quota, errcode.JobQuota, req, job.Name, size)
	return v, err
}

// otherRequest returns the problem that job and holder have the same clientToken and
// different requests; nil if the requests are the same.
func (h *batchJobHandler) otherRequest(holder, job *v1alpha1.BatchJob) []validation.Problem {
	if plan.SameRequest(holder, job) {
		return nil
	}
	difference := ""
	if changes := h.validator(nil).ValidateUpdate(holder, withSteeringOf(job, holder)); len(changes) > 0 {
		difference = fmt.Sprintf(" (first difference: %s)", sanitize.Truncate(changes[0].Field.String(), maxQuotedPath))
	}
	return []validation.Problem{{
		Code: errcode.InvalidParameterValue, Field: field.NewPath("spec", "clientToken"),
		Detail: fmt.Sprintf("must be new for each different request: BatchJob %s has this clientToken and another request%s", quoted(holder.Name), difference),
	}}
}

// withSteeringOf returns job with the fields of other that are not part of the request, so that
// ValidateUpdate compares only the requests.
func withSteeringOf(job, other *v1alpha1.BatchJob) *v1alpha1.BatchJob {
	out := *job
	out.Spec.Suspend, out.Spec.Terminate = other.Spec.Suspend, other.Spec.Terminate
	out.Spec.RetryToken, out.Spec.TTLSecondsAfterFinished = other.Spec.RetryToken, other.Spec.TTLSecondsAfterFinished
	return &out
}
