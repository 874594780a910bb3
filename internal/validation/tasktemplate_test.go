// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
)

// readTemplate reads a file of testdata/tasktemplates, which is as readRequest says.
func readTemplate(t *testing.T, file string) (*v1alpha1.TaskTemplate, []string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(string(data)) {
		comment, ok := strings.CutPrefix(strings.TrimSpace(line), "# ")
		if !ok {
			break
		}
		if comment != "accepted" {
			want = append(want, comment)
		}
	}
	template := &v1alpha1.TaskTemplate{}
	if err := yaml.UnmarshalStrict(data, template); err != nil {
		t.Fatal(err)
	}
	return template, want
}

// Every TaskTemplate has exactly the problems that its file says, and every code that is only about
// TaskTemplates is provoked first by one, but for the quota.
func TestTaskTemplates(t *testing.T) {
	files, err := filepath.Glob("testdata/tasktemplates/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no TaskTemplates: %v", err)
	}
	provoked := map[errcode.Code]bool{errcode.TaskTemplateQuota: true}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			template, want := readTemplate(t, file)
			before := template.DeepCopy()
			problems := Validator{}.ValidateTaskTemplateCreate(template)
			if diff := cmp.Diff(want, summary(problems)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			checkProblems(t, problems)
			if diff := cmp.Diff(before, template); diff != "" {
				t.Errorf("the TaskTemplate was changed (-before +after):\n%s", diff)
			}
			if len(problems) > 0 {
				provoked[problems[0].Code] = true
			}
		})
	}
	for _, e := range errcode.Table() {
		if e.Kind == "TaskTemplate" && !provoked[e.Code] {
			t.Errorf("no TaskTemplate provokes %s", e.Code)
		}
	}
}

// An update has the codes of ModifyTaskTemplate, which has none for a malformed image.
func TestTaskTemplateUpdate(t *testing.T) {
	before, _ := readTemplate(t, "testdata/tasktemplates/ok-smallest.yaml")
	after, _ := readTemplate(t, "testdata/tasktemplates/image-id.yaml")
	want := []string{"InvalidParameter.CvmParameters spec.taskTemplateInfo.computeEnv.envData.imageId"}
	if got := summary(Validator{}.ValidateTaskTemplateUpdate(before, after)); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := summary(Validator{}.ValidateTaskTemplateUpdate(after, before)); len(got) != 0 {
		t.Errorf("a repaired template: %v", got)
	}
}

func TestTaskTemplateTooLarge(t *testing.T) {
	template, _ := readTemplate(t, "testdata/tasktemplates/ok-smallest.yaml")
	for _, name := range []string{"A", "B", "C"} {
		template.Spec.TaskTemplateInfo.EnvVars = append(template.Spec.TaskTemplateInfo.EnvVars, v1alpha1.EnvVar{Name: name, Value: strings.Repeat("x", 100<<10)})
	}
	if got := summary(Validator{}.ValidateTaskTemplateCreate(template)); !slices.Equal(got, []string{"InvalidParameterValue.LimitExceeded spec"}) {
		t.Errorf("%v", got)
	}
}

// What is said of a job's task is said of a template's, with its own path.
func TestTaskTemplateWarnings(t *testing.T) {
	template, _ := readTemplate(t, "testdata/tasktemplates/ok-smallest.yaml")
	template.Spec.TaskTemplateInfo.RestartComputeNode = ptr(true)
	want := []string{"spec.taskTemplateInfo.restartComputeNode has no effect on Kubernetes"}
	if got := (Validator{}).TaskTemplateWarnings(template); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
