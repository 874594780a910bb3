// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package webhook answers the API server's admission requests with BatchCompute's
// error codes. It holds no rule about a request's content: those are in
// internal/validation. Its own are about what only the cluster knows: who asks, what the
// namespace keeps already, and what a client token stands for.
package webhook

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"

	admissionv1 "k8s.io/api/admission/v1"
	authnv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/validation"
)

// The webhook is asked about creations and about changes of the spec, nothing else:
// not about status, not about metadata (so finalizers come off and labels go on while
// the manager is down), never about deletion.
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

// accessChecker, tokenChecker and quotaChecker know what a request does not say: what
// the caller may do, and what else is in the namespace.
type accessChecker interface {
	maySubmit(ctx context.Context, user authnv1.UserInfo, namespace string) (bool, error)
}

type tokenChecker interface {
	holder(ctx context.Context, job *v1alpha1.BatchJob) (*v1alpha1.BatchJob, error)
}

type quotaChecker interface {
	admit(ctx context.Context, namespace, name string, reserve bool) (answer, error)
}

// batchJobHandler answers admission requests for BatchJobs.
type batchJobHandler struct {
	validator batchJobValidator
	access    accessChecker
	tokens    tokenChecker
	quota     quotaChecker
	synced    func() bool // says whether tokens and quota know what the cluster holds
}

// verdict is what there is to say about a request.
type verdict struct {
	problems []validation.Problem
	warnings []string
}

// Handle answers one request. A panic in a rule refuses the request with
// InternalError; it never takes the manager down.
func (h *batchJobHandler) Handle(ctx context.Context, req admission.Request) (resp admission.Response) {
	logger := log.FromContext(ctx).WithValues("requestID", req.UID, "object", klog.KRef(req.Namespace, req.Name))
	defer func() {
		if r := recover(); r != nil {
			// Neither the panic's value nor the request is logged: both may hold a part of the spec.
			logger.Error(nil, "Admission panicked", "stack", string(debug.Stack()))
			resp = internalError(req)
		}
	}()
	v, err := h.validate(log.IntoContext(ctx, logger), req)
	var later temporaryError
	switch {
	case errors.As(err, &later):
		logger.Error(err, "Could not decide on a BatchJob yet")
		return temporary(req)
	case err != nil:
		logger.Error(err, "Could not decide on a BatchJob")
		return internalError(req)
	case len(v.problems) > 0:
		logger.Info("Refused a BatchJob", "user", req.UserInfo.Username,
			"code", v.problems[0].Code, "field", v.problems[0].Field.String(), "problems", len(v.problems))
		return denial(req, v.problems)
	}
	return admission.Allowed("").WithWarnings(v.warnings...)
}

// temporaryError is a failure that the same request may not meet again.
type temporaryError struct{ error }

func (e temporaryError) Unwrap() error { return e.error }

// validate returns what is wrong with the request's object, and what it should know.
func (h *batchJobHandler) validate(ctx context.Context, req admission.Request) (verdict, error) {
	job, err := decode(req.Object)
	if err != nil {
		return verdict{}, err
	}
	switch req.Operation {
	case admissionv1.Create:
		// The API server tells both; the object need not.
		job.Namespace, job.Name = req.Namespace, cmp.Or(job.Name, req.Name, string(req.UID))
		return h.validateCreate(ctx, req, job)
	case admissionv1.Update:
		old, err := decode(req.OldObject)
		if err != nil {
			return verdict{}, err
		}
		return verdict{h.validator.ValidateUpdate(old, job), append(h.validator.UpdateWarnings(old, job), h.validator.Warnings(job)...)}, nil
	default:
		return verdict{}, fmt.Errorf("operation %s is none of this webhook", req.Operation)
	}
}

// validateCreate asks first whether the caller may submit at all: a caller who may not
// learns nothing else. The quota comes last, since whom it lets in is counted.
func (h *batchJobHandler) validateCreate(ctx context.Context, req admission.Request, job *v1alpha1.BatchJob) (verdict, error) {
	allowed, err := h.access.maySubmit(ctx, req.UserInfo, job.Namespace)
	if err != nil {
		return verdict{}, temporaryError{err}
	}
	if !allowed {
		return verdict{problems: []validation.Problem{notAllowed(req.UserInfo.Username, job.Namespace)}}, nil
	}
	if !waitUntil(ctx, h.synced) {
		return verdict{}, temporaryError{errNotSynced}
	}
	v := verdict{h.validator.ValidateCreate(job), h.validator.Warnings(job)}
	holder, err := h.tokens.holder(ctx, job)
	if err != nil {
		return verdict{}, temporaryError{err}
	}
	if holder != nil {
		v.problems = append(v.problems, h.otherRequest(holder, job)...)
	}
	dryRun := req.DryRun != nil && *req.DryRun
	a, err := h.quota.admit(ctx, job.Namespace, job.Name, len(v.problems) == 0 && !dryRun)
	if err != nil {
		return verdict{}, temporaryError{err}
	}
	if a.refusal != "" {
		v.problems = append(v.problems, validation.Problem{Code: errcode.JobQuota, Field: namespaceField, Detail: a.refusal})
	}
	if a.warning != "" {
		v.warnings = append(v.warnings, a.warning)
	}
	return v, nil
}

// namespaceField is what the problems are about that are none of the spec.
var namespaceField = field.NewPath("metadata", "namespace")

func notAllowed(user, namespace string) validation.Problem {
	return validation.Problem{Code: errcode.UserNotAllowedToUseBatch, Field: namespaceField, Detail: fmt.Sprintf(
		"must be one where user %s has the verb %s on batchjobs.%s, as the roles edit and admin have it, got %s",
		quoted(user), verbSubmit, v1alpha1.GroupVersion.Group, quoted(namespace))}
}

// otherRequest returns the problem that the token of job stands for the request of
// holder, if that is another one.
func (h *batchJobHandler) otherRequest(holder, job *v1alpha1.BatchJob) []validation.Problem {
	same := *job // how the jobs are steered does not make them other requests
	same.Spec.Suspend, same.Spec.Terminate = holder.Spec.Suspend, holder.Spec.Terminate
	same.Spec.RetryToken, same.Spec.TTLSecondsAfterFinished = holder.Spec.RetryToken, holder.Spec.TTLSecondsAfterFinished
	changes := h.validator.ValidateUpdate(holder, &same)
	if len(changes) == 0 {
		return nil
	}
	return []validation.Problem{{
		Code: errcode.InvalidParameterValue, Field: field.NewPath("spec", "clientToken"),
		Detail: fmt.Sprintf("must be different for every different request, but BatchJob %s has it and differs, first in %s",
			quoted(holder.Name), cut(changes[0].Field.String(), maxQuotedPath)),
	}}
}

// maxQuotedPath is how much of a path a sentence repeats. Unit: bytes.
const maxQuotedPath = 100

// quoted is a text as a sentence repeats it: escaped, and cut.
func quoted(s string) string { return validation.Quote(s) }

// decode reads an object that the API server has checked against the schema. Its
// error names no value of the object.
func decode(raw runtime.RawExtension) (*v1alpha1.BatchJob, error) {
	job := &v1alpha1.BatchJob{}
	if err := json.Unmarshal(raw.Raw, job); err != nil {
		return nil, fmt.Errorf("decoding a BatchJob of %d bytes: %T", len(raw.Raw), err)
	}
	return job, nil
}
