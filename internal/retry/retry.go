// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package retry lets errors carry what a reconciler does about them.
//
//	Transient   nothing else is known: try again with a growing backoff
//	Wait        the cause is known to pass: try again after a delay, which may be 0
//	Terminal    trying again does not help, or another event asks for it
//
// An error has the class Transient unless After or Terminal gave it another one.
package retry

import (
	"errors"
	"time"
)

// Class says what a reconciler does about an error.
type Class int

// The classes, the one that goes before the others in an error that joins several first.
const (
	Transient Class = iota
	Wait
	Terminal
)

// classified is an error with a class.
type classified struct {
	error
	class Class
	delay time.Duration
}

// Unwrap returns the error without its class.
func (c *classified) Unwrap() error { return c.error }

// After returns err with the class Wait: it is to be tried again after a delay; 0 means at once.
func After(delay time.Duration, err error) error {
	return &classified{error: err, class: Wait, delay: max(delay, 0)}
}

// AsTerminal returns err with the class Terminal.
func AsTerminal(err error) error { return &classified{error: err, class: Terminal} }

// Of returns the class of an error that is not nil, and after what delay to try again if that is Wait. An
// error that joins several is Transient if one of them is, else to be tried again after the shortest delay
// of theirs.
func Of(err error) (Class, time.Duration) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		class, delay := Terminal, time.Duration(0)
		for _, err := range joined.Unwrap() {
			switch next, d := Of(err); {
			case next == Wait && class == Wait:
				delay = min(delay, d)
			case next < class:
				class, delay = next, d
			}
		}
		return class, delay
	}
	if own, ok := err.(*classified); ok { //nolint:errorlint // this walks the chain itself, an error at a time
		return own.class, own.delay
	}
	if next := errors.Unwrap(err); next != nil {
		return Of(next)
	}
	return Transient, 0
}
