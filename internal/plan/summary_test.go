// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"testing"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/resolve"
)

// TestAttemptOfMore: a message never counts more attempts than there are, though the budget was reduced since.
func TestAttemptOfMore(t *testing.T) {
	f := &failure{TaskInstanceFailure: v1alpha1.TaskInstanceFailure{Attempt: 6, Message: "exit code 1"}}
	got := f.words(&task{Task: &resolve.Task{InstanceNum: 1}, budget: budget{machines: 2}})
	if want := "exit code 1, attempt 7 of 7"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
