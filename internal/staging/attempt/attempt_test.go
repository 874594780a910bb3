// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package attempt

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"batchcompute.dev/operator/internal/staging/fault"
)

var policy = Policy{Stall: 30 * time.Second, NoProgress: 10 * time.Minute}

func busy() error { return fault.Temporary(fault.Busy, "k", "busy", "wait") }

func TestDo(t *testing.T) {
	tests := map[string]struct {
		f         func(ctx context.Context, w *Watch, n int) error
		wantCalls [2]int // least and most
		wantTime  [2]time.Duration
		wantKind  fault.Kind
		wantText  string
	}{
		"succeeds at once": {
			f:         func(context.Context, *Watch, int) error { return nil },
			wantCalls: [2]int{1, 1},
		},
		"permanent": {
			f:         func(context.Context, *Watch, int) error { return fault.Final(fault.Denied, "k", "denied", "") },
			wantCalls: [2]int{1, 1}, wantKind: fault.Denied,
		},
		"transient, and not the server's": {
			f:         func(context.Context, *Watch, int) error { return Final(fault.OfFile("f", syscall.ENOSPC)) },
			wantCalls: [2]int{1, 1}, wantKind: fault.Disk,
		},
		"a storm of refusals that ends": {
			f: func(_ context.Context, _ *Watch, n int) error {
				if n < 20 {
					return busy()
				}
				return nil
			},
			wantCalls: [2]int{20, 20}, wantTime: [2]time.Duration{time.Minute, 5 * time.Minute},
		},
		"never succeeds": {
			f:         func(context.Context, *Watch, int) error { return busy() },
			wantCalls: [2]int{30, 80}, wantTime: [2]time.Duration{10 * time.Minute, 10*time.Minute + 20*time.Second},
			wantKind: fault.Busy, wantText: "tried without progress for 10m0s",
		},
		"a little progress at each attempt": {
			f: func(_ context.Context, w *Watch, n int) error {
				if n == 5000 {
					return nil
				}
				w.Progress()
				return busy()
			},
			wantCalls: [2]int{5000, 5000}, wantTime: [2]time.Duration{8 * time.Minute, 17 * time.Minute},
		},
		"sends the same again and again": {
			f: func(ctx context.Context, w *Watch, _ int) error {
				for range 10 {
					sleep(ctx, 10*time.Second)
					w.Alive()
				}
				return busy()
			},
			wantCalls: [2]int{5, 6}, wantTime: [2]time.Duration{10 * time.Minute, 12 * time.Minute}, wantKind: fault.Busy,
		},
		"stands still once": {
			f: func(ctx context.Context, _ *Watch, n int) error {
				if n == 1 {
					<-ctx.Done()
					return fault.OfNetwork("k", ctx.Err())
				}
				return nil
			},
			wantCalls: [2]int{2, 2}, wantTime: [2]time.Duration{30 * time.Second, 31 * time.Second},
		},
		"always stands still": {
			f: func(ctx context.Context, _ *Watch, _ int) error {
				<-ctx.Done()
				return fault.OfNetwork("k", ctx.Err())
			},
			wantCalls: [2]int{10, 21}, wantTime: [2]time.Duration{10 * time.Minute, 11 * time.Minute},
			wantKind: fault.Stalled, wantText: "nothing for 30s",
		},
		"slow and steady": {
			f: func(ctx context.Context, w *Watch, _ int) error {
				for range 1000 {
					sleep(ctx, 20*time.Second)
					w.Progress()
				}
				return ctx.Err()
			},
			wantCalls: [2]int{1, 1}, wantTime: [2]time.Duration{20000 * time.Second, 20000 * time.Second},
		},
		"a slow disk is not the server's fault": {
			f: func(ctx context.Context, w *Watch, _ int) error {
				w.Pause()
				sleep(ctx, time.Hour)
				w.Resume()
				return ctx.Err()
			},
			wantCalls: [2]int{1, 1}, wantTime: [2]time.Duration{time.Hour, time.Hour},
		},
		"an answer that may take long": {
			f: func(ctx context.Context, w *Watch, _ int) error {
				w.Allow()
				sleep(ctx, 4*time.Minute)
				return ctx.Err()
			},
			wantCalls: [2]int{1, 1}, wantTime: [2]time.Duration{4 * time.Minute, 4 * time.Minute},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start, n := time.Now(), 0
				err := policy.Do(t.Context(), func(ctx context.Context, w *Watch) error {
					n++
					return tc.f(ctx, w, n)
				})
				if took := time.Since(start); took < tc.wantTime[0] || took > max(tc.wantTime[1], tc.wantTime[0]) {
					t.Errorf("took %s, want %s", took, tc.wantTime)
				}
				if n < tc.wantCalls[0] || n > tc.wantCalls[1] {
					t.Errorf("%d calls, want %d", n, tc.wantCalls)
				}
				if (err != nil) != (tc.wantKind != "") || err != nil && (!fault.Is(err, tc.wantKind) || !strings.Contains(err.Error(), tc.wantText)) {
					t.Errorf("error %v, want %s with %q", err, tc.wantKind, tc.wantText)
				}
			})
		})
	}
}

func TestDoStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		err := policy.Do(ctx, func(context.Context, *Watch) error { return busy() })
		if !fault.Is(err, fault.Stopped) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if took := time.Since(start); took != time.Minute {
			t.Errorf("stopped after %s", took)
		}
	})
}

// TestRetrying: each attempt but the first is announced with its reason; what ends the attempts is returned only.
func TestRetrying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []string
		p := policy
		p.Retrying = func(err error) { told = append(told, err.Error()) }
		n := 0
		err := p.Do(t.Context(), func(context.Context, *Watch) error {
			if n++; n < 3 {
				return busy()
			}
			return fault.Final(fault.Denied, "k", "denied", "")
		})
		if want := []string{`"k": busy; wait`, `"k": busy; wait`}; !slices.Equal(told, want) || !fault.Is(err, fault.Denied) {
			t.Errorf("told %q, want %q; error %v", told, want, err)
		}
	})
}
