// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package logging

import (
	"log/slog"
	"testing"
	"time"
)

func TestNameLevel(t *testing.T) {
	for level, want := range map[slog.Level]string{slog.LevelError: "error", 0: "info", -1: "v1", -4: "v4"} {
		if got := nameLevel(nil, slog.Any(slog.LevelKey, level)).Value.String(); got != want {
			t.Errorf("level %d is %q, want %q", level, got, want)
		}
	}
	if a := slog.Time("time", time.Unix(0, 0)); !nameLevel(nil, a).Equal(a) {
		t.Error("another attribute was changed")
	}
	if a := slog.Any(slog.LevelKey, slog.LevelInfo); !nameLevel([]string{"g"}, a).Equal(a) {
		t.Error("an attribute in a group was changed")
	}
}
