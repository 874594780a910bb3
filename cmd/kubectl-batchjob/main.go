// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command kubectl-batchjob is a plugin of kubectl. With it in the PATH,
// "kubectl batchjob" runs it.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"

	"batchcompute.dev/operator/internal/uninstall"
)

// Exit codes.
const (
	exitOK = iota
	exitFailed
	exitUsage
)

const usage = `Usage: kubectl batchjob COMMAND

Commands:
  convert              turn a SubmitJob or CreateComputeEnv request into a manifest, and back
  key                  create, list and revoke keys of the gateway, which answers the vendor's API
  release-finalizers   after the operator was removed: free Pods and ComputeEnvs of its finalizers

"kubectl batchjob COMMAND -h" says more about a command.
`

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run runs the command that args name, and returns the exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) > 0 {
		switch args[0] {
		case "convert":
			return convertCommand(args[1:], stdin, stdout, stderr)
		case "key":
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
			defer stop()
			return keyCommand(ctx, args[1:], stdout, stderr)
		case uninstall.CommandName:
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
			defer stop()
			return uninstall.Command(ctx, "kubectl batchjob", args[1:], stdout, stderr)
		case "help", "-h", "--help":
			fmt.Fprint(stdout, usage)
			return exitOK
		}
		fmt.Fprintf(stderr, "unknown command %q\n", args[0])
	}
	fmt.Fprint(stderr, usage)
	return exitUsage
}
