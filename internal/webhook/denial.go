// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"fmt"
	"net/http"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/sanitize"
	"batchcompute.dev/operator/internal/validation"
)

// Bounds of a denial, so that no request makes an answer that is too large for the API
// server or for a terminal.
const (
	maxCauses   = 50  // in details.causes
	maxListed   = 10  // in the message
	maxSentence = 300 // bytes of one problem's sentence
	maxPath     = 200 // bytes of one problem's path
)

// denial refuses a request: 422 Invalid with a cause for each problem, in their
// order, the first maxCauses of them.
//
// Programs such as Argo CD and Flux print the message; kubectl prints only the causes, each
// on a line as "field: message", without their types. So the code is in the cause's message
// as well as in its type, and the last cause ends with the RequestId.
func denial(req admission.Request, problems []validation.Problem) admission.Response {
	shown := problems[:min(len(problems), maxCauses)]
	causes := make([]metav1.StatusCause, len(shown))
	for i, p := range shown {
		causes[i] = metav1.StatusCause{
			Type:    metav1.CauseType(p.Code),
			Field:   sanitize.Truncate(p.Field.String(), maxPath),
			Message: string(p.Code) + ": " + sanitize.Truncate(p.Detail, maxSentence),
		}
	}
	last := &causes[len(causes)-1].Message
	if more := len(problems) - len(shown); more > 0 {
		*last += fmt.Sprintf(" (and %d more problems)", more)
	}
	*last += requestID(req)
	return refuse(req, metav1.Status{
		Code:    http.StatusUnprocessableEntity,
		Reason:  metav1.StatusReasonInvalid,
		Message: message(req, problems),
		Details: &metav1.StatusDetails{
			Name: req.Name, Group: req.Kind.Group, Kind: req.Kind.Kind, Causes: causes,
		},
	})
}

// internalError refuses a request that could not be checked.
func internalError(req admission.Request) admission.Response {
	text := string(errcode.InternalError) + ": " + notChecked + requestID(req)
	return refuse(req, metav1.Status{
		Code:    http.StatusInternalServerError,
		Reason:  metav1.StatusReasonInternalError,
		Message: text,
		Details: &metav1.StatusDetails{
			Name: req.Name, Group: req.Kind.Group, Kind: req.Kind.Kind,
			Causes: []metav1.StatusCause{{Type: metav1.CauseType(errcode.InternalError), Message: text}},
		},
	})
}

// notChecked is the detail of an InternalError.
const notChecked = "the operator could not check the request; repeat it, and if that fails too, search the manager's log for this RequestId"

// temporary is internalError for a request that may succeed in a second. The API server
// answers with Retry-After, so that client-go, and with it kubectl, repeats the request.
func temporary(req admission.Request) admission.Response {
	resp := internalError(req)
	resp.Result.Details.RetryAfterSeconds = 1
	return resp
}

func refuse(req admission.Request, status metav1.Status) admission.Response {
	status.Status = metav1.StatusFailure
	return admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{UID: req.UID, Allowed: false, Result: &status}}
}

// message is the text for clients that show nothing else: the first problem, which is the
// one that the API would have answered, then a line for each of the others.
//
//	InvalidParameter.TaskName: spec.job.tasks[1].taskName: must be … [RequestId: …]
//	and 2 more problems:
//	- InvalidParameterValue.Negative: spec.job.tasks[1].taskInstanceNum: must be …
func message(req admission.Request, problems []validation.Problem) string {
	var b strings.Builder
	line := func(p validation.Problem) {
		fmt.Fprintf(&b, "%s: %s: %s", p.Code, sanitize.Truncate(p.Field.String(), maxPath), sanitize.Truncate(p.Detail, maxSentence))
	}
	line(problems[0])
	b.WriteString(requestID(req))
	rest := problems[1:]
	switch len(rest) {
	case 0:
		return b.String()
	case 1:
		b.WriteString("\nand 1 more problem:")
	default:
		fmt.Fprintf(&b, "\nand %d more problems:", len(rest))
	}
	for _, p := range rest[:min(len(rest), maxListed-1)] {
		b.WriteString("\n- ")
		line(p)
	}
	if len(rest) > maxListed-1 {
		b.WriteString("\n- …")
	}
	return b.String()
}

// requestID is the identifier of a request in its answer and in the log.
func requestID(req admission.Request) string {
	return " [RequestId: " + string(req.UID) + "]"
}
