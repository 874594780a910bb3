// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"errors"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"batchcompute.dev/operator/api/v1alpha1"
)

// refusals are the errors with which an API server refuses a write.
var refusals = map[string]func(name string) error{
	"413": func(string) error { return apierrors.NewRequestEntityTooLargeError("limit is 3145728") },
	"too large for etcd": func(string) error {
		return apierrors.NewInternalError(errors.New("etcdserver: request is too large"))
	},
	"conflict": func(name string) error {
		return apierrors.NewConflict(schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: "batchjobs"}, name, errors.New("the object has been modified"))
	},
	"403": func(name string) error {
		return apierrors.NewForbidden(schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: "batchjobs"}, name, errors.New("not now"))
	},
	"429": func(string) error { return apierrors.NewTooManyRequests("not now", 1) },
	"500": func(string) error { return apierrors.NewInternalError(errors.New("not now")) },
}

// TestFaultsStatusRefused: a job whose status writes are refused ends as without faults, whatever the error and whichever
// writes it meets, and no Pod is created for a claim that was not stored.
func TestFaultsStatusRefused(t *testing.T) {
	t.Parallel()
	for name, refusal := range refusals {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newTestEnv(t)
			for _, which := range []struct {
				name    string
				refused func(n int) bool // n counts the writes of statuses, from 1
			}{
				{"every second", func(n int) bool { return n%2 == 1 }},
				{"the first ten", func(n int) bool { return n <= 10 }},
				{"all from the third to the ninth", func(n int) bool { return n >= 3 && n <= 9 }},
			} {
				refused, statuses := 0, 0
				p := e.start(nil)
				p.refusal = func(_ int, call, name string) error {
					if call != "patch status" {
						return nil
					}
					statuses++
					if !which.refused(statuses) {
						return nil
					}
					refused++
					return refusal(name)
				}
				e.submit(e.reference("ref"))
				p.play("ref")
				if strings.Contains(name, "large") || name == "413" {
					if got, want := bare(brief(e.job("ref"))), bare(referenceEnd); !slices.Equal(got, want) {
						t.Errorf("the job is %q, want %q", got, want)
					}
				} else {
					e.wantReference("ref")
				}
				e.clear()
				t.Logf("%s of %d status writes: %d refused", which.name, statuses, refused)
				if refused == 0 {
					t.Error("nothing was refused")
				}
			}
		})
	}
}
