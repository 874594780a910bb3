// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wrapper

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"batchcompute.dev/operator/internal/agentapi"
)

// The contents of the start marker: who created it.
const (
	markStarted = "started\n"
	markStopped = "stopped\n"
)

// fileMode is that of all files in the state directory: the other container may have another user.
const fileMode = 0o644

// errMarked says that there is a start marker already.
var errMarked = errors.New("the command is not started: it was started in this Pod before, or the Pod was stopped before")

// state is the side of exec of the state directory.
type state struct {
	dir        string
	lock, exit *os.File
}

// openState locks the state directory, and takes the space for the exit before the command can fill the disk.
func openState(dir string, step func(string)) (*state, error) {
	s := &state{dir: dir}
	var err error
	if s.lock, err = createFile(filepath.Join(dir, agentapi.LockFile), os.O_RDWR); err != nil {
		return nil, fmt.Errorf("creating the lock: %w", err)
	}
	if err := flock(s.lock, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("locking %s: %w", s.lock.Name(), err)
	}
	step("locked")
	if s.exit, err = createFile(s.temporary(), os.O_WRONLY|os.O_TRUNC); err != nil {
		return nil, fmt.Errorf("creating the file of the exit: %w", err)
	}
	if err := s.write(agentapi.Exit{Code: agentapi.ExitKilled}); err != nil {
		return nil, err
	}
	step("exit reserved")
	return s, nil
}

// temporary is the name of ExitFile until it is complete.
func (s *state) temporary() string { return filepath.Join(s.dir, agentapi.ExitFile+".tmp") }

// write writes the exit under its temporary name.
func (s *state) write(e agentapi.Exit) error {
	if _, err := s.exit.WriteAt(agentapi.EncodeExit(e), 0); err != nil {
		return fmt.Errorf("writing the exit: %w", err)
	}
	if err := s.exit.Sync(); err != nil {
		return fmt.Errorf("writing the exit: %w", err)
	}
	return nil
}

// ended writes the exit and unlocks the state directory, which it does after an error, too.
func (s *state) ended(e agentapi.Exit, step func(string)) error {
	err := s.write(e)
	step("exit written")
	if err == nil {
		if err = os.Rename(s.temporary(), filepath.Join(s.dir, agentapi.ExitFile)); err != nil {
			err = fmt.Errorf("writing the exit: %w", err)
		}
	}
	step("exit in place")
	err = errors.Join(err, s.exit.Close(), s.lock.Close())
	step("unlocked")
	return err
}

// mark creates the start marker. The error is errMarked if there is one.
func mark(dir, text string) error {
	f, err := createFile(filepath.Join(dir, agentapi.StartedFile), os.O_WRONLY|os.O_EXCL)
	if errors.Is(err, os.ErrExist) {
		return errMarked
	}
	if err != nil {
		return fmt.Errorf("creating the start marker: %w", err)
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// createFile opens a file of the state directory, which the other container may read whatever the umask is.
func createFile(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags|os.O_CREATE|unix.O_NOFOLLOW, fileMode)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(fileMode); err != nil && !errors.Is(err, os.ErrPermission) {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// flock is flock(2).
func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// readState returns the last limit bytes of a regular file in the state directory. The command may have put
// anything there, so a symbolic link that leads out of the directory and a FIFO are errors.
func readState(dir, name string, limit int64) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", name)
	}
	return io.ReadAll(io.NewSectionReader(f, max(info.Size()-limit, 0), limit))
}
