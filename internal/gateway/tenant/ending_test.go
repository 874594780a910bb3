// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"strings"
	"testing"
	"testing/iotest"
)

func TestEnding(t *testing.T) {
	for _, text := range []string{"", "a\n", "ab", "abc", "abcd\n", strings.Repeat("line\n", 20000)} {
		e := &ending{limit: 3}
		if err := e.readFrom(iotest.HalfReader(strings.NewReader(text))); err != nil {
			t.Fatal(err)
		}
		if want := text[max(0, len(text)-3):]; string(e.bytes) != want || e.total != int64(len(text)) || e.lines != int64(strings.Count(text, "\n")) {
			t.Errorf("of %d bytes: %q, %d, %d", len(text), e.bytes, e.total, e.lines)
		}
	}
	if err := (&ending{limit: 3}).readFrom(iotest.ErrReader(iotest.ErrTimeout)); err == nil {
		t.Error("an error is lost")
	}
}
