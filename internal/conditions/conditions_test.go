// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package conditions

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
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
		if _, absence, ok := strings.Cut(doc, "Absence: "); !ok || strings.HasPrefix(absence, "False") == (k.Presence == OnceKnown) {
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
