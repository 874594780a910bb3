// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// interval is how often a long build says that it is alive.
const interval = 10 * time.Second

// watcher reads the output of "go build -v", counts what it tells, and keeps
// the rest for an error message.
type watcher struct {
	what, progress string
	log            io.Writer
	start          time.Time

	mu        sync.Mutex
	partial   string
	fetched   int // modules downloaded
	compiled  int // packages
	remaining []string
}

const tailLines = 40

func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.partial += string(p)
	for {
		line, rest, ok := strings.Cut(w.partial, "\n")
		if !ok {
			return len(p), nil
		}
		w.partial = rest
		switch {
		case strings.HasPrefix(line, "go: downloading "):
			w.fetched++
		case isPackagePath(line):
			w.compiled++
		default:
			w.remaining = append(w.remaining, line)
			w.remaining = w.remaining[max(0, len(w.remaining)-tailLines):]
		}
	}
}

// isPackagePath tells a line of "go build -v" that names a package just
// compiled from one that says what went wrong.
func isPackagePath(line string) bool {
	return line != "" && !strings.ContainsAny(line, " \t:#")
}

// begin says that the build starts, and then how far it is at every interval
// until the returned function is called.
func (w *watcher) begin() (stop func()) {
	fmt.Fprintf(w.log, "Building %s (%s) ...\n", w.what, w.progress)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				w.report()
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

func (w *watcher) report() {
	w.mu.Lock()
	defer w.mu.Unlock()
	did := "linking"
	switch {
	case w.compiled > 0:
		did = fmt.Sprintf("%d packages compiled", w.compiled)
	case w.fetched > 0:
		did = fmt.Sprintf("%d modules downloaded", w.fetched)
	}
	fmt.Fprintf(w.log, "  still building %s (%s): %s, %s\n", w.what, w.progress, w.elapsed(), did)
}

func (w *watcher) elapsed() time.Duration { return time.Since(w.start).Round(time.Second) }

func (w *watcher) tail() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(append(w.remaining, w.partial), "\n")
}
