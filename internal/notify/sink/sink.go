// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package sink sends events to their receivers.
//
// An error of Send has a class of package retry:
//
//	Transient   try again with a growing backoff: no answer, an answer that may change, a wrong configuration
//	Wait        try again after the delay that the receiver asked for
//	Terminal    the receiver refuses one event, by itself, and would refuse it again
//
// SentBefore says how many events were acknowledged before the error. Events behind these may have arrived as well, so
// a receiver must drop an id that it has had.
package sink

import (
	"context"
	"errors"

	"batchcompute.dev/operator/internal/notify/event"
)

// Sink is a receiver of events.
type Sink interface {
	// Send sends events in their order and returns nil when all were acknowledged. After an error see SentBefore. If
	// ctx ends, the error wraps the one of ctx.
	Send(ctx context.Context, events []event.Event) error
}

// sendError is an error of Send.
type sendError struct {
	error
	sent int
}

// Unwrap returns the error with its class.
func (e *sendError) Unwrap() error { return e.error }

// SentBefore returns how many events were acknowledged before Send returned err. If err is Terminal, the event at this
// index is the one that was refused.
func SentBefore(err error) int {
	if e := (*sendError)(nil); errors.As(err, &e) {
		return e.sent
	}
	return 0
}
