// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wrapper

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"batchcompute.dev/operator/internal/agentapi"
)

// Exit codes of a command that cannot be started, as a shell has them.
const (
	codeNotExecutable = 126
	codeNotFound      = 127
)

// startError says why the command could not be started.
type startError struct {
	// code is the command's exit code, or agentapi.ExitTransient if it is not the command's fault.
	code int
	text string
}

func (e *startError) Error() string { return e.text }

// start starts the command as the leader of its own process group. It is killed if the calling thread ends,
// so the caller must have locked it.
func start(command []string, env []string, files []*os.File) (int, *startError) {
	path, serr := lookup(command[0])
	if serr != nil {
		return 0, serr
	}
	attr := &syscall.ProcAttr{Env: env, Sys: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}}
	for _, f := range files {
		attr.Files = append(attr.Files, f.Fd())
	}
	pid, err := syscall.ForkExec(path, command, attr) //nolint:gosec // this is what the program is for
	if err == nil {
		return pid, nil
	}
	return 0, explain(path, err)
}

// lookup finds a program in the PATH, unless its name has a slash.
func lookup(name string) (string, *startError) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path, err := exec.LookPath(name)
	switch {
	case err == nil || errors.Is(err, exec.ErrDot):
		return path, nil
	case errors.Is(err, os.ErrPermission):
		return "", &startError{codeNotExecutable, fmt.Sprintf("%s is not executable: permission denied", name)}
	}
	return "", &startError{codeNotFound, fmt.Sprintf("%s is not in the PATH of the image: give its whole path, or use an image that has it", name)}
}

// explain says why a program could not be executed.
func explain(path string, err error) *startError {
	_, missing := os.Stat(path)
	switch {
	case errors.Is(err, syscall.ENOENT) && missing != nil && path == "/bin/sh":
		return &startError{codeNotFound, "the image has no /bin/sh, which runs the command: use an image with a shell"}
	case errors.Is(err, syscall.ENOENT) && missing != nil:
		return &startError{codeNotFound, fmt.Sprintf("the image has no %s", path)}
	case errors.Is(err, syscall.ENOENT):
		return &startError{codeNotFound, fmt.Sprintf("%s needs %s, which the image does not have", path, interpreter(path))}
	case errors.Is(err, syscall.ENOTDIR):
		return &startError{codeNotFound, fmt.Sprintf("the image has no %s", path)}
	case errors.Is(err, syscall.ENOEXEC):
		return &startError{codeNotExecutable, noProgram(path)}
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return &startError{codeNotExecutable, fmt.Sprintf("%s is not executable: permission denied", path)}
	case errors.Is(err, syscall.E2BIG):
		return &startError{codeNotExecutable, "the command and its environment are too long for the kernel"}
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOMEM):
		return &startError{agentapi.ExitTransient, fmt.Sprintf("no process could be started: %v", err)}
	}
	return &startError{codeNotExecutable, fmt.Sprintf("%s cannot be executed: %v", path, err)}
}

// head returns the first bytes of a program.
func head(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	b := make([]byte, 256)
	n, _ := f.Read(b)
	return b[:n]
}

// interpreter names what the kernel needs to run a program: that of a script, or the dynamic linker.
func interpreter(path string) string {
	b := head(path)
	if line, ok := bytes.CutPrefix(b, []byte("#!")); ok {
		line, _, _ = bytes.Cut(line, []byte("\n"))
		if fields := bytes.Fields(line); len(fields) > 0 {
			return fmt.Sprintf("the interpreter %q", fields[0])
		}
	}
	return "a dynamic linker (its C library)"
}

// machines are the names of processors as GOARCH has them, by e_machine of ELF.
var machines = map[uint16]string{
	3: "386", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm", 62: "amd64", 183: "arm64", 243: "riscv64", 258: "loong64",
}

// noProgram says why the kernel does not take a file for a program.
func noProgram(path string) string {
	b := head(path)
	if len(b) < 20 || !bytes.HasPrefix(b, []byte("\x7fELF")) {
		return path + " is no program: a script starts with #! and its interpreter"
	}
	var order binary.ByteOrder = binary.LittleEndian
	if b[5] == 2 {
		order = binary.BigEndian
	}
	number := order.Uint16(b[18:])
	name := machines[number]
	if number == 21 && b[5] != 2 {
		name = "ppc64le"
	}
	switch name {
	case "":
		name = fmt.Sprintf("another architecture (ELF machine %d)", number)
	case runtime.GOARCH:
		return path + " is not a program that this kernel can run"
	}
	return fmt.Sprintf("%s is a program for %s, and this machine is %s: use an image for %s", path, name, runtime.GOARCH, runtime.GOARCH)
}
