// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command agent runs in the containers of a task's Pod: it stages the inputs, runs the command and stores
// the outputs. The operator configures it by the environment variable agentapi.ConfigVariable.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	_ "golang.org/x/crypto/x509roots/fallback" // its image has no certificates
	"golang.org/x/sys/unix"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/staging"
	"batchcompute.dev/operator/internal/wrapper"
)

// version is set by the linker.
var version = "dev"

const usage = `Usage: agent COMMAND

Commands, which the operator puts into a task's Pod:
  stage                           copy the inputs and unpack the package
  exec -- PROGRAM [ARGUMENT...]   run the command, and keep its streams and its exit code
  outputs                         wait for the end of the command, and store the outputs and the streams
  install DIRECTORY               copy this program to DIRECTORY
  version                         show the version

stage, exec and outputs read their configuration from BATCHCOMPUTE_AGENT, and have these flags:
  -termination-log FILE           where the result is written (default /dev/termination-log)
  -state DIRECTORY                where exec and outputs meet (default /.batchcompute/state)
`

// agent has what the commands share.
type agent struct {
	terminationLog string
	state          string
}

func main() {
	os.Exit(run(os.Args[1:]))
}

// run runs the command that args name, and returns the exit code.
func run(args []string) int {
	var a agent
	// A log that nobody reads must not end this process. Nobody reads the channel either.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
	if len(args) == 0 {
		return usageError("a command is missing")
	}
	debug.SetGCPercent(staging.GCPercent)
	command, args := args[0], args[1:]
	switch {
	case command == "version" && len(args) == 0:
		fmt.Println(version)
		return 0
	case command == "install" && len(args) == 1:
		if err := install(args[0]); err != nil {
			fmt.Fprintln(os.Stderr, "agent:", err)
			return agentapi.ExitPermanent
		}
		return 0
	case command == "help" || command == "-h" || command == "--help":
		fmt.Print(usage)
		return 0
	}
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	flags.StringVar(&a.terminationLog, "termination-log", "/dev/termination-log", "")
	flags.StringVar(&a.state, "state", agentapi.StateDir, "")
	if err := flags.Parse(args); err != nil {
		return agentapi.ExitUsage
	}
	switch {
	case command == "exec" && flags.NArg() > 0:
		return a.exec(flags.Args())
	case command == "stage" && flags.NArg() == 0:
		return a.stage()
	case command == "outputs" && flags.NArg() == 0:
		return a.outputs()
	}
	return usageError(fmt.Sprintf("%s is no command, or has the wrong number of arguments", strings.Join(append([]string{command}, flags.Args()...), " ")))
}

// usageError says what is wrong with the arguments.
func usageError(text string) int {
	fmt.Fprintf(os.Stderr, "agent: %s\n\n%s", text, usage)
	return agentapi.ExitUsage
}

// stage copies the inputs and unpacks the package. SIGTERM ends it.
func (a *agent) stage() int {
	var config agentapi.Stage
	if _, err := agentapi.Read(os.Environ(), &config); err != nil {
		return a.refuse(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, os.Interrupt)
	defer stop()
	result := staging.Stage(ctx, config, progress{os.Stderr})
	return a.finish(result, config.MessageBytes)
}

// exec runs a command, in an environment without the configuration.
func (a *agent) exec(command []string) int {
	var config agentapi.Exec
	environ, err := agentapi.Read(os.Environ(), &config)
	if err != nil {
		return a.refuse(err)
	}
	ended := wrapper.Run(wrapper.Options{
		Command: command, Exec: config, StateDir: a.state, Env: environ,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	})
	if ended.Result.Class == "" {
		ended.Result.Message = join(ended.Result.Message, a.ownMessage())
	}
	a.report(ended.Result, config.MessageBytes) // now, since a held container may be killed
	ended.Hold()
	return ended.Code
}

// outputs waits for the end of the command, and stores the outputs and the streams. SIGTERM stops it at once before the
// command has started, and else when the grace period of its configuration is over.
func (a *agent) outputs() int {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, os.Interrupt)
	var config agentapi.Outputs
	if _, err := agentapi.Read(os.Environ(), &config); err != nil {
		return a.refuse(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stop := make(chan os.Signal, 1)
	go func() {
		stop <- <-signals
		time.AfterFunc(time.Duration(config.GraceSeconds)*time.Second, cancel)
	}()
	fmt.Fprintln(os.Stderr, "agent: waiting for the end of the command")
	end, err := wrapper.AwaitEnd(a.state, stop)
	if err != nil {
		return a.finish(agentapi.Result{Class: agentapi.Permanent, Message: err.Error()}, config.MessageBytes)
	}
	if !end.Started {
		return a.finish(agentapi.Result{Message: "the command was not started, so nothing is stored"}, config.MessageBytes)
	}
	result := staging.Store(ctx, config, staging.Command{Succeeded: end.Exit.Code == 0, StateDir: a.state}, progress{os.Stderr})
	result.Code = &end.Exit.Code
	result.Message = join(join(result.Message, end.Exit.Error), end.Exit.Incomplete)
	result.Tail = end.Tail
	return a.finish(result, config.MessageBytes)
}

// install copies this program to a directory, at once: another container never sees a part of it.
func install(directory string) error {
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("reading this program: %w", err)
	}
	temporary := filepath.Join(directory, "."+agentapi.AgentFile+".tmp")
	if err := os.WriteFile(temporary, program, 0o600); err != nil {
		return fmt.Errorf("installing: %w", err)
	}
	if err := os.Chmod(temporary, 0o555); err != nil { //nolint:gosec // it is a program for any user
		return fmt.Errorf("installing: %w", err)
	}
	if err := os.Rename(temporary, filepath.Join(directory, agentapi.AgentFile)); err != nil {
		return fmt.Errorf("installing: %w", err)
	}
	return nil
}
