// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"testing"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/resolve"
)

// TestAttempts: a message says how many attempts there are, or, with two budgets, what is used of each. It never counts more
// than there are, though a budget was reduced since.
func TestAttempts(t *testing.T) {
	for name, tc := range map[string]struct {
		attempt int64
		spent   history
		budget  budget
		want    string
	}{
		"one attempt":                {0, history{}, budget{}, "exit code 1"},
		"retries of the command":     {1, history{retries: 1}, budget{retries: 2}, "exit code 1, attempt 2 of 3"},
		"two budgets":                {2, history{retries: 2}, budget{retries: 2, machines: 4}, "exit code 1, attempt 3; 2 of 2 retries and 0 of 4 machine retries used"},
		"a reduced budget":           {2, history{retries: 2}, budget{retries: 1}, "exit code 1, attempt 3 of 3"},
		"machines, a reduced budget": {6, history{machines: 6}, budget{machines: 2}, "exit code 1, attempt 7; 0 of 0 retries and 6 of 6 machine retries used"},
	} {
		f := &failure{TaskInstanceFailure: v1alpha1.TaskInstanceFailure{Attempt: tc.attempt, Message: "exit code 1"}, spent: tc.spent}
		if got := f.words(&task{Task: &resolve.Task{InstanceNum: 1}, budget: tc.budget}); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}
