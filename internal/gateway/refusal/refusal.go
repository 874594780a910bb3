// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package refusal turns errors of the cluster into BatchCompute's error codes. It computes only.
//
// A denial of the operator's admission webhook has a cause for each problem, and the API answers with one: so
// the first cause is the code and the message. What the cluster itself refuses is told in the cluster's words.
package refusal

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/sanitize"
	"batchcompute.dev/operator/internal/validation"
)

// Refusal is an error with a code of the API.
type Refusal struct {
	Code errcode.Code
	// Message is a sentence for the caller.
	Message string
	// Cause is the error that it stands for, for the log; nil for none. It is not for the caller.
	Cause error
}

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Cause }

// Error returns "CODE: message".
func (r *Refusal) Error() string { return string(r.Code) + ": " + r.Message }

// New returns a refusal.
func New(code errcode.Code, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Message: fmt.Sprintf(format, args...)}
}

// maxMessage bounds what of the cluster's words is repeated. Unit: bytes.
const maxMessage = 1024

// The sentences of errors that a caller can only repeat the request for.
const (
	again    = "repeat the request, and a request with a ClientToken with the same one"
	noAnswer = "the cluster did not answer in time; " + again
)

// From returns the refusal that an error stands for: a Refusal itself, or an error of the API server. Any other
// error is an InternalError whose message does not repeat it; nil for nil.
func From(err error) *Refusal {
	var own *Refusal
	if err == nil {
		return nil
	}
	if errors.As(err, &own) {
		return own
	}
	r := from(err)
	r.Cause = err
	return r
}

func from(err error) *Refusal {
	var status apierrors.APIStatus
	switch {
	case errors.As(err, &status):
		s := status.Status()
		return fromStatus(&s)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return New(errcode.InternalError, "%s", noAnswer)
	}
	return New(errcode.InternalError, "the gateway could not reach the cluster; %s", again)
}

// fromStatus returns the refusal for an answer of the API server.
func fromStatus(s *metav1.Status) *Refusal {
	if r := denial(s); r != nil {
		return r
	}
	message := sanitize.Text(s.Message, maxMessage)
	switch s.Reason {
	case metav1.StatusReasonForbidden:
		return forbidden(s, message)
	case metav1.StatusReasonInvalid, metav1.StatusReasonBadRequest:
		return New(errcode.InvalidParameterValue, "%s", message)
	case metav1.StatusReasonRequestEntityTooLarge:
		return New(errcode.LimitExceeded, "the request is too large to be stored: %s", message)
	case metav1.StatusReasonTimeout, metav1.StatusReasonServerTimeout, metav1.StatusReasonTooManyRequests, metav1.StatusReasonServiceUnavailable:
		return New(errcode.InternalError, "%s", noAnswer)
	case metav1.StatusReasonConflict:
		return New(errcode.InternalError, "the object was changed at the same time; %s", again)
	case metav1.StatusReasonInternalError, metav1.StatusReasonUnknown: // it may name addresses
		return New(errcode.InternalError, "the cluster could not process the request, for example because the operator does not run; %s", again)
	case metav1.StatusReasonUnauthorized:
		return New(errcode.InternalError, "the cluster does not accept the gateway's credentials; tell its administrator")
	}
	return New(errcode.InternalError, "the cluster refused the request: %s", message)
}

// codeForm is what a code of the API looks like, and no type of a cause of Kubernetes, such as FieldValueInvalid: those
// stand without their repetition in the message.
var codeForm = regexp.MustCompile(`^[A-Z][A-Za-z]+(\.[A-Z][A-Za-z]+)?$`)

// denial returns what the operator's webhook refused a request for, nil if it was not the webhook.
func denial(s *metav1.Status) *Refusal {
	if s.Details == nil {
		return nil
	}
	for _, cause := range s.Details.Causes {
		code := string(cause.Type)
		detail, ok := strings.CutPrefix(cause.Message, code+": ")
		if !ok || !codeForm.MatchString(code) {
			continue
		}
		if i := strings.LastIndex(detail, " [RequestId: "); i >= 0 {
			detail = detail[:i] // that of the admission request; the answer has its own
		}
		detail = withField(cause.Field, detail)
		return New(errcode.Code(code), "%s", sanitize.Text(detail, maxMessage))
	}
	return nil
}

// Explain returns err, unless the API server refused an object itself, before the webhook: then the rules of admission
// say with which code, if they refuse it as well. problems applies them.
func Explain(err error, problems func() []validation.Problem) error {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return err
	}
	s := status.Status()
	if s.Reason != metav1.StatusReasonInvalid || denial(&s) != nil {
		return err
	}
	all := problems()
	if len(all) == 0 {
		return err
	}
	detail := all[0].Detail
	detail = withField(all[0].Field.String(), detail)
	return New(all[0].Code, "%s", sanitize.Text(detail, maxMessage))
}

// withField returns a detail with the field that it is about.
func withField(path, detail string) string {
	if path == "spec" {
		return "the request " + detail
	}
	if field := APIField(path); field != "" {
		return field + ": " + detail
	}
	return detail
}

// forbidden tells a quota from a permission.
func forbidden(s *metav1.Status, message string) *Refusal {
	kind := ""
	if s.Details != nil {
		kind = s.Details.Kind
		for _, cause := range s.Details.Causes {
			if cause.Type == "NamespaceTerminating" {
				return New(errcode.ResourceUnavailable, "the namespace of the key is being deleted")
			}
		}
	}
	switch {
	case strings.Contains(message, "cannot impersonate"):
		return New(errcode.UnauthorizedOperation, "the gateway may not act as the service account of the key; its ClusterRole names those that it may")
	case !strings.Contains(message, "exceeded quota"):
		return New(errcode.UnauthorizedOperation, "%s", message)
	case strings.HasPrefix(strings.ToLower(kind), "computeenv"):
		return New(errcode.ComputeEnvQuota, "%s", message)
	default:
		return New(errcode.JobQuota, "%s", message)
	}
}

// fieldPart is a part of a field path: a name, and an index.
var fieldPart = regexp.MustCompile(`^([A-Za-z0-9]+)(?:\[([0-9]+)\])?$`)

// APIField returns a field of a manifest as the API names it: Job.Tasks.0.TaskName for spec.job.tasks[0].taskName. It is
// empty for a field that is none of a request.
func APIField(path string) string {
	path, ok := strings.CutPrefix(path, "spec.")
	if !ok {
		return ""
	}
	var out []string
	for part := range strings.SplitSeq(path, ".") {
		m := fieldPart.FindStringSubmatch(part)
		if m == nil {
			return ""
		}
		name := []rune(strings.TrimSuffix(m[1], "SecretRef"))
		name[0] = unicode.ToUpper(name[0])
		if out = append(out, string(name)); m[2] != "" {
			out = append(out, m[2])
		}
	}
	return strings.Join(out, ".")
}
