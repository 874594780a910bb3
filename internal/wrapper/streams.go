// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wrapper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"batchcompute.dev/operator/internal/agentapi"
)

const (
	// drainTime is how long processes that the command left behind may write after its end.
	drainTime = 2 * time.Second
	// logTime is how long the end waits, after that, for a log or file that accepts nothing.
	logTime = 10 * time.Second
	// chunkBytes is how much is read at once, and all the memory that a stream takes beside its tail.
	chunkBytes = 64 << 10
)

// stream copies one stream of the command.
type stream struct {
	name string   // stdout or stderr
	pipe *os.File // where the command's output is read
	done chan struct{}

	mu     sync.Mutex // of what is below
	log    *os.File   // the container's own stream; nil after an error
	files  []*os.File
	sealed bool // the files are closed
	errs   []error
	tail   []byte // only changed by copy

	tailed *os.File // the one of files that has only the tail, nil for none; never changed
}

// streamOptions say where a stream is copied to.
type streamOptions struct {
	name      string   // stdout or stderr
	log       *os.File // the container's own stream
	stateFile string
	keep      bool   // all of the stream is kept in stateFile, not only its tail
	local     string // a further file; empty for none
}

// newStream opens the files of a stream, and returns the end of the pipe that the command writes to. A
// local file that cannot be opened is not fatal.
func newStream(o streamOptions) (*stream, *os.File, error) {
	file, err := createFile(o.stateFile, os.O_WRONLY|os.O_TRUNC)
	if err != nil {
		return nil, nil, fmt.Errorf("creating the file of %s: %w", o.name, err)
	}
	s := &stream{name: o.name, log: o.log, files: []*os.File{file}, done: make(chan struct{})}
	if !o.keep {
		s.tailed = file
	}
	if o.local != "" {
		file, err := openLocal(o.local)
		if err != nil {
			s.errs = append(s.errs, err)
		} else {
			s.files = append(s.files, file)
		}
	}
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("making a pipe: %w", err)
	}
	// Only the wrapper's end: the command's must block.
	if err := unix.SetNonblock(ends[0], true); err != nil {
		return nil, nil, fmt.Errorf("making a pipe: %w", err)
	}
	s.pipe = os.NewFile(uintptr(ends[0]), o.name)
	return s, os.NewFile(uintptr(ends[1]), o.name), nil
}

// openLocal opens a local file that gets a copy. Two streams may go to the same file.
func openLocal(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // what mkdir -p in the command would do
		return nil, err
	}
	// Without O_NONBLOCK a FIFO would block until somebody reads it.
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND|unix.O_NONBLOCK, fileMode)
}

// copy copies until the end of the stream. The files are complete when done is closed; what background
// processes write after that only goes to the container's log.
func (s *stream) copy() {
	buf := make([]byte, chunkBytes)
	for {
		n, err := s.pipe.Read(buf)
		s.write(buf[:n])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			s.drain(buf)
			s.seal()
			continue
		}
		if err != nil {
			s.seal()
			return
		}
	}
}

// drain copies what is in the pipe, after the deadline. Whatever others write meanwhile, all that the command has
// written before its end is within the size of the pipe.
func (s *stream) drain(buf []byte) {
	_ = s.pipe.SetReadDeadline(time.Time{})
	raw, err := s.pipe.SyscallConn()
	if err != nil {
		return
	}
	size := chunkBytes
	_ = raw.Control(func(fd uintptr) {
		if n, err := unix.FcntlInt(fd, unix.F_GETPIPE_SZ, 0); err == nil {
			size = n
		}
	})
	for size > 0 {
		n := 0
		_ = raw.Read(func(fd uintptr) bool {
			n, _ = unix.Read(int(fd), buf)
			return true
		})
		if n <= 0 {
			return
		}
		s.write(buf[:n])
		size -= n
	}
}

// write copies a chunk to where it can be written.
func (s *stream) write(p []byte) {
	if len(p) == 0 {
		return
	}
	s.mu.Lock()
	files, log := s.files, s.log
	if !s.sealed {
		s.tail = appendTail(s.tail, p)
	}
	s.mu.Unlock()
	for _, f := range files { // before the log, which may block
		var err error
		if f == s.tailed {
			_, err = f.WriteAt(s.tail, 0) // at once, since this process may be killed
		} else {
			_, err = f.Write(p)
		}
		if err != nil {
			s.remove(f, err)
		}
	}
	if log == nil {
		return
	}
	if _, err := log.Write(p); err != nil {
		s.remove(log, err)
	}
}

// remove stops copying to a file, and remembers why.
func (s *stream) remove(f *os.File, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.sealed {
		s.errs = append(s.errs, err)
	}
	if f == s.log {
		s.log = nil
		return
	}
	var kept []*os.File // a new slice: write has the old one
	for _, other := range s.files {
		if other != f {
			kept = append(kept, other)
		}
	}
	s.files = kept
	_ = f.Close()
}

// seal closes the files.
func (s *stream) seal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sealed {
		return
	}
	for _, f := range s.files {
		if err := f.Close(); err != nil {
			s.errs = append(s.errs, err)
		}
	}
	s.files, s.sealed = nil, true
	close(s.done)
}

// setEnd bounds how long the rest of the stream is waited for.
func (s *stream) setEnd(at time.Time) { _ = s.pipe.SetReadDeadline(at) }

// await waits until the files are complete, or give is closed.
func (s *stream) await(give <-chan struct{}) {
	select {
	case <-s.done:
	case <-give:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.errs = append(s.errs, errors.New("the log or a file accepts nothing"))
	}
}

// incomplete says where the stream lacks something; it is empty if nothing is missing.
func (s *stream) incomplete() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.errs) == 0 {
		return ""
	}
	var texts []string
	for _, err := range s.errs {
		texts = append(texts, err.Error())
	}
	return s.name + " is not complete: " + strings.Join(texts, "; ")
}

// end returns the tail.
func (s *stream) end() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return agentapi.CutTail(s.tail)
}

// appendTail returns the end of tail and p: what CutTail needs, which is a byte more than it keeps.
func appendTail(tail, p []byte) []byte {
	const keep = agentapi.MaxTail + 1
	if len(p) >= keep {
		return append(tail[:0], p[len(p)-keep:]...)
	}
	if over := len(tail) + len(p) - keep; over > 0 {
		tail = append(tail[:0], tail[over:]...)
	}
	return append(tail, p...)
}
