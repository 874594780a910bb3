// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"batchcompute.dev/operator/hack/cluster/internal/part"
)

// newExecPartCommand is how this program starts a daemon; see [part.Start].
func newExecPartCommand() *cobra.Command {
	return &cobra.Command{
		Use:    part.ExecCommand + " DIR NAME",
		Hidden: true,
		Args:   cobra.ExactArgs(2),
		RunE:   func(_ *cobra.Command, args []string) error { return part.Exec(args[0], args[1]) },
	}
}
