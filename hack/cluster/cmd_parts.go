// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"

	"github.com/spf13/cobra"

	"batchcompute.dev/operator/hack/cluster/internal/cluster"
)

func newStopCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "stop PART ...",
		Short: "Kill parts of a cluster, to see how others take it (see status for their names)",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return cluster.Stop(cmd.Context(), name, args, os.Stderr)
		},
	}
	nameFlag(cmd, &name)
	return cmd
}

func newStartCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "start PART ...",
		Short: "Start parts of a cluster that were stopped or died, with their data and addresses",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return cluster.Start(cmd.Context(), name, args, os.Stderr)
		},
	}
	nameFlag(cmd, &name)
	return cmd
}
