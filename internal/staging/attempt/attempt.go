// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package attempt repeats what fails for a while: with a backoff between attempts, a watch that ends one
// that stands still, and a limit on the time without progress.
package attempt

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/staging/fault"
)

// Policy says how long and how often. The zero value is not usable.
type Policy struct {
	// Stall is how long an attempt may stand still.
	Stall time.Duration
	// Slow is how long an attempt may stand still that waits for an answer which takes the server some
	// work; 0 means 5 min.
	Slow time.Duration
	// NoProgress is how long attempts may go without progress until the last error is final.
	NoProgress time.Duration
	// First and Most bound the backoff, which doubles from attempt to attempt and has a jitter of up to
	// all of it. Zero means 200 ms and 20 s.
	First, Most time.Duration
	// Retrying is told why another attempt follows, by any goroutine; nil means nobody is. It must not block.
	Retrying func(error)
}

// Watch is told of the progress of one attempt.
type Watch struct {
	stall, slow time.Duration

	mu       sync.Mutex
	timer    *time.Timer
	progress time.Time
}

// Progress says that something has arrived or was sent.
func (w *Watch) Progress() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.progress = time.Now()
	w.timer.Reset(w.stall)
}

// Alive says that the attempt does not stand still, but gets no further than an earlier one did.
func (w *Watch) Alive() { w.Resume() }

// Pause stops the watch until the next Progress or Resume: what follows is not the server's time.
func (w *Watch) Pause() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
}

// Resume starts it again, without progress.
func (w *Watch) Resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Reset(w.stall)
}

// Allow lets the next answer take as long as the policy's Slow.
func (w *Watch) Allow() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Reset(w.slow)
}

// errStalled is the cause that an attempt's context ends with.
var errStalled = errors.New("stalled")

// Do calls f until it succeeds, fails with a permanent error, makes no progress for long, or ctx is done. f
// returns an error with a *fault.Error in it. Its context ends when it stands still.
func (p *Policy) Do(ctx context.Context, f func(ctx context.Context, w *Watch) error) error {
	last, delay := time.Now(), p.first()
	for {
		progress, err := p.once(ctx, f)
		if err == nil {
			return nil
		}
		if f, ok := errors.AsType[final](err); ok {
			return f.error
		}
		e := fault.As(err)
		if ctx.Err() != nil {
			return fault.Temporary(fault.Stopped, e.Key, "the transfer was stopped", "").Because(context.Cause(ctx))
		}
		if e.Class == agentapi.Permanent {
			return err
		}
		if progress.After(last) {
			last, delay = progress, p.first()
		}
		if idle := time.Since(last); idle >= p.NoProgress {
			late := *e
			late.Reason = fmt.Sprintf("%s (tried without progress for %s)", e.Reason, p.NoProgress)
			return &late
		}
		if p.Retrying != nil {
			p.Retrying(err)
		}
		sleep(ctx, delay/2+rand.N(delay/2+1)) //nolint:gosec // jitter is no secret
		delay = min(2*delay, p.most())
	}
}

// Final returns an error that ends Do, whatever its class: it is not the server's.
func Final(err error) error { return final{err} }

// IsFinal tells whether an error is one of Final.
func IsFinal(err error) bool {
	_, ok := errors.AsType[final](err)
	return ok
}

// final is an error that is not tried again.
type final struct{ error }

// Unwrap returns the error.
func (f final) Unwrap() error { return f.error }

// once calls f, and returns when it last made progress.
func (p *Policy) once(ctx context.Context, f func(ctx context.Context, w *Watch) error) (time.Time, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &Watch{stall: p.Stall, slow: p.Slow}
	if w.slow == 0 {
		w.slow = 5 * time.Minute
	}
	w.timer = time.AfterFunc(p.Stall, func() { cancel(errStalled) })
	defer w.timer.Stop()
	err := f(ctx, w)
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		e := fault.As(err)
		if _, isFinal := errors.AsType[final](err); !isFinal && e.Class != agentapi.Permanent {
			stalled := fault.Temporary(fault.Stalled, e.Key, fmt.Sprintf("the server sent or took nothing for %s", p.Stall), "check that it is not overloaded")
			err = stalled.Because(err)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.progress, err
}

func (p *Policy) first() time.Duration {
	if p.First > 0 {
		return p.First
	}
	return 200 * time.Millisecond
}

func (p *Policy) most() time.Duration {
	if p.Most > 0 {
		return p.Most
	}
	return 20 * time.Second
}

// sleep waits for d, or until ctx is done.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
