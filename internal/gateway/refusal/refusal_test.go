// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package refusal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/validation"
)

func status(code int32, reason metav1.StatusReason, message string, causes ...metav1.StatusCause) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message,
		Details: &metav1.StatusDetails{Group: "batchcompute.dev", Kind: "batchjobs", Causes: causes},
	}}
}

func TestFrom(t *testing.T) {
	jobs := schema.GroupResource{Group: "batchcompute.dev", Resource: "batchjobs"}
	forbidden := apierrors.NewForbidden(jobs, "", errors.New(`User "system:serviceaccount:ns:c" cannot create resource`))
	quota := func(kind string) error {
		err := apierrors.NewForbidden(jobs, "j", errors.New("exceeded quota: q, requested: count/x=1, used: 1, limited: 1"))
		err.ErrStatus.Details.Kind = kind
		return err
	}
	for name, tc := range map[string]struct {
		err  error
		code errcode.Code
		want string
	}{
		"a denial": {status(422, metav1.StatusReasonInvalid, "denied",
			metav1.StatusCause{Type: "InvalidParameter.TaskName", Field: "spec.job.tasks[1].taskName", Message: "InvalidParameter.TaskName: must be x"},
			metav1.StatusCause{Type: "InvalidParameterValue.Negative", Field: "spec.job.tasks[1].timeout", Message: "InvalidParameterValue.Negative: must be y [RequestId: u]"},
		), errcode.TaskName, "Job.Tasks.1.TaskName: must be x"},
		"a denial with one cause": {status(422, metav1.StatusReasonInvalid, "denied",
			metav1.StatusCause{Type: "LimitExceeded.JobQuota", Message: "LimitExceeded.JobQuota: 3 of 3 [RequestId: u]"},
		), errcode.JobQuota, "3 of 3"},
		"a denial of the whole": {status(422, metav1.StatusReasonInvalid, "denied",
			metav1.StatusCause{Type: "InvalidParameterValue.LimitExceeded", Field: "spec", Message: "InvalidParameterValue.LimitExceeded: must be at most 9 bytes"},
		), errcode.LimitExceeded, "the request must be at most 9 bytes"},
		"a failure of the webhook": {status(500, metav1.StatusReasonInternalError, "x",
			metav1.StatusCause{Type: "InternalError", Message: "InternalError: could not check [RequestId: u]"},
		), errcode.InternalError, "could not check"},
		"a cause of the schema": {status(422, metav1.StatusReasonInvalid, "spec.x: Invalid value",
			metav1.StatusCause{Type: "FieldValueInvalid", Field: "spec.x", Message: "Invalid value"},
		), errcode.InvalidParameterValue, "spec.x: Invalid value"},
		"no permission":         {forbidden, errcode.UnauthorizedOperation, "cannot create resource"},
		"no impersonation":      {status(403, metav1.StatusReasonForbidden, `serviceaccounts "c" is forbidden: User "g" cannot impersonate resource`), errcode.UnauthorizedOperation, "may not act as"},
		"a quota of jobs":       {quota("batchjobs"), errcode.JobQuota, "exceeded quota"},
		"a quota of envs":       {quota("computeenvs"), errcode.ComputeEnvQuota, "exceeded quota"},
		"a namespace that ends": {status(403, metav1.StatusReasonForbidden, "x", metav1.StatusCause{Type: "NamespaceTerminating", Message: "y"}), errcode.ResourceUnavailable, "being deleted"},
		"too large":             {apierrors.NewRequestEntityTooLargeError("limit"), errcode.LimitExceeded, "too large"},
		"too slow":              {apierrors.NewServerTimeout(jobs, "create", 1), errcode.InternalError, "did not answer in time"},
		"a conflict":            {apierrors.NewConflict(jobs, "j", errors.New("x")), errcode.InternalError, "at the same time"},
		"the gateway's rights":  {apierrors.NewUnauthorized("x"), errcode.InternalError, "administrator"},
		"no webhook":            {apierrors.NewInternalError(errors.New(`failed calling webhook "x": dial tcp 10.0.0.1:9443: refused`)), errcode.InternalError, "operator does not run"},
		"something else":        {apierrors.NewResourceExpired("gone"), errcode.InternalError, "gone"},
		"a deadline":            {fmt.Errorf("creating: %w", context.DeadlineExceeded), errcode.InternalError, "in time"},
		"no connection":         {errors.New("dial tcp 10.0.0.1: refused"), errcode.InternalError, "could not reach"},
		"a refusal":             {fmt.Errorf("x: %w", New(errcode.JobNotFound, "there is none")), errcode.JobNotFound, "there is none"},
	} {
		t.Run(name, func(t *testing.T) {
			got := From(tc.err)
			if got.Code != tc.code || !strings.Contains(got.Message, tc.want) || strings.Contains(got.Message, "RequestId") || strings.Contains(got.Message, "10.0.0.1") {
				t.Errorf("%v, want %s with %q", got, tc.code, tc.want)
			}
		})
	}
	if From(nil) != nil {
		t.Error("no error is a refusal")
	}
}

func TestExplain(t *testing.T) {
	problems := []validation.Problem{{Code: errcode.Negative, Field: field.NewPath("spec", "desiredComputeNodeCount"), Detail: "must be 0 or more"}}
	rules := func() []validation.Problem { return problems }
	bySchema := status(422, metav1.StatusReasonInvalid, "x", metav1.StatusCause{Type: "FieldValueInvalid", Field: ".spec.desiredComputeNodeCount", Message: "Invalid value"})
	if got := Explain(bySchema, rules); fmt.Sprint(got) != "InvalidParameterValue.Negative: DesiredComputeNodeCount: must be 0 or more" {
		t.Errorf("%v", got)
	}
	denied := status(422, metav1.StatusReasonInvalid, "x", metav1.StatusCause{Type: "InvalidParameter.TaskName", Message: "InvalidParameter.TaskName: x"})
	for _, err := range []error{denied, status(403, metav1.StatusReasonForbidden, "x"), errors.New("x"), nil} {
		if got := Explain(err, rules); got != err { //nolint:errorlint // the same one
			t.Errorf("%v became %v", err, got)
		}
	}
	problems = nil
	if got := Explain(bySchema, rules); got != bySchema { //nolint:errorlint // the same one
		t.Errorf("%v", got)
	}
}

func TestAPIField(t *testing.T) {
	for path, want := range map[string]string{
		"spec.clientToken": "ClientToken",
		"spec.job.tasks[12].application.docker.passwordSecretRef": "Job.Tasks.12.Application.Docker.Password",
		"metadata.name": "", "spec.a[x]": "", "": "",
	} {
		if got := APIField(path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
}
