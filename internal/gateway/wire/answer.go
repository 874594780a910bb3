// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"k8s.io/apimachinery/pkg/util/uuid"

	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/gateway/signature"
	"batchcompute.dev/operator/internal/params"
)

// Error is an answer that says why a request failed. Its message is for the caller.
type Error struct {
	Code    errcode.Code
	Message string
}

// NewError returns an error with a message that is formatted.
func NewError(code errcode.Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Error returns "CODE: message".
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// AsError returns the answer for an error: an Error itself, a signature's error, the first problem of parameters. Of any
// other error the caller is only told that there was one.
func AsError(err error) *Error {
	var own *Error
	var signed *signature.Error
	var problems params.Problems
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &signed):
		return &Error{signed.Code, signed.Message}
	case errors.As(err, &problems) && len(problems) > 0:
		return &Error{problems[0].Code, problems[0].Message()}
	}
	return NewError(errcode.InternalError, "an error occurred; the log of the gateway has it under the RequestId")
}

// NewRequestID returns a random UUID.
func NewRequestID() string { return string(uuid.NewUUID()) }

// Write answers with the fields of result and the RequestId. result is a struct, or nil for none. The error
// says that it cannot be encoded; nothing was written then.
func Write(w http.ResponseWriter, requestID string, result any) error {
	if result == nil {
		result = struct{}{}
	}
	var b bytes.Buffer
	b.WriteString(`{"Response":`)
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(result); err != nil {
		return fmt.Errorf("encoding the answer: %w", err)
	}
	body := bytes.TrimRight(b.Bytes(), "\n")
	fields, isObject := bytes.CutSuffix(body, []byte("}"))
	if !isObject {
		return errors.New("encoding the answer: it is no object")
	}
	if !bytes.HasSuffix(fields, []byte("{")) {
		fields = append(fields, ',')
	}
	fields = append(fields, `"RequestId":"`+requestID+`"}}`...)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(fields)))
	_, _ = w.Write(fields) // nobody is there to be told
	return nil
}

// WriteError answers with an error.
func WriteError(w http.ResponseWriter, requestID string, e *Error) {
	_ = Write(w, requestID, struct{ Error *Error }{e}) // two texts can be encoded
}
