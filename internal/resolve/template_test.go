// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/yaml"

	"batchcompute.dev/operator/api/v1alpha1"
)

func readTask(t *testing.T, text string) *v1alpha1.Task {
	t.Helper()
	task := &v1alpha1.Task{}
	if err := yaml.UnmarshalStrict([]byte(text), task); err != nil {
		t.Fatal(err)
	}
	return task
}

func TestComplete(t *testing.T) {
	for name, tc := range map[string]struct{ task, template, want string }{
		"nothing given": {
			`{taskTemplate: t}`,
			`{taskName: a, taskInstanceNum: 2, application: {command: x, deliveryForm: LOCAL}, computeEnv: {}, timeout: 5}`,
			`{taskName: a, taskInstanceNum: 2, application: {command: x, deliveryForm: LOCAL}, computeEnv: {}, timeout: 5, taskTemplate: t}`,
		},
		"given as a whole": {
			`{taskTemplate: t, envVars: [{name: A}], timeout: 0, computeEnv: {envType: MANAGED}}`,
			`{envVars: [{name: B}, {name: C}], timeout: 5, computeEnv: {agentRunningMode: {user: x}}}`,
			`{taskTemplate: t, envVars: [{name: A}], timeout: 0, computeEnv: {envType: MANAGED}}`,
		},
		"application by field": {
			`{taskTemplate: t, application: {command: y, docker: {image: b}}}`,
			`{application: {command: x, deliveryForm: PACKAGE, packagePath: p, docker: {image: a, server: s}}}`,
			`{taskTemplate: t, application: {command: y, deliveryForm: PACKAGE, packagePath: p, docker: {image: b}}}`,
		},
		"envId instead of computeEnv":  {`{taskTemplate: t, envId: e}`, `{computeEnv: {}}`, `{taskTemplate: t, envId: e}`},
		"computeEnv instead of envId":  {`{taskTemplate: t, computeEnv: {}}`, `{envId: e}`, `{taskTemplate: t, computeEnv: {}}`},
		"command instead of commands":  {`{taskTemplate: t, application: {command: x}}`, `{application: {commands: [{command: y}]}}`, `{taskTemplate: t, application: {command: x}}`},
		"commands instead of command":  {`{taskTemplate: t, application: {commands: [{command: y}]}}`, `{application: {command: x}}`, `{taskTemplate: t, application: {commands: [{command: y}]}}`},
		"an empty list is given":       {`{taskTemplate: t, envVars: []}`, `{envVars: [{name: B}]}`, `{taskTemplate: t, envVars: []}`},
		"false is given":               {`{taskTemplate: t, restartComputeNode: false}`, `{restartComputeNode: true}`, `{taskTemplate: t, restartComputeNode: false}`},
		"a template that names others": {`{taskTemplate: t}`, `{taskTemplate: u, envId: e}`, `{taskTemplate: t, envId: e}`},
	} {
		t.Run(name, func(t *testing.T) {
			task, template := readTask(t, tc.task), readTask(t, tc.template)
			got := Complete(task, template)
			if diff := cmp.Diff(readTask(t, tc.want), &got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(readTask(t, tc.task), task) + cmp.Diff(readTask(t, tc.template), template); diff != "" {
				t.Errorf("an argument was changed:\n%s", diff)
			}
		})
	}
}

func TestTaskTemplates(t *testing.T) {
	job := &v1alpha1.BatchJob{}
	for _, name := range []string{"b", "", "a", "b"} {
		job.Spec.Job.Tasks = append(job.Spec.Job.Tasks, v1alpha1.Task{TaskTemplate: name})
	}
	if got := TaskTemplates(job); !slices.Equal(got, []string{"b", "a"}) {
		t.Errorf("%v", got)
	}
}

// FuzzComplete: whatever a task and its template are, the task gets the same result with the stored result
// as its template; what it gives is kept; and no result has both of two fields that exclude each other
// unless an argument has.
func FuzzComplete(f *testing.F) {
	f.Add(`{"application":{"command":"x"},"envVars":[]}`, `{"application":{"deliveryForm":"LOCAL"},"envVars":[{"name":"A"}],"computeEnv":{}}`)
	f.Add(`{"envId":"e","timeout":0}`, `{"computeEnv":{},"timeout":1,"application":{"commands":[{"command":"y"}]}}`)
	f.Fuzz(func(t *testing.T, first, second string) {
		var task, template v1alpha1.Task
		if json.Unmarshal([]byte(first), &task) != nil || json.Unmarshal([]byte(second), &template) != nil {
			return
		}
		result := Complete(&task, &template)
		data, err := json.Marshal(result)
		if err != nil {
			t.Fatal(err)
		}
		var stored v1alpha1.Task
		if err := json.Unmarshal(data, &stored); err != nil {
			t.Fatal(err)
		}
		again := Complete(&task, &stored)
		if !equality.Semantic.DeepEqual(again, result) {
			t.Errorf("not the same with the stored result:\n%s", cmp.Diff(result, again))
		}
		if whole := Complete(&result, &task); !equality.Semantic.DeepEqual(whole, result) {
			t.Errorf("what the task gives was not kept:\n%s", cmp.Diff(result, whole))
		}
		both := func(t *v1alpha1.Task) bool { return t.EnvID != "" && t.ComputeEnv != nil }
		if both(&result) && !both(&task) && !both(&template) {
			t.Error("both envId and computeEnv")
		}
	})
}
