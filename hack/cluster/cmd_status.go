// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"batchcompute.dev/operator/hack/cluster/internal/build"
	"batchcompute.dev/operator/hack/cluster/internal/cluster"
)

func newDownCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Remove a cluster and all that belongs to it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cluster.Down(cmd.Context(), name, os.Stderr)
		},
	}
	nameFlag(cmd, &name)
	return cmd
}

func newKubeconfigCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "kubeconfig",
		Short: "Print the path of a cluster's kubeconfig",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := cluster.Open(name, os.Stderr)
			if err != nil {
				return err
			}
			fmt.Println(c.Kubeconfig())
			return nil
		},
	}
	nameFlag(cmd, &name)
	return cmd
}

func newStatusCommand() *cobra.Command {
	var name string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Tell what a cluster is made of and whether it is well",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := cluster.Open(name, os.Stderr)
			if err != nil {
				return err
			}
			s, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(os.Stdout)
				e.SetIndent("", "  ")
				return e.Encode(s)
			}
			printStatus(s)
			return nil
		},
	}
	nameFlag(cmd, &name)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

func printStatus(s *cluster.Status) {
	health := "well"
	if !s.Healthy {
		health = s.Problem
	}
	kind := string(s.Provider)
	if s.Tier != "" {
		kind += ", " + string(s.Tier)
	}
	for _, line := range [][2]string{
		{"name", s.Name + " (" + kind + ")"}, {"health", health}, {"api", s.API}, {"kubeconfig", s.Kubeconfig},
		{"logs", s.LogDir}, {"programs", s.BinDir},
	} {
		if line[1] != "" {
			fmt.Printf("%-11s %s\n", line[0], line[1])
		}
	}
	for _, part := range slices.Sorted(maps.Keys(s.PIDs)) {
		fmt.Printf("process     %-8d %s\n", s.PIDs[part], part)
	}
}

func newBinDirCommand() *cobra.Command {
	tier := build.ControlPlane
	cmd := &cobra.Command{
		Use:   "bin-dir",
		Short: "Build a tier's programs and print their directory (for KUBEBUILDER_ASSETS)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(build.Tiers, tier) {
				return fmt.Errorf("--tier must be one of %v, got %q", build.Tiers, tier)
			}
			b, err := build.New(os.Stderr)
			if err != nil {
				return err
			}
			dir, err := b.Dir(cmd.Context(), tier, false)
			if err != nil {
				return err
			}
			fmt.Println(dir)
			return nil
		},
	}
	cmd.Flags().StringVar((*string)(&tier), "tier", string(tier), "whose programs")
	return cmd
}
