// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package staging

import (
	"fmt"
	"testing"
	"time"

	"batchcompute.dev/operator/internal/staging/attempt"
)

// TestCalls counts the requests: one for each file, one for each page of a listing, and no other. Stores bill them, and
// each takes as long as a small file.
func TestCalls(t *testing.T) {
	const files = 50
	w := newWorld(t)
	w.PageSize = 20
	w.agent.policy = &attempt.Policy{Stall: time.Minute, NoProgress: time.Minute} // a slow machine makes no request twice
	src, dst := t.TempDir(), t.TempDir()
	content := tree{}
	for i := range files {
		content[fmt.Sprintf("d%d/%d", i%3, i)] = file{fmt.Sprint("contents ", i), 0o644, when.UnixNano()}
	}
	content.write(t, src)
	// calls returns the requests since the last call of it.
	last := map[string]int{}
	calls := func() string {
		got := map[string]int{}
		for _, method := range []string{"DELETE", "GET", "HEAD", "POST", "PUT"} {
			n := w.Count(method)
			if n > last[method] {
				got[method] = n - last[method]
			}
			last[method] = n
		}
		return fmt.Sprint(got)
	}
	want := func(what, want string) {
		t.Helper()
		if got := calls(); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	check(t, w.push(t, src, "p/"))
	want("stored: the objects and the uploads that are there, and each file", "map[GET:2 PUT:50]")
	check(t, w.stage(t, "p/", dst))
	want("staged: three pages, and each file", "map[GET:53]")
	check(t, w.push(t, src, "p/"))
	want("stored again: three pages and the uploads, and the checksum of each", "map[GET:4 HEAD:50]")
	check(t, w.stage(t, "p/", dst))
	want("staged again", "map[GET:3 HEAD:50]")

	tree{"large": {string(text(5*partBytes + 1)), 0o644, when.UnixNano()}}.write(t, src)
	check(t, w.push(t, src, "q/"))
	want("with a large file: its uploads, its start, its parts and its end", "map[GET:3 POST:2 PUT:56]")
	check(t, w.stage(t, "q/", t.TempDir()))
	want("with a large file: its parts", "map[GET:59]")
}

// TestAllocations bounds what a small file takes: what is bounded is the process's, so that the server does not count.
func TestAllocations(t *testing.T) {
	const most = 350
	s := newSized(t, *many, 100)
	for way, u := range map[string]usage{"stage": s.stage(t, s.dir).do(t), "store": s.push(t, s.dir).do(t)} {
		each := float64(u.mallocs) / float64(*many)
		t.Logf("%s: %.0f allocations for a file", way, each)
		if each > most && !raceEnabled {
			t.Errorf("%s: %.0f allocations for a file, want at most %d", way, each, most)
		}
	}
}
