// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"errors"
	"net/http"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
)

// TestRefused: whatever code a webhook or policy denies a Pod with, and for each error that does not pass by
// itself, the task has a reason. A lost answer is not one.
func TestRefused(t *testing.T) {
	status := func(code int, reason metav1.StatusReason, text string) error {
		return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: text}}
	}
	const denied = `admission webhook "pods.example.com" denied the request: the Pod needs a label`
	for name, tc := range map[string]struct {
		err              error
		reason           string
		refused, endless bool
	}{
		"forbidden":              {status(403, metav1.StatusReasonForbidden, "violates PodSecurity"), "", true, false},
		"invalid":                {status(422, metav1.StatusReasonInvalid, "spec: Invalid value"), "", true, false},
		"denied with 400":        {status(400, "", denied), "", true, false},
		"denied with 401":        {status(401, metav1.StatusReasonUnauthorized, denied), "", true, false},
		"denied with 404":        {status(404, metav1.StatusReasonNotFound, denied), "", true, false},
		"denied as existing":     {status(409, metav1.StatusReasonAlreadyExists, denied), "", true, false},
		"denied as conflicting":  {status(409, metav1.StatusReasonConflict, denied), "", true, false},
		"denied with 413":        {status(413, metav1.StatusReasonRequestEntityTooLarge, "ValidatingAdmissionPolicy 'p' with binding 'p' denied request: too large"), "", true, false},
		"denied with 429":        {status(429, metav1.StatusReasonTooManyRequests, denied), "", true, false},
		"denied with 451":        {status(451, "", denied), "", true, false},
		"denied with 500":        {status(500, metav1.StatusReasonInternalError, denied), "", true, false},
		"denied with 503":        {status(503, metav1.StatusReasonServiceUnavailable, denied), "", true, false},
		"too large":              {status(413, metav1.StatusReasonRequestEntityTooLarge, "limit is 3145728"), "", true, false},
		"no namespace":           {status(404, metav1.StatusReasonNotFound, `namespaces "n" not found`), "", true, false},
		"no login":               {status(401, metav1.StatusReasonUnauthorized, "Unauthorized"), "", true, true},
		"internal":               {apierrors.NewInternalError(errors.New(`failed calling webhook "a"`)), "", true, true},
		"rate limit":             {apierrors.NewTooManyRequests("slow down", 1), v1alpha1.ReasonQuota, true, true},
		"quota":                  {status(403, metav1.StatusReasonForbidden, "exceeded quota: few"), v1alpha1.ReasonQuota, true, true},
		"a conflict":             {status(409, metav1.StatusReasonConflict, "modified"), "", false, false},
		"a time-out":             {apierrors.NewTimeoutError("no answer", 1), "", false, false},
		"a time-out in a server": {status(500, metav1.StatusReasonServerTimeout, "no answer"), "", false, false},
		"unavailable":            {status(503, metav1.StatusReasonServiceUnavailable, "apiserver is shutting down"), "", false, false},
		"no connection":          {http.ErrServerClosed, "", false, false},
	} {
		err := refused(3, tc.err)
		if !tc.refused {
			if err != nil {
				t.Errorf("%s: %v, want no refusal", name, err)
			}
			continue
		}
		var e *refusedError
		if !errors.As(err, &e) || e.task != 3 || e.reason != tc.reason || e.noTimeout != tc.endless || !errors.Is(err, tc.err) {
			t.Errorf("%s: %+v, want reason %q, without a timeout: %t", name, e, tc.reason, tc.endless)
		}
	}
}
