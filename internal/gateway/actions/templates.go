// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package actions

import (
	"cmp"
	"context"
	"crypto/rand"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/convert"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/gateway/objects"
	"batchcompute.dev/operator/internal/gateway/refusal"
	"batchcompute.dev/operator/internal/gateway/view"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/params"
	"batchcompute.dev/operator/internal/validation"
)

// createTemplateRequest are the parameters of CreateTaskTemplate.
type createTemplateRequest struct {
	TaskTemplateName        string         `params:"required"`
	TaskTemplateInfo        *params.Object `params:"required"`
	TaskTemplateDescription string
	Tags                    []view.Tag
}

// templateID is the answer of CreateTaskTemplate.
type templateID struct {
	TaskTemplateID string `json:"TaskTemplateId"`
}

// createTaskTemplate creates a template, and then the Secrets of the passwords and keys in its task, which it owns.
func createTaskTemplate(ctx context.Context, c *call, in *createTemplateRequest) (any, error) {
	template := &v1alpha1.TaskTemplate{}
	template.Namespace, template.Name = c.client.Namespace, naming.TemplateName(rand.Text())
	task, secrets, err := templateTask(in.TaskTemplateInfo, template.Name)
	if err != nil {
		return nil, err
	}
	template.Spec = v1alpha1.TaskTemplateSpec{
		TaskTemplateName: in.TaskTemplateName, TaskTemplateDescription: in.TaskTemplateDescription, TaskTemplateInfo: *task,
	}
	for _, tag := range in.Tags {
		template.Spec.Tags = append(template.Spec.Tags, v1alpha1.Tag(tag))
	}
	if err := c.client.Create(ctx, template); err != nil {
		return nil, refusal.Explain(err, func() []validation.Problem {
			return validation.Validator{Catalog: c.Catalog}.ValidateTaskTemplateCreate(template)
		})
	}
	if err := c.templateSecrets(ctx, template, secrets); err != nil {
		return nil, err
	}
	id := naming.TemplateID(template.Name, template.UID)
	c.Objects.AwaitTemplate(ctx, template.Namespace, id, template.Generation)
	return templateID{id}, nil
}

// templateTask converts the task of a request, for the template of a name. The names of its Secrets are new ones each time:
// those of the task that it replaces may still be in use by jobs.
func templateTask(info *params.Object, name string) (*v1alpha1.Task, []corev1.Secret, error) {
	if info == nil {
		return nil, nil, refusal.New(errcode.MissingParameter, "TaskTemplateInfo: must be given")
	}
	task, secrets, err := convert.TaskFromParams(info, convert.Options{Name: name + "-" + newPart()})
	if err != nil {
		return nil, nil, firstProblem(err)
	}
	for i := range secrets {
		secrets[i].Labels = map[string]string{v1alpha1.LabelCredentialsOf: name}
	}
	return task, secrets, nil
}

// templateSecrets creates the Secrets of a template.
func (c *call) templateSecrets(ctx context.Context, template *v1alpha1.TaskTemplate, secrets []corev1.Secret) error {
	return c.createSecrets(ctx, secrets, metav1.OwnerReference{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: "TaskTemplate", Name: template.Name, UID: template.UID,
	})
}

// modifyTemplateRequest are the parameters of ModifyTaskTemplate.
type modifyTemplateRequest struct {
	TaskTemplateID          string `json:"TaskTemplateId" params:"required"`
	TaskTemplateName        *string
	TaskTemplateDescription *string
	TaskTemplateInfo        *params.Object
}

// modifyTaskTemplate changes a template. The Secrets of a new task are created after the change, so nothing is left of one
// that is refused.
func modifyTaskTemplate(ctx context.Context, c *call, in *modifyTemplateRequest) (any, error) {
	if err := objects.CheckTemplateID(in.TaskTemplateID); err != nil {
		return nil, err
	}
	if in.TaskTemplateName == nil && in.TaskTemplateDescription == nil && in.TaskTemplateInfo == nil {
		return nil, refusal.New(errcode.AtLeastOneAttribute, "one of TaskTemplateName, TaskTemplateDescription and TaskTemplateInfo must be given")
	}
	known, err := c.Objects.Template(ctx, c.client, in.TaskTemplateID)
	if err != nil {
		return nil, err
	}
	var task *v1alpha1.Task
	var secrets []corev1.Secret
	if in.TaskTemplateInfo != nil {
		if task, secrets, err = templateTask(in.TaskTemplateInfo, known.Name); err != nil {
			return nil, err
		}
	}
	changed, err := c.changeTemplate(ctx, known, func(t *v1alpha1.TaskTemplate) {
		if in.TaskTemplateName != nil {
			t.Spec.TaskTemplateName = *in.TaskTemplateName
		}
		if in.TaskTemplateDescription != nil {
			t.Spec.TaskTemplateDescription = *in.TaskTemplateDescription
		}
		if task != nil {
			t.Spec.TaskTemplateInfo = *task.DeepCopy()
		}
	})
	if err != nil {
		return nil, err
	}
	if err := c.templateSecrets(ctx, changed, secrets); err != nil {
		return nil, err
	}
	c.Objects.AwaitTemplate(ctx, changed.Namespace, in.TaskTemplateID, changed.Generation)
	return nil, nil
}

// changeTemplate patches a template under an optimistic lock, and returns what it is then.
func (c *call) changeTemplate(ctx context.Context, known *v1alpha1.TaskTemplate, change func(*v1alpha1.TaskTemplate)) (*v1alpha1.TaskTemplate, error) {
	for try := 1; ; try++ {
		now, err := objects.WholeTemplate(ctx, c.client, known.Name)
		if err != nil {
			return nil, err
		}
		if now == nil || now.UID != known.UID {
			return nil, templateNotFound(known)
		}
		after := now.DeepCopy()
		change(after)
		wanted := after.DeepCopy() // the answer is decoded into after
		err = c.client.Patch(ctx, after, client.MergeFromWithOptions(now, client.MergeFromWithOptimisticLock{}))
		switch {
		case err == nil:
			return after, nil
		case apierrors.IsNotFound(err):
			return nil, templateNotFound(known)
		case !apierrors.IsConflict(err), try == maxTries:
			return nil, refusal.Explain(err, func() []validation.Problem {
				return validation.Validator{Catalog: c.Catalog}.ValidateTaskTemplateUpdate(now, wanted)
			})
		}
		pause(ctx, try)
	}
}

func templateNotFound(t *v1alpha1.TaskTemplate) error {
	return refusal.New(errcode.TaskTemplateNotFound, "there is no task template %s", naming.TemplateID(t.Name, t.UID))
}

// deleteTemplatesRequest are the parameters of DeleteTaskTemplates.
type deleteTemplatesRequest struct {
	TaskTemplateIDs []string `json:"TaskTemplateIds" params:"required"`
}

// deleteTaskTemplates deletes templates. It deletes none before it has found all.
func deleteTaskTemplates(ctx context.Context, c *call, in *deleteTemplatesRequest) (any, error) {
	switch {
	case len(in.TaskTemplateIDs) == 0:
		return nil, refusal.New(errcode.MissingParameter, "TaskTemplateIds: must be given")
	case len(in.TaskTemplateIDs) > maxIDs:
		return nil, refusal.New(errcode.InvalidParameterValue, "TaskTemplateIds must have at most %d items, got %d", maxIDs, len(in.TaskTemplateIDs))
	}
	for _, id := range in.TaskTemplateIDs {
		if err := objects.CheckTemplateID(id); err != nil {
			return nil, err
		}
	}
	var templates []*v1alpha1.TaskTemplate
	for _, id := range slices.Compact(slices.Sorted(slices.Values(in.TaskTemplateIDs))) {
		template, err := c.Objects.Template(ctx, c.client, id)
		if err != nil {
			return nil, err
		}
		templates = append(templates, template)
	}
	for _, t := range templates {
		err := c.client.Delete(ctx, &v1alpha1.TaskTemplate{ObjectMeta: metav1.ObjectMeta{Namespace: t.Namespace, Name: t.Name}},
			client.Preconditions{UID: &t.UID}, client.PropagationPolicy(metav1.DeletePropagationBackground))
		switch {
		case apierrors.IsNotFound(err), apierrors.IsConflict(err): // the precondition is the UID
			if len(templates) == 1 {
				return nil, templateNotFound(t)
			}
		case err != nil:
			return nil, err
		}
		c.Objects.AwaitTemplate(ctx, t.Namespace, naming.TemplateID(t.Name, t.UID), 0)
	}
	return nil, nil
}

// templateListRequest are the parameters of DescribeTaskTemplates.
type templateListRequest struct {
	TaskTemplateIDs []string `json:"TaskTemplateIds"`
	Filters         []filter `params:"orItem"`
	Offset          *int64
	Limit           *int64
}

// templateList is the answer of DescribeTaskTemplates.
type templateList struct {
	TaskTemplateSet []view.Template
	TotalCount      int64
}

// describeTaskTemplates lists templates, the newest first. Identifiers that no template has are left out.
func describeTaskTemplates(ctx context.Context, c *call, in *templateListRequest) (any, error) {
	if err := checkChoice("TaskTemplateIds", in.TaskTemplateIDs, in.Filters); err != nil {
		return nil, err
	}
	for _, id := range in.TaskTemplateIDs {
		if err := objects.CheckTemplateID(id); err != nil {
			return nil, err
		}
	}
	page, err := pagingOf(in.Offset, in.Limit, defaultLimit, maxLimit, errcode.InvalidParameterValue)
	if err != nil {
		return nil, err
	}
	matches, err := matcherOf(in.Filters, map[string]property[*v1alpha1.TaskTemplate]{
		"task-template-name": equal(func(t *v1alpha1.TaskTemplate) string { return t.Spec.TaskTemplateName }),
	}, func(t *v1alpha1.TaskTemplate) []v1alpha1.Tag { return t.Spec.Tags })
	if err != nil {
		return nil, err
	}
	all, err := c.Objects.AllTemplates(ctx, c.client)
	if err != nil {
		return nil, err
	}
	if len(in.TaskTemplateIDs) > 0 {
		if all, err = c.templatesWith(ctx, in.TaskTemplateIDs); err != nil {
			return nil, err
		}
	}
	all = slices.DeleteFunc(all, func(t *v1alpha1.TaskTemplate) bool { return !matches(t) })
	slices.SortFunc(all, func(a, b *v1alpha1.TaskTemplate) int {
		return cmp.Or(b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(a.UID, b.UID))
	})
	out := templateList{[]view.Template{}, int64(len(all))}
	for _, t := range pageOf(all, page) {
		out.TaskTemplateSet = append(out.TaskTemplateSet, view.OfTemplate(t))
	}
	return out, nil
}

// templatesWith returns the templates with the identifiers; those that the cache does not have are looked for live, since
// another replica may just have created them.
func (c *call) templatesWith(ctx context.Context, ids []string) ([]*v1alpha1.TaskTemplate, error) {
	var out []*v1alpha1.TaskTemplate
	for _, id := range slices.Compact(slices.Sorted(slices.Values(ids))) {
		template, err := c.Objects.Template(ctx, c.client, id)
		if isCode(err, errcode.TaskTemplateNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, template)
	}
	return out, nil
}
