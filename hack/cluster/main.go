// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// cluster brings up a local Kubernetes, built from Go modules alone, for demos
// and tests.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return newRootCommand().ExecuteContext(ctx)
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "cluster",
		Short:         "A local Kubernetes, built from Go modules alone, for demos and tests",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(newUpCommand(), newDownCommand(), newStatusCommand(), newKubeconfigCommand(), newBinDirCommand(),
		newLoadImageCommand(), newImageCommand(), newStopCommand(), newStartCommand(), newRunCommand())
	root.AddCommand(hiddenCommands()...)
	return root
}

// nameFlag adds the flag that says which cluster is meant.
func nameFlag(cmd *cobra.Command, name *string) {
	cmd.Flags().StringVar(name, "name", "demo", "the cluster's name")
}
