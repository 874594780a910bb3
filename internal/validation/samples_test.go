// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"os"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/archtest"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/resolve"
)

// TestPageSamples: the samples of README.md and of the pages of both kinds have no unknown field, are
// valid with the shipped catalogue, cause no warning, and resolve. TestDocSamples of cmd/manager applies
// them.
func TestPageSamples(t *testing.T) {
	text, err := os.ReadFile("../../config/manager/catalog.yaml")
	if err != nil {
		t.Fatal(err)
	}
	shipped, err := catalog.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"README.md", "docs/batchjob.md", "docs/computeenv.md"} {
		page, err := os.ReadFile("../../" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, sample := range archtest.ParseSamples(string(page)) {
			t.Run(name+"/"+sample.Section, func(t *testing.T) {
				envs := map[string]bool{}
				v := Validator{Catalog: func() *catalog.Catalog { return shipped }, Envs: func(ref string) EnvState {
					if envs[ref] {
						return EnvFound
					}
					return EnvNotFound
				}}
				for _, object := range sample.Objects {
					problems, warnings := checkSample(t, v, object, envs)
					for _, p := range problems {
						t.Error(p)
					}
					if len(warnings) > 0 {
						t.Errorf("it is answered with the warnings %q", warnings)
					}
				}
			})
		}
	}
}

// checkSample decodes and validates one object, and adds a ComputeEnv to envs.
func checkSample(t *testing.T, v Validator, object string, envs map[string]bool) ([]Problem, []string) {
	t.Helper()
	if strings.Contains(object, "\nkind: ComputeEnv\n") {
		env := &v1alpha1.ComputeEnv{}
		if err := yaml.UnmarshalStrict([]byte(object), env); err != nil {
			t.Fatal(err)
		}
		envs[env.Name] = true
		return v.ValidateComputeEnvCreate(env), v.ComputeEnvWarnings(env)
	}
	job := &v1alpha1.BatchJob{}
	if err := yaml.UnmarshalStrict([]byte(object), job); err != nil {
		t.Fatal(err)
	}
	if _, err := resolve.Resolve(job); err != nil {
		t.Error(err)
	}
	return v.ValidateCreate(job), v.Warnings(job)
}
