// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package conditions

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
)

func brief(conditions []metav1.Condition) string {
	var out []string
	for _, c := range conditions {
		out = append(out, fmt.Sprintf("%s=%s/%s@%d", c.Type, c.Status, c.Reason, c.LastTransitionTime.Unix()))
	}
	return strings.Join(out, " ")
}

func TestSetter(t *testing.T) {
	var s v1alpha1.BatchJobStatus
	at := func(sec int64) Setter { return OfBatchJob(&s, 3, time.Unix(sec, 999)) }
	for _, step := range []struct {
		what string
		do   func()
		want string
	}{
		{"False of one that was never true", func() { at(1).False(v1alpha1.ConditionSuspended, v1alpha1.ReasonResumed, "") }, ""},
		{"True", func() {
			at(2).True(v1alpha1.ConditionSuspended, v1alpha1.ReasonSuspended, "")
			at(2).True(v1alpha1.ConditionStalled, v1alpha1.ReasonInterrupted, "")
		}, "Suspended=True/Suspended@2 Stalled=True/Interrupted@2"},
		{"True once more", func() { at(3).True(v1alpha1.ConditionStalled, v1alpha1.ReasonJobFailed, "") }, "Suspended=True/Suspended@2 Stalled=True/JobFailed@2"},
		{"False", func() {
			at(4).False(v1alpha1.ConditionSuspended, v1alpha1.ReasonResumed, "")
			at(4).False(v1alpha1.ConditionStalled, "", "")
			at(4).False(v1alpha1.ConditionAccepted, v1alpha1.ReasonInvalidRequest, "")
		}, "Suspended=False/Resumed@4 Accepted=False/InvalidRequest@4"},
		{"what the table does not have", func() { at(5).True(v1alpha1.ConditionReady, v1alpha1.ReasonReady, "") }, "Suspended=False/Resumed@4 Accepted=False/InvalidRequest@4"},
	} {
		step.do()
		if got := brief(s.Conditions); got != step.want {
			t.Errorf("%s: conditions are %q, want %q", step.what, got, step.want)
		}
	}
	if c := s.Conditions[0]; c.ObservedGeneration != 3 || c.LastTransitionTime.Nanosecond() != 0 {
		t.Errorf("condition is %+v", c)
	}
	if got := Violation(BatchJob, s.Conditions); got != "" {
		t.Error(got)
	}
}

func TestViolation(t *testing.T) {
	for _, tc := range []struct {
		condition metav1.Condition
		want      string
	}{
		{metav1.Condition{Type: "Ready", Status: "True", Reason: "Ready"}, "Ready is not in the table"},
		{metav1.Condition{Type: "Stalled", Status: "False", Reason: "JobFailed"}, "Stalled must not be False with the reason JobFailed"},
		{metav1.Condition{Type: "Failed", Status: "True", Reason: "Resumed"}, "Failed must not be True with the reason Resumed"},
	} {
		if got := Violation(BatchJob, []metav1.Condition{tc.condition}); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}

// TestDocumented: the table has every condition of the API, and the comment there says the same of it.
func TestDocumented(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "../../api/v1alpha1/conditions.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	kinds := slices.Concat(BatchJob, ComputeEnv)
	documented := map[string]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Condition") {
			return true
		}
		kind, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		documented[kind] = true
		k := find(kinds, kind)
		if k == nil {
			t.Errorf("%s is not in the table", kind)
			return true
		}
		doc := spec.Doc.Text()
		if !strings.Contains(doc, "Polarity: "+string(k.Polarity)+".") {
			t.Errorf("the comment of %s must say that its polarity is %s", kind, k.Polarity)
		}
		if _, absence, ok := strings.Cut(doc, "Absence: "); !ok || strings.HasPrefix(absence, "False") == (k.Presence == OnceKnown || k.Presence == WhenKnown) {
			t.Errorf("the comment of %s must say what its absence means; it is there %s", kind, k.Presence)
		}
		return true
	})
	for i := range kinds {
		if !documented[kinds[i].Type] {
			t.Errorf("%s is not a condition of the API", kinds[i].Type)
		}
	}
}

// use is one call of a Setter in the code: it sets a condition to True or to False with a reason. Type and reason are names of
// constants of the API; "" stands for a value that the call computes.
type use struct{ kind, status, reason string }

// TestEachUseIsInTheTable: each condition and reason that the code sets is in the table, and the table has no others.
func TestEachUseIsInTheTable(t *testing.T) {
	constants := apiConstants(t)
	for _, tc := range []struct {
		name  string
		kinds []Kind
		dirs  []string
		// computed are the reasons of calls that compute them: those of the ends of jobs, and of their tombstones. Package plan
		// compares the conditions of each status that it plans in a test with the table.
		computed []string
	}{
		{
			"BatchJob", BatchJob, []string{"../plan", "../../controllers/batchjob"},
			[]string{v1alpha1.ReasonJobSucceed, v1alpha1.ReasonJobFailed, v1alpha1.ReasonTerminated, v1alpha1.ReasonAlreadyRan, v1alpha1.ReasonDuplicate},
		},
		{
			"ComputeEnv", ComputeEnv, []string{"../../controllers/computeenv"},
			// Package plan sets Notified.
			[]string{v1alpha1.ReasonDelivered, v1alpha1.ReasonDeliveryFailing, v1alpha1.ReasonEventsGivenUp},
		},
	} {
		set := map[use]bool{}
		for _, u := range usesIn(t, tc.dirs...) {
			kind, reason := constants[u.kind], constants[u.reason]
			k := find(tc.kinds, kind)
			switch {
			case u.kind == "": // a loop over types; its reasons are computed
			case k == nil:
				t.Errorf("%s: the code sets %s, which is not in the table", tc.name, u.kind)
			case reason != "" && !slices.Contains(reasonsOf(k, u.status), reason):
				t.Errorf("%s: the code sets %s to %s with %s, which is not in the table", tc.name, u.kind, u.status, u.reason)
			default:
				set[use{kind, u.status, reason}] = true
			}
		}
		for i := range tc.kinds {
			k := &tc.kinds[i]
			for _, status := range []string{"True", "False"} {
				for _, reason := range reasonsOf(k, status) {
					if !set[use{k.Type, status, reason}] && !slices.Contains(tc.computed, reason) {
						t.Errorf("%s: nothing sets %s to %s with the reason %s", tc.name, k.Type, status, reason)
					}
				}
			}
		}
	}
}

func reasonsOf(k *Kind, status string) []string {
	if status == "True" {
		return k.True
	}
	return k.False
}

// apiConstants returns the values of the constants Condition… and Reason… of the API.
func apiConstants(t *testing.T) map[string]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "../../api/v1alpha1/conditions.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			for i, value := range spec.Values {
				if lit, ok := value.(*ast.BasicLit); ok {
					out[spec.Names[i].Name], _ = strconv.Unquote(lit.Value)
				}
			}
		}
		return true
	})
	return out
}

// usesIn returns the calls of Setter.True and Setter.False in the Go files of directories, without tests.
func usesIn(t *testing.T, dirs ...string) []use {
	t.Helper()
	var out []use
	for _, dir := range dirs {
		paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s has no Go files: %v", dir, err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			local := map[string]string{} // const x = v1alpha1.Y
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.ValueSpec:
					if len(n.Names) == 1 && len(n.Values) == 1 {
						local[n.Names[0].Name] = constant(n.Values[0], nil)
					}
				case *ast.CallExpr:
					f, ok := n.Fun.(*ast.SelectorExpr)
					if ok && len(n.Args) == 3 && (f.Sel.Name == "True" || f.Sel.Name == "False") {
						out = append(out, use{constant(n.Args[0], local), f.Sel.Name, constant(n.Args[1], local)})
					}
				}
				return true
			})
		}
	}
	if len(out) == 0 {
		t.Fatalf("nothing in %v sets a condition", dirs)
	}
	return out
}

// constant returns the name of a constant of the API that an expression is; "" for any other.
func constant(e ast.Expr, local map[string]string) string {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		if x, ok := e.X.(*ast.Ident); ok && x.Name == "v1alpha1" {
			return e.Sel.Name
		}
	case *ast.Ident:
		return local[e.Name]
	}
	return ""
}
