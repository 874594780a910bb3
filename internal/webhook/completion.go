// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"encoding/json"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/validation"
)

// The API server calls this webhook only for a create, or a change of spec.job, of a job in which a task names a
// TaskTemplate: it completes such tasks. Other jobs never wait for it. The schema, which is checked later, refuses a job
// whose types are wrong, and the other webhook one with more than 5000 tasks, so they are not completed; that bounds the
// cost of the condition.
//
// +kubebuilder:webhook:path=/mutate-batchcompute-dev-v1alpha1-batchjob-tasktemplate,mutating=true,failurePolicy=fail,sideEffects=None,matchPolicy=Equivalent,reinvocationPolicy=Never,timeoutSeconds=5,groups=batchcompute.dev,resources=batchjobs,verbs=create;update,versions=v1alpha1,name=batchjob-tasktemplate.batchcompute.dev,admissionReviewVersions=v1,patch=`{"matchConditions":[{"name":"a-task-names-a-template","expression":"has(object.spec) && type(object.spec) == map && has(object.spec.job) && type(object.spec.job) == map && has(object.spec.job.tasks) && type(object.spec.job.tasks) == list && size(object.spec.job.tasks) <= 5000 && object.spec.job.tasks.exists(t, type(t) == map && has(t.taskTemplate))"},{"name":"job-is-new-or-changed","expression":"request.operation == 'CREATE' || !has(oldObject.spec) || !has(oldObject.spec.job) || object.spec.job != oldObject.spec.job"}]}`

// completePath is where the webhook is served; the marker above repeats it.
const completePath = "/mutate-batchcompute-dev-v1alpha1-batchjob-tasktemplate"

// templateRules are what this webhook needs of internal/validation.
type templateRules interface {
	ValidateTaskTemplates(job *v1alpha1.BatchJob, exists func(name string) bool) []validation.Problem
	ValidateCompletedTasks(job *v1alpha1.BatchJob) []validation.Problem
}

// templateFinder reads the task of a TaskTemplate; nil if there is none.
type templateFinder interface {
	find(ctx context.Context, namespace, name string) (*v1alpha1.Task, error)
}

// completionHandler completes the tasks of BatchJobs from their TaskTemplates.
type completionHandler struct {
	validator templateRules
	access    accessChecker
	templates templateFinder
}

// Handle answers one request.
func (h *completionHandler) Handle(ctx context.Context, req admission.Request) admission.Response {
	var patches []taskPatch
	resp := respond(ctx, req, func(ctx context.Context, req admission.Request) (v verdict, err error) {
		v.problems, patches, err = h.complete(ctx, req)
		return v, err
	})
	if !resp.Allowed || len(patches) == 0 {
		return resp
	}
	data, err := json.Marshal(patches)
	if err != nil {
		return internalError(req)
	}
	kind := admissionv1.PatchTypeJSONPatch
	resp.Patch, resp.PatchType = data, &kind
	return resp
}

// taskPatch is the operation of a JSON patch that replaces a task.
type taskPatch struct {
	Op    string        `json:"op"`
	Path  string        `json:"path"`
	Value v1alpha1.Task `json:"value"`
}

// complete returns the patches of the tasks that name a template.
func (h *completionHandler) complete(ctx context.Context, req admission.Request) ([]validation.Problem, []taskPatch, error) {
	job, ok := readJob(req.Object)
	if !ok {
		return nil, nil, nil // the schema is checked after this webhook, and refuses what cannot be read here
	}
	var sources func(i int) *v1alpha1.Task
	switch req.Operation {
	case admissionv1.Create:
		read, problems, err := h.read(ctx, req, job)
		if err != nil || len(problems) > 0 {
			return problems, nil, err
		}
		sources = read
	case admissionv1.Update:
		old, err := decode[v1alpha1.BatchJob](req.OldObject)
		if err != nil {
			return nil, nil, err
		}
		if len(old.Spec.Job.Tasks) != len(job.Spec.Job.Tasks) {
			return nil, nil, nil // which may not change: the other webhook says so
		}
		// The spec does not change after the create. Who applies the manifest again, with the short task, means
		// the stored one, whatever has become of the template.
		sources = func(i int) *v1alpha1.Task { return &old.Spec.Job.Tasks[i] }
	default:
		return nil, nil, fmt.Errorf("unexpected operation %q", req.Operation)
	}
	var patches []taskPatch
	tasks := job.Spec.Job.Tasks
	for i := range tasks {
		if tasks[i].TaskTemplate != "" {
			tasks[i] = resolve.Complete(&tasks[i], sources(i))
			patches = append(patches, taskPatch{"replace", fmt.Sprintf("/spec/job/tasks/%d", i), tasks[i]})
		}
	}
	return h.validator.ValidateCompletedTasks(job), patches, nil
}

// readJob returns a job, and false for JSON that does not fit the type.
func readJob(raw runtime.RawExtension) (*v1alpha1.BatchJob, bool) {
	job, err := decode[v1alpha1.BatchJob](raw)
	return job, err == nil
}

// read returns what the tasks of a new job are completed from. A template is read for a caller who may
// submit in the namespace, once for all tasks that name it.
func (h *completionHandler) read(ctx context.Context, req admission.Request, job *v1alpha1.BatchJob) (func(i int) *v1alpha1.Task, []validation.Problem, error) {
	always := func() bool { return true } // it needs no cache
	if refusal, err := admitCaller(ctx, h.access, always, req.UserInfo, req.Namespace); err != nil || refusal != nil {
		return nil, refusal, err
	}
	if problems := h.validator.ValidateTaskTemplates(job, nil); len(problems) > 0 {
		return nil, problems, nil
	}
	found := map[string]*v1alpha1.Task{}
	for _, name := range resolve.TaskTemplates(job) {
		task, err := h.templates.find(ctx, req.Namespace, name)
		if err != nil {
			return nil, nil, temporaryError{err}
		}
		found[name] = task
	}
	problems := h.validator.ValidateTaskTemplates(job, func(name string) bool { return found[name] != nil })
	return func(i int) *v1alpha1.Task { return found[job.Spec.Job.Tasks[i].TaskTemplate] }, problems, nil
}

// liveTemplates are the TaskTemplates in the API server.
type liveTemplates struct{ reader client.Reader }

// find reads the task of a template, which may have been created just before the job; nil if there is none.
func (l liveTemplates) find(ctx context.Context, namespace, name string) (*v1alpha1.Task, error) {
	t := &v1alpha1.TaskTemplate{}
	err := l.reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, t)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading TaskTemplate %s: %w", name, err)
	}
	return &t.Spec.TaskTemplateInfo, nil
}
