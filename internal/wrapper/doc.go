// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package wrapper runs a command in a container, copies its streams, and tells another container of the
// Pod when the command has ended. It is the library of the agent's commands exec and outputs.
//
//	container of the command          state directory               container of the outputs
//	Run                                                             AwaitEnd
//	  lock ─────────────────────────▶ lock (flock, exclusive)
//	  streams ──────────────────────▶ stdout, stderr
//	  start marker ─────────────────▶ started ────────────────────▶ looks for it
//	  start the command                                             waits for the lock
//	  copy the streams ─────────────▶ stdout, stderr
//	  the command has ended
//	  exit ─────────────────────────▶ exit.json
//	  unlock ───────────────────────▶ lock ───────────────────────▶ has it, reads exit.json
//	  hold, if the command failed
//
// The kernel unlocks the file if Run is killed, by SIGKILL or for lack of memory. AwaitEnd then finds the lock
// free and no exit.json, and the code counts as that of SIGKILL.
//
// # The command
//
// It is a child of the wrapper and the leader of a process group of its own, so it is never PID 1: signals
// that it does not handle end it, as on a machine. The wrapper reaps the orphans of the container.
//
// SIGTERM goes to the process group, as batch systems do it: a shell does not pass it on to what it runs. Then
// the command may continue for GraceSeconds, until no process is left in its group; what is left
// then is killed. Other signals go to the command's own process.
//
// Processes that the command leaves behind in the background may write for drainTime after the command has
// ended, so that a tee can finish. Then they are killed before exit.json is written, so that outputs
// does not read files that still change. If the command failed and the container is held, they are not killed.
//
// # Streams
//
// The command writes to pipes, never to a terminal. What it writes is copied to the container's log, to a
// file in the state directory and, if wanted, to a local file. A file that cannot be written any more, such as on
// a full disk, gets no more bytes, and the result says so; the others continue. A log that is not read, and a
// file system that does not answer, block the command, as they do without the wrapper.
package wrapper
