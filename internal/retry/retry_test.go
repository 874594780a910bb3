// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package retry

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestOf(t *testing.T) {
	t.Parallel()
	plain := errors.New("plain")
	second, minute, never := After(time.Second, plain), After(time.Minute, plain), AsTerminal(plain)
	for _, tc := range []struct {
		name  string
		err   error
		class Class
		delay time.Duration
	}{
		{"plain", plain, Transient, 0},
		{"wait", second, Wait, time.Second},
		{"at once", After(-1, plain), Wait, 0},
		{"terminal", never, Terminal, 0},
		{"wrapped", fmt.Errorf("doing this: %w", second), Wait, time.Second},
		{"class of a class", fmt.Errorf("doing that: %w", AsTerminal(second)), Terminal, 0},
		{"the shortest delay", errors.Join(never, minute, second, minute), Wait, time.Second},
		{"at once goes before a delay", errors.Join(second, After(0, plain)), Wait, 0},
		{"transient goes before all", errors.Join(second, plain, never), Transient, 0},
		{"joined and wrapped", fmt.Errorf("two: %w", errors.Join(nil, minute)), Wait, time.Minute},
		{"two with one format", fmt.Errorf("%w, %w", never, second), Wait, time.Second},
	} {
		if class, delay := Of(tc.err); class != tc.class || delay != tc.delay {
			t.Errorf("%s: class %d, delay %s; want %d, %s", tc.name, class, delay, tc.class, tc.delay)
		}
		if !errors.Is(tc.err, plain) || tc.err.Error() == "" {
			t.Errorf("%s: %v hides the error in it", tc.name, tc.err)
		}
	}
}
