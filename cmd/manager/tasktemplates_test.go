// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
)

// shortJob is a job whose task is the rest of the template render.
const shortJob = `{apiVersion: batchcompute.dev/v1alpha1, kind: BatchJob, metadata: {name: short, namespace: templates},
  spec: {placement: {zone: z-1}, suspend: true, job: {tasks: [{taskTemplate: render, taskInstanceNum: 3, application: {docker: {image: "busybox:1.37"}}}]}}}`

// testTaskTemplates is the life of a job whose task names a TaskTemplate.
func (c *cluster) testTaskTemplates(t *testing.T) {
	c.namespace(t, "templates", "")
	s := c.as(t, "", "templates")
	_, err := s.create(t.Context(), shortJob)
	if got := causes(err); !slices.Equal(got, []string{"ResourceNotFound.TaskTemplate spec.job.tasks[0].taskTemplate"}) {
		t.Errorf("without the template: causes %q of %v", got, err)
	}
	_, err = s.create(t.Context(), aTemplate)
	must(t, err)
	t.Run("dry run", c.testCompletedDryRun)
	t.Run("applied again", func(t *testing.T) { c.testCompletedAgain(t, s) })
	t.Run("permission", c.testCompletedPermission)
	t.Run("limits", func(t *testing.T) { c.testCompletedLimits(t, s) })
	t.Run("without the webhook", func(t *testing.T) { c.testNotCompleted(t, s) })
}

func (c *cluster) stored(t *testing.T, name string) *v1alpha1.BatchJob {
	t.Helper()
	job := &v1alpha1.BatchJob{}
	must(t, c.Get(t.Context(), client.ObjectKey{Namespace: "templates", Name: name}, job))
	return job
}

// isCompleted says what is wrong with the task of a job that was created from shortJob.
func isCompleted(task *v1alpha1.Task) error {
	if a := task.Application; a.Command != "true" || a.DeliveryForm != "LOCAL" || a.Docker == nil || a.Docker.Image != "busybox:1.37" ||
		task.ComputeEnv == nil || *task.TaskInstanceNum != 3 || task.TaskTemplate != "render" {
		return fmt.Errorf("stored task %+v", task)
	}
	return nil
}

func (c *cluster) testCompletedDryRun(t *testing.T) {
	out, err := c.run(t, shortJob, "create", "--dry-run=server", "-o", "jsonpath={.spec.job.tasks[0].application.command}", "-f", "-")
	if err != nil || out != "true" {
		t.Errorf("kubectl create --dry-run=server: %v: %s", err, out)
	}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: "templates", Name: "short"}, &v1alpha1.BatchJob{}); !apierrors.IsNotFound(err) {
		t.Errorf("after a dry run: %v", err)
	}
}

// testCompletedAgain applies the same manifests again and again, also after the template has changed and after it
// was deleted.
func (c *cluster) testCompletedAgain(t *testing.T, s *submitter) {
	manifest := func(name string) string { return strings.Replace(shortJob, "name: short", "name: "+name, 1) }
	applies := map[string][]string{
		"client-side": {"apply", "-f", "-"},
		"server-side": {"apply", "--server-side", "--field-manager=argocd", "-f", "-"},
	}
	version := func(name string) string {
		job := c.stored(t, name)
		return fmt.Sprint(job.Generation, " ", job.ResourceVersion)
	}
	first := map[string]string{}
	for name, args := range applies {
		if out, err := c.run(t, manifest(name), args...); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		if err := isCompleted(&c.stored(t, name).Spec.Job.Tasks[0]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		first[name] = c.settled(t, func() string { return version(name) })
	}
	again := func(what string) {
		t.Helper()
		for name, args := range applies {
			for range 2 {
				if out, err := c.run(t, manifest(name), args...); err != nil {
					t.Errorf("%s, %s: %v: %s", what, name, err, out)
				}
			}
			if job := c.stored(t, name); job.Generation != 1 {
				t.Errorf("%s, %s: generation %d, and %v", what, name, job.Generation, isCompleted(&job.Spec.Job.Tasks[0]))
			}
			if name == "server-side" && version(name) != first[name] {
				t.Errorf("%s, %s: %s, was %s", what, name, version(name), first[name])
			}
			diff := slices.Concat([]string{"diff"}, args[1:])
			if out, err := c.run(t, manifest(name), diff...); err != nil || out != "" {
				t.Errorf("%s, kubectl %s: %v: %s", what, strings.Join(diff, " "), err, out)
			}
		}
	}
	again("nothing changed")
	template, err := s.templates.Get(t.Context(), "render", metav1.GetOptions{})
	must(t, err)
	must(t, unstructured.SetNestedField(template.Object, "false", "spec", "taskTemplateInfo", "application", "command"))
	_, err = s.templates.Update(t.Context(), template, metav1.UpdateOptions{})
	must(t, err)
	again("the template changed")
	must(t, s.templates.Delete(t.Context(), "render", metav1.DeleteOptions{}))
	again("the template was deleted")
	for text, want := range map[string]string{
		"taskInstanceNum: 4":                   "spec.job.tasks[0].taskInstanceNum",
		"taskInstanceNum: 3, taskName: other":  "spec.job.tasks[0].taskName",
		"taskInstanceNum: 3, envId: elsewhere": "spec.job.tasks[0].computeEnv",
	} {
		out, err := c.run(t, strings.Replace(manifest("client-side"), "taskInstanceNum: 3", text, 1), "apply", "-f", "-")
		if err == nil || !strings.Contains(out, want+": UnsupportedOperation: must not change after the job was submitted") {
			t.Errorf("%s: %v: %s", text, err, out)
		}
	}
	// What may change changes, with the short task too, and without a call of this webhook.
	out, err := c.run(t, strings.Replace(manifest("client-side"), "suspend: true", "suspend: true, terminate: true", 1), "apply", "-f", "-")
	if err != nil || !c.stored(t, "client-side").Spec.Terminate {
		t.Errorf("terminate: %v: %s", err, out)
	}
	_, err = s.create(t.Context(), aTemplate)
	must(t, err)
}

// testCompletedPermission: who may not submit learns nothing about templates, and nobody gets one of another namespace.
func (c *cluster) testCompletedPermission(t *testing.T) {
	c.onlyCreate(t)
	c.bind(t, "intruder", "only-create", "templates")
	for _, template := range []string{"render", "nowhere"} {
		eventually(t, func() error {
			_, err := c.as(t, "intruder", "templates").create(t.Context(), strings.Replace(shortJob, "render", template, 1))
			if got := causes(err); !slices.Equal(got, []string{"UnauthorizedOperation.UserNotAllowedToUseBatch metadata.namespace"}) {
				return fmt.Errorf("causes %q of %w", got, err)
			}
			return nil
		})
	}
	c.namespace(t, "templates-elsewhere", "")
	_, err := c.as(t, "", "templates-elsewhere").create(t.Context(), shortJob)
	if got := causes(err); !slices.Equal(got, []string{"ResourceNotFound.TaskTemplate spec.job.tasks[0].taskTemplate"}) {
		t.Errorf("a template of another namespace: causes %q of %v", got, err)
	}
}

// testCompletedLimits: a job with the most tasks is completed, within the cost that the API server allows the condition
// of the webhook, and what would be too large is refused.
func (c *cluster) testCompletedLimits(t *testing.T, s *submitter) {
	tasks := func(n int, last string) func(*unstructured.Unstructured) {
		list := make([]any, n)
		for i := range list {
			list[i] = map[string]any{"taskName": fmt.Sprint("t", i), "computeEnv": map[string]any{}, "application": map[string]any{"deliveryForm": "LOCAL", "command": "true"}}
		}
		list[n-1] = map[string]any{"taskName": "last", "taskTemplate": last}
		return set(list, "spec", "job", "tasks")
	}
	job, err := s.create(t.Context(), shortJob, named("most"), tasks(v1alpha1.MaxTasks, "render"))
	if err != nil {
		t.Fatal("5000 tasks:", err)
	}
	must(t, s.jobs.Delete(t.Context(), job.GetName(), metav1.DeleteOptions{}))
	_, err = s.create(t.Context(), shortJob, named("more"), tasks(v1alpha1.MaxTasks+1, "render"))
	if got := causes(err); !slices.Contains(got, "InvalidParameterValue.LimitExceeded spec.job.tasks") {
		t.Errorf("5001 tasks: causes %q of %v", got, err)
	}
	_, err = s.create(t.Context(), strings.ReplaceAll(aTemplate, "render", "large"), func(o *unstructured.Unstructured) {
		set([]any{map[string]any{"name": "A", "value": strings.Repeat("y", 100<<10)}}, "spec", "taskTemplateInfo", "envVars")(o)
	})
	must(t, err)
	many := func(template func(i int) string) func(*unstructured.Unstructured) {
		list := make([]any, v1alpha1.MaxTasks)
		for i := range list {
			list[i] = map[string]any{"taskName": fmt.Sprint("t", i), "taskTemplate": template(i)}
		}
		return set(list, "spec", "job", "tasks")
	}
	_, err = s.create(t.Context(), shortJob, named("grown"), many(func(int) string { return "large" }))
	if got := causes(err); !slices.Equal(got, []string{"InvalidParameterValue.LimitExceeded spec.job.tasks"}) {
		t.Errorf("5000 copies of a large template: causes %q of %v", got, err)
	}
	_, err = s.create(t.Context(), shortJob, named("distinct"), many(func(i int) string { return fmt.Sprint("t", i) }))
	if got := causes(err); !slices.Equal(got, []string{"InvalidParameterValue.LimitExceeded spec.job.tasks"}) {
		t.Errorf("5000 templates: causes %q of %v", got, err)
	}
	_, err = s.create(t.Context(), shortJob, named("small"), many(func(int) string { return "render" }))
	if err != nil {
		t.Errorf("5000 copies of a small template: %v", err)
	}
}

// testNotCompleted: without the webhook a short task is refused for what it lacks.
func (c *cluster) testNotCompleted(t *testing.T, s *submitter) {
	m, _ := c.configurations(t)
	whole := m.DeepCopy().Webhooks
	m.Webhooks = m.Webhooks[:1]
	must(t, c.Update(t.Context(), m))
	defer func() {
		m, _ := c.configurations(t)
		m.Webhooks = whole
		must(t, c.Update(t.Context(), m))
		eventually(t, func() error {
			_, err := s.create(t.Context(), shortJob, named("completed"))
			return client.IgnoreAlreadyExists(err)
		})
	}()
	eventually(t, func() error { // the API server hears of the configuration through a watch
		_, err := s.create(t.Context(), shortJob, named("bypassed"))
		if got := causes(err); !slices.Contains(got, "MissingParameter spec.job.tasks[0].application.command") {
			_ = s.jobs.Delete(t.Context(), "bypassed", metav1.DeleteOptions{})
			return fmt.Errorf("causes %q: %w", got, err)
		}
		return nil
	})
}
