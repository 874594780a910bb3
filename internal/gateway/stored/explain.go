// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package stored

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
)

// explain returns what happened to a connection. The text of the cause is not part of it: it may have an address with a
// password, as that of a proxy, or what the server sent.
func explain(err error) error {
	what := "the connection to the store failed"
	var certificate *tls.CertificateVerificationError
	var host *net.DNSError
	var operation *net.OpError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		what = "the store did not answer in time"
	case errors.Is(err, context.Canceled):
		what = "the request has ended"
	case errors.As(err, &certificate):
		what = "the certificate of the store is not trusted"
	case errors.As(err, &host):
		what = "the host of the store was not found"
	case errors.As(err, &operation) && operation.Op == "dial":
		what = "the store cannot be reached"
	}
	return failure{what, err}
}

// failure is an error with a text of our own.
type failure struct {
	text  string
	cause error
}

// Error returns the text.
func (f failure) Error() string { return f.text }

// Unwrap returns the cause.
func (f failure) Unwrap() error { return f.cause }
