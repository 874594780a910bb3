// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"

	"github.com/spf13/cobra"

	"batchcompute.dev/operator/hack/cluster/internal/cluster"
	"batchcompute.dev/operator/hack/cluster/internal/node"
	"batchcompute.dev/operator/hack/cluster/internal/part"
	"batchcompute.dev/operator/hack/cluster/procnode"
)

// hiddenCommands are those by which this program starts itself.
func hiddenCommands() []*cobra.Command {
	hidden := func(use string, args int, run func(cmd *cobra.Command, args []string) error) *cobra.Command {
		return &cobra.Command{Use: use, Hidden: true, Args: cobra.ExactArgs(args), RunE: run}
	}
	return []*cobra.Command{
		hidden(part.ExecCommand+" DIR NAME", 2, func(_ *cobra.Command, a []string) error { return part.Exec(a[0], a[1]) }),
		hidden(node.EnterCommand+" DIR NAME SELF CONFIG LOG", 5, func(_ *cobra.Command, a []string) error {
			return node.Enter(a[0], a[1], a[2], a[3], a[4])
		}),
		hidden(node.InitCommand+" CONFIG", 1, func(_ *cobra.Command, a []string) error { return node.Init(a[0]) }),
		hidden(node.ProbeCommand+" DIR", 1, func(_ *cobra.Command, a []string) error { return node.Probe(a[0]) }),
		newProcessNodeCommand(),
	}
}

func newProcessNodeCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:    cluster.ProcessNodeCommand,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := cluster.Open(name, os.Stderr)
			if err != nil {
				return err
			}
			return procnode.Run(cmd.Context(), c.ProcessNodeConfig())
		},
	}
	nameFlag(cmd, &name)
	return cmd
}
