// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/errcode"
)

// checkAll holds what is promised for any spec whatever.
func checkAll(t interface {
	Helper()
	Errorf(string, ...any)
}, spec *v1alpha1.BatchJobSpec) {
	job := &v1alpha1.BatchJob{Spec: *spec}
	for _, v := range validators {
		problems := v.ValidateCreate(job)
		checkAnswer(t, problems, v.ValidateCreate(job))
		checkWarnings(t, v.Warnings(job))
		if got := v.ValidateUpdate(job, job.DeepCopy()); got != nil {
			t.Errorf("a copy differs: %v", got)
		}
		checkProblems(t, v.ValidateUpdate(&v1alpha1.BatchJob{}, job))
	}
	if WorstStatusSize(spec) <= 0 {
		t.Errorf("a status of %d bytes", WorstStatusSize(spec))
	}
}

// validators are those that ask nobody, and those that ask all there is.
var validators = []Validator{{}, {Catalog: catalog.Default, Envs: oneEnv, Zones: func() []string { return []string{"a", "z-1"} }}}

// oneEnv is a namespace with a ComputeEnv, and one that is being deleted.
func oneEnv(ref string) EnvState {
	return map[string]EnvState{"pool": EnvFound, "old": EnvDeleting}[ref]
}

// checkAnswer holds what is promised of the problems of one object, which are given twice.
func checkAnswer(t interface {
	Helper()
	Errorf(string, ...any)
}, problems, again []Problem) {
	t.Helper()
	checkProblems(t, problems)
	if diff := cmp.Diff(summary(problems), summary(again)); diff != "" {
		t.Errorf("two answers to one request: %s", diff)
	}
	for _, p := range problems {
		if !known[p.Code] {
			t.Errorf("code %s is not in the table", p.Code)
		}
	}
}

// checkAllOfEnv is checkAll for a ComputeEnv.
func checkAllOfEnv(t interface {
	Helper()
	Errorf(string, ...any)
}, spec *v1alpha1.ComputeEnvSpec) {
	env := &v1alpha1.ComputeEnv{Spec: *spec}
	for _, v := range validators {
		checkAnswer(t, v.ValidateComputeEnvCreate(env), v.ValidateComputeEnvUpdate(&v1alpha1.ComputeEnv{}, env))
		checkWarnings(t, v.ComputeEnvWarnings(env))
	}
}

var known = func() map[errcode.Code]bool {
	m := map[errcode.Code]bool{}
	for _, e := range errcode.Table() {
		m[e.Code] = true
	}
	return m
}()

// FuzzValidate reads the spec of a BatchJob as JSON, as the webhook does.
func FuzzValidate(f *testing.F) {
	files, err := filepath.Glob("testdata/requests/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		job := &v1alpha1.BatchJob{}
		if err := yaml.Unmarshal(data, job); err != nil {
			f.Fatal(err)
		}
		spec, err := json.Marshal(job.Spec)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(spec)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		spec := &v1alpha1.BatchJobSpec{}
		if err := json.Unmarshal(data, spec); err != nil {
			t.Skip()
		}
		checkAll(t, spec)
		encoded, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		if got := SpecSize(spec); got != len(encoded) {
			t.Errorf("%d bytes, want %d", got, len(encoded))
		}
	})
}

// FuzzValidateComputeEnv reads the spec of a ComputeEnv as JSON, as the webhook does.
func FuzzValidateComputeEnv(f *testing.F) {
	files, err := filepath.Glob("testdata/computeenvs/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatal("no ComputeEnvs", err)
	}
	for _, file := range files {
		env, _ := readComputeEnv(f, file)
		spec, err := json.Marshal(env.Spec)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(spec)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		spec := &v1alpha1.ComputeEnvSpec{}
		if err := json.Unmarshal(data, spec); err != nil {
			t.Skip()
		}
		checkAllOfEnv(t, spec)
	})
}

func TestPropertyAnyComputeEnv(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := &v1alpha1.ComputeEnvSpec{}
		fill(t, reflect.ValueOf(spec).Elem())
		checkAllOfEnv(t, spec)
	})
}

func TestPropertyAnySpec(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { checkAll(t, drawSpec(t)) })
}
