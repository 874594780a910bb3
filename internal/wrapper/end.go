// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wrapper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"batchcompute.dev/operator/internal/agentapi"
)

// pollInterval is how often AwaitEnd looks for the start marker. A node has few inotify instances for each
// user, and its Pods may all be of one user, so none is used.
const pollInterval = 100 * time.Millisecond

// End is how the command ended, as the container of the outputs sees it.
type End struct {
	// Started is false if AwaitEnd was stopped before the command was started; it is never started then.
	Started bool
	// Exit is the command's. Its code is agentapi.ExitKilled if exec was killed.
	Exit agentapi.Exit
	// Tail is the end of stderr.
	Tail string
}

// AwaitEnd waits until the command has ended. Without a command it waits until stop has a value; once the
// command is started, stop is not looked at.
func AwaitEnd(dir string, stop <-chan os.Signal) (End, error) {
	if started, err := awaitStart(dir, stop); err != nil || !started {
		return End{}, err
	}
	if err := awaitUnlock(dir); err != nil {
		return End{}, err
	}
	end := End{Started: true, Exit: agentapi.Exit{Code: agentapi.ExitKilled}}
	b, err := readState(dir, agentapi.ExitFile, 1<<16)
	if err == nil {
		var exit agentapi.Exit
		if exit, err = agentapi.ParseExit(b); err == nil {
			end.Exit = exit
		}
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		end.Exit.Error = fmt.Sprintf("how the command ended is not known: %v", err)
	}
	if b, err = readState(dir, agentapi.StderrFile, agentapi.MaxTail+1); err == nil {
		end.Tail = agentapi.CutTail(b)
	}
	return end, nil
}

// awaitStart waits for the start marker, and tells whether the command is started. If it is stopped before, it
// creates the marker itself, so that the command is not started after nobody waits for its end.
func awaitStart(dir string, stop <-chan os.Signal) (bool, error) {
	path := filepath.Join(dir, agentapi.StartedFile)
	for {
		if _, err := os.Lstat(path); err == nil {
			text, _ := readState(dir, agentapi.StartedFile, 64) // only exec creates one that cannot be read
			return string(text) != markStopped, nil
		}
		if _, err := os.Stat(dir); err != nil {
			return false, fmt.Errorf("the state directory: %w", err)
		}
		select {
		case <-time.After(pollInterval):
		case <-stop:
			if errors.Is(mark(dir, markStopped), errMarked) {
				continue
			}
			return false, nil
		}
	}
}

// awaitUnlock waits until exec has unlocked the state directory or has been killed.
func awaitUnlock(dir string) error {
	lock, err := os.OpenFile(filepath.Join(dir, agentapi.LockFile), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ELOOP) {
		return awaitExit(dir) // the command has removed the lock
	}
	if err != nil {
		return fmt.Errorf("opening the lock: %w", err)
	}
	defer lock.Close()
	if err := flock(lock, unix.LOCK_SH); err != nil {
		return fmt.Errorf("waiting for the end of the command: %w", err)
	}
	return nil
}

// awaitExit waits for the file of the exit, which is all there is without a lock.
func awaitExit(dir string) error {
	for {
		_, err := os.Lstat(filepath.Join(dir, agentapi.ExitFile))
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		time.Sleep(pollInterval)
	}
}
