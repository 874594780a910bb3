// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// maxLogLine is the longest line written in one piece, as in containerd.
const maxLogLine = 16 << 10

// logTime has a fixed width, as the kubelet shows it.
const logTime = "2006-01-02T15:04:05.000000000Z07:00"

// logFile is the output of one start of a container, written in CRI form: time,
// stream, F (full) or P (partial, no line feed at its end), text. Both streams
// share one pipe, which keeps their order, so all is marked stdout.
type logFile struct {
	file   *os.File
	forget func()

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each write, for followers
	closed  bool
}

// logSet finds the logs that are being written, by path.
type logSet struct{ live sync.Map }

// create starts a log; it is in the set until it is closed.
func (s *logSet) create(path string) (*logFile, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("creating a log: %w", err)
	}
	l := &logFile{file: file, forget: func() { s.live.Delete(path) }, changed: make(chan struct{})}
	s.live.Store(path, l)
	return l, nil
}

// find returns nil for a log that has ended.
func (s *logSet) find(path string) *logFile {
	l, _ := s.live.Load(path)
	log, _ := l.(*logFile)
	return log
}

// copyFrom writes what it reads until the end of r, or an error of it.
func (l *logFile) copyFrom(r io.Reader) {
	in := bufio.NewReaderSize(r, maxLogLine)
	for {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 {
			l.write(time.Now(), line)
		}
		if err != nil && err != bufio.ErrBufferFull {
			return
		}
	}
}

func (l *logFile) write(now time.Time, line []byte) {
	tag := "P"
	if text, ok := bytes.CutSuffix(line, []byte("\n")); ok {
		line, tag = text, "F"
	}
	// A full disk loses output and must not stop the container.
	_, _ = fmt.Fprintf(l.file, "%s stdout %s %s\n", now.UTC().Format(logTime), tag, line)
	l.wake(false)
}

// Close ends the log; followers read what is left and end, too.
func (l *logFile) Close() error {
	l.forget()
	l.wake(true)
	return l.file.Close()
}

func (l *logFile) wake(closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = l.closed || closed
	close(l.changed)
	l.changed = make(chan struct{})
}

// next returns a channel that is closed at the next change, nil when there will
// be none. A nil log has ended.
func (l *logFile) next() <-chan struct{} {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	return l.changed
}

// logOptions are the choices of `kubectl logs`; zero values mean all.
type logOptions struct {
	since      time.Time
	tail       int64 // lines, -1: all
	limit      int64 // bytes, 0: all
	timestamps bool
}

// readLog writes the log at path to out. With a live log it follows until that
// one is closed or ctx ends; flush is called whenever there is nothing to read.
func readLog(ctx context.Context, path string, live *logFile, o logOptions, out io.Writer, flush func()) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("opening the log: %w", err)
	}
	defer file.Close()
	if o.tail >= 0 {
		if err := seekTail(file, o.tail); err != nil {
			return fmt.Errorf("finding the end of the log: %w", err)
		}
	}
	in := bufio.NewReader(file)
	left := o.limit
	var rest string // the start of a line whose end isn't written yet
	for {
		changed := live.next() // asked before reading, so that nothing is missed
		for {
			piece, err := in.ReadString('\n')
			rest += piece
			if err == io.EOF {
				break
			}
			if err != nil {
				return fmt.Errorf("reading the log: %w", err)
			}
			text := o.format(rest)
			rest = ""
			if o.limit > 0 {
				text = text[:min(int64(len(text)), left)]
				left -= int64(len(text))
			}
			if _, err := io.WriteString(out, text); err != nil || (o.limit > 0 && left == 0) {
				return err
			}
		}
		flush()
		if changed == nil {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// format turns a line of the file into what is shown, "" for one too old.
func (o logOptions) format(line string) string {
	stamp, line, _ := strings.Cut(line, " ")
	_, line, _ = strings.Cut(line, " ")
	tag, text, _ := strings.Cut(line, " ")
	if at, err := time.Parse(time.RFC3339Nano, stamp); err != nil || at.Before(o.since) {
		return ""
	}
	if tag == "P" {
		text = strings.TrimSuffix(text, "\n")
	}
	if o.timestamps {
		return stamp + " " + text
	}
	return text
}

// seekTail moves file to the start of its n-th line from the end.
func seekTail(file *os.File, n int64) error {
	var starts []int64 // of the last n lines; the next line's comes last
	var at int64
	starts = append(starts, 0)
	in := bufio.NewReader(file)
	for {
		line, err := in.ReadSlice('\n')
		at += int64(len(line))
		if err == io.EOF {
			break
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil {
			return err
		}
		if starts = append(starts, at); int64(len(starts)) > n+1 {
			starts = starts[1:]
		}
	}
	_, err := file.Seek(starts[0], io.SeekStart)
	return err
}
