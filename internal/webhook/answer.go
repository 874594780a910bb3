// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	authnv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/validation"
)

// answerTimeout bounds how long a request waits for calls and other requests. Together with its
// own checks that is less than the timeout of the webhook, so that the caller gets our answer.
const answerTimeout = 4 * time.Second

// verdict is the result of checking a request.
type verdict struct {
	problems []validation.Problem
	warnings []string
}

// temporaryError is a failure that may be over when the request is repeated.
type temporaryError struct{ error }

func (e temporaryError) Unwrap() error { return e.error }

// respond answers one request with the verdict of validate. A panic refuses the request with
// InternalError and does not end the manager.
func respond(ctx context.Context, req admission.Request, validate func(context.Context, admission.Request) (verdict, error)) (resp admission.Response) {
	logger := log.FromContext(ctx).WithValues("requestID", req.UID, "kind", req.Kind.Kind, "object", klog.KRef(req.Namespace, req.Name))
	defer func() {
		if r := recover(); r != nil {
			// The panic's value and the request are not logged: both may contain a part of the spec.
			logger.Error(nil, "Admission panicked", "stack", string(debug.Stack()))
			resp = internalError(req)
		}
	}()
	ctx, cancel := context.WithTimeout(log.IntoContext(ctx, logger), answerTimeout)
	defer cancel()
	v, err := validate(ctx, req)
	var later temporaryError
	switch {
	case errors.As(err, &later):
		logger.Error(err, "Could not check a request; the caller was told to retry")
		return temporary(req)
	case err != nil:
		logger.Error(err, "Could not check a request")
		return internalError(req)
	case len(v.problems) > 0:
		logger.Info("Refused a request", "user", req.UserInfo.Username,
			"code", v.problems[0].Code, "field", v.problems[0].Field.String(), "problems", len(v.problems))
		return denial(req, v.problems)
	}
	return admission.Allowed("").WithWarnings(v.warnings...)
}

// admitCaller checks that the caller may submit, and waits until the caches are synced. If the
// caller may not, the refusal is the whole answer.
func admitCaller(ctx context.Context, a accessChecker, synced func() bool, user authnv1.UserInfo, namespace string) (refusal []validation.Problem, err error) {
	allowed, err := a.maySubmit(ctx, user, namespace)
	if err != nil {
		return nil, temporaryError{err}
	}
	if !allowed {
		return []validation.Problem{notAllowed(user.Username, namespace)}, nil
	}
	if !waitUntil(ctx, synced) {
		return nil, temporaryError{errNotSynced}
	}
	return nil, nil
}

// count checks that the quota has capacity for the object of a create, which takes that many bytes,
// and reserves it unless there are problems.
func (v *verdict) count(ctx context.Context, q quotaChecker, code errcode.Code, req admission.Request, name string, bytes int64) error {
	dryRun := req.DryRun != nil && *req.DryRun
	a, err := q.admit(ctx, claim{req.Namespace, name, bytes, len(v.problems) == 0 && !dryRun})
	if err != nil {
		return temporaryError{err}
	}
	if a.refusal != "" {
		v.problems = append(v.problems, validation.Problem{Code: code, Field: namespaceField, Detail: a.refusal})
	}
	v.warnings = append(v.warnings, a.warning...)
	return nil
}

// namespaceField is the field of problems that concern the namespace and not the spec.
var namespaceField = field.NewPath("metadata", "namespace")

func notAllowed(user, namespace string) validation.Problem {
	return validation.Problem{Code: errcode.UserNotAllowedToUseBatch, Field: namespaceField, Detail: fmt.Sprintf(
		"user %s may not submit in namespace %s: grant the verb %s on batchjobs.%s there; the cluster roles edit and admin include it",
		quoted(user), quoted(namespace), verbSubmit, v1alpha1.GroupVersion.Group)}
}

// maxQuotedPath is how much of a field path a message repeats. Unit: bytes.
const maxQuotedPath = 100

// quoted returns a user's text for a message: escaped and truncated.
func quoted(s string) string { return validation.Quote(s) }

// decode reads an object that the API server has checked against the schema. The error
// contains no value of the object.
func decode[T any](raw runtime.RawExtension) (*T, error) {
	obj := new(T)
	if err := json.Unmarshal(raw.Raw, obj); err != nil {
		return nil, fmt.Errorf("decoding a %T of %d bytes: %T", *obj, len(raw.Raw), err)
	}
	return obj, nil
}
