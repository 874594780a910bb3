// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"cmp"
	"context"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/validation"
)

// The API server calls this webhook for creations and changes of the spec, as it does for
// BatchJobs. A deletion is not checked: a job has a copy of the templates that it names.
//
// +kubebuilder:webhook:path=/validate-batchcompute-dev-v1alpha1-tasktemplate,mutating=false,failurePolicy=fail,sideEffects=None,matchPolicy=Equivalent,timeoutSeconds=5,groups=batchcompute.dev,resources=tasktemplates,verbs=create;update,versions=v1alpha1,name=tasktemplate.batchcompute.dev,admissionReviewVersions=v1,patch=`{"matchConditions":[{"name":"spec-is-new-or-changed","expression":"request.operation == 'CREATE' || has(object.spec) != has(oldObject.spec) || (has(object.spec) && object.spec != oldObject.spec)"}]}`

// templatePath is where this webhook is served; the marker above repeats it.
const templatePath = "/validate-batchcompute-dev-v1alpha1-tasktemplate"

// templateValidator is what this package needs of internal/validation.
type templateValidator interface {
	ValidateTaskTemplateCreate(t *v1alpha1.TaskTemplate) []validation.Problem
	ValidateTaskTemplateUpdate(oldTemplate, newTemplate *v1alpha1.TaskTemplate) []validation.Problem
	TaskTemplateWarnings(t *v1alpha1.TaskTemplate) []string
}

// templateHandler answers admission requests for TaskTemplates.
type templateHandler struct {
	validator templateValidator
	access    accessChecker
	quota     quotaChecker
	synced    func() bool // reports whether the caches of quota are synced
}

// Handle answers one request.
func (h *templateHandler) Handle(ctx context.Context, req admission.Request) admission.Response {
	return respond(ctx, req, h.validate)
}

// validate checks a TaskTemplate, in the order of batchJobHandler.validateCreate. As for a
// ComputeEnv, the caller must be one who may submit: the spec decides what the jobs of others run.
func (h *templateHandler) validate(ctx context.Context, req admission.Request) (verdict, error) {
	template, err := decode[v1alpha1.TaskTemplate](req.Object)
	if err != nil {
		return verdict{}, err
	}
	switch req.Operation {
	case admissionv1.Create:
		if refusal, err := admitCaller(ctx, h.access, h.synced, req.UserInfo, req.Namespace); err != nil || refusal != nil {
			return verdict{problems: refusal}, err
		}
		v := verdict{h.validator.ValidateTaskTemplateCreate(template), h.validator.TaskTemplateWarnings(template)}
		err = v.count(ctx, h.quota, errcode.TaskTemplateQuota, req, cmp.Or(template.Name, req.Name, string(req.UID)), 0)
		return v, err
	case admissionv1.Update:
		old, err := decode[v1alpha1.TaskTemplate](req.OldObject)
		if err != nil {
			return verdict{}, err
		}
		always := func() bool { return true } // it needs no cache
		if refusal, err := admitCaller(ctx, h.access, always, req.UserInfo, req.Namespace); err != nil || refusal != nil {
			return verdict{problems: refusal}, err
		}
		return verdict{h.validator.ValidateTaskTemplateUpdate(old, template), h.validator.TaskTemplateWarnings(template)}, nil
	default:
		return verdict{}, fmt.Errorf("unexpected operation %q", req.Operation)
	}
}
