// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package webhook answers the API server's admission requests with BatchCompute's
// error codes. It holds no rule: those are in internal/validation.
package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime/debug"

	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"batchcompute.dev/operator/api/v1alpha1"
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
}

// SetupBatchJob serves the webhook for BatchJob on the manager's webhook server.
func SetupBatchJob(mgr ctrl.Manager, v validation.Validator) {
	mgr.GetWebhookServer().Register(batchJobPath, &admission.Webhook{
		Handler: &batchJobHandler{validator: v},
		// The handler says itself what a line is about.
		LogConstructor: func(base logr.Logger, _ *admission.Request) logr.Logger { return base },
	})
}

// batchJobHandler answers admission requests for BatchJobs.
type batchJobHandler struct {
	validator batchJobValidator
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
	problems, warnings, err := h.validate(req)
	if err != nil {
		logger.Error(err, "Could not decide on a BatchJob")
		return internalError(req)
	}
	if len(problems) > 0 {
		logger.Info("Refused a BatchJob", "user", req.UserInfo.Username,
			"code", problems[0].Code, "field", problems[0].Field.String(), "problems", len(problems))
		return denial(req, problems)
	}
	return admission.Allowed("").WithWarnings(warnings...)
}

// validate returns what is wrong with the request's object, and what it should know.
func (h *batchJobHandler) validate(req admission.Request) ([]validation.Problem, []string, error) {
	job, err := decode(req.Object)
	if err != nil {
		return nil, nil, err
	}
	switch req.Operation {
	case admissionv1.Create:
		return h.validator.ValidateCreate(job), h.validator.Warnings(job), nil
	case admissionv1.Update:
		old, err := decode(req.OldObject)
		if err != nil {
			return nil, nil, err
		}
		return h.validator.ValidateUpdate(old, job), h.validator.Warnings(job), nil
	default:
		return nil, nil, fmt.Errorf("operation %s is none of this webhook", req.Operation)
	}
}

// decode reads an object that the API server has checked against the schema. Its
// error names no value of the object.
func decode(raw runtime.RawExtension) (*v1alpha1.BatchJob, error) {
	job := &v1alpha1.BatchJob{}
	if err := json.Unmarshal(raw.Raw, job); err != nil {
		return nil, fmt.Errorf("decoding a BatchJob of %d bytes: %T", len(raw.Raw), err)
	}
	return job, nil
}
