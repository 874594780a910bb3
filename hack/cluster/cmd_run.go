// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"batchcompute.dev/operator/hack/cluster/internal/cluster"
)

func newRunCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "run PART -- PROGRAM [ARGUMENT...]",
		Short: "Run a program beside the cluster, as a part of it",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			exe, err := filepath.Abs(args[1])
			if err != nil {
				return fmt.Errorf("finding %s: %w", args[1], err)
			}
			return cluster.Run(cmd.Context(), name, args[0], exe, args[2:], os.Stderr)
		},
	}
	nameFlag(cmd, &name)
	return cmd
}
