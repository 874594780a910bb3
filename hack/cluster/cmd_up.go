// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"batchcompute.dev/operator/hack/cluster/internal/build"
	"batchcompute.dev/operator/hack/cluster/internal/cluster"
)

func newUpCommand() *cobra.Command {
	o := cluster.Options{Provider: cluster.Local, Tier: cluster.Auto}
	var args []string
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Bring a cluster up, and end once it can be used",
		Long: `Bring a cluster up, and end once it can be used. Progress goes to standard
error; the last line, on standard output, is the path of the kubeconfig.

A cluster of the name that is up already is used as it is. One of which only a part
runs, say after a restart of the machine, is removed and created again.`,
		Example: `  cluster up
  cluster up --tier node --fake-nodes 100 --fake-zones ap-guangzhou-2,ap-guangzhou-3
  cluster up --arg kube-controller-manager=--node-monitor-grace-period=16s`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Tier != cluster.Auto && !slices.Contains(build.Tiers, o.Tier) {
				return fmt.Errorf("--tier must be auto or one of %v, got %q", build.Tiers, o.Tier)
			}
			if !slices.Contains([]cluster.Provider{cluster.Local, cluster.Kind, cluster.Existing}, o.Provider) {
				return fmt.Errorf("--provider must be local, kind or existing, got %q", o.Provider)
			}
			if o.Tier == build.Fake && !cmd.Flags().Changed("fake-nodes") {
				o.Fake.Count = 1
			}
			var err error
			if o.Args, err = partArgs(args); err != nil {
				return err
			}
			c, err := cluster.Up(cmd.Context(), o, os.Stderr)
			if err != nil {
				return err
			}
			fmt.Println(c.Kubeconfig())
			return nil
		},
	}
	nameFlag(cmd, &o.Name)
	f := cmd.Flags()
	f.StringVar((*string)(&o.Tier), "tier", string(o.Tier), "how real it is: control-plane, fake, process, node, or auto")
	f.StringVar((*string)(&o.Provider), "provider", string(o.Provider), "who runs it: local, kind or existing")
	f.StringVar(&o.Zone, "zone", "ap-guangzhou-2", "zone of the real (or process) node")
	f.IntVar(&o.Fake.Count, "fake-nodes", 0, "how many pretended nodes to add")
	f.StringSliceVar(&o.Fake.Zones, "fake-zones", []string{"ap-guangzhou-2"}, "zones of the pretended nodes, in turn")
	f.StringSliceVar(&o.Fake.InstanceTypes, "fake-instance-types", []string{"S5.LARGE8"}, "instance types of the pretended nodes, in turn")
	f.BoolVar(&o.Fake.Taint, "fake-taint", true, "keep Pods off the pretended nodes unless they tolerate kwok.x-k8s.io/node")
	f.BoolVar(&o.Audit, "audit", false, "write an audit log of batchcompute.dev and Pod writes to the log directory")
	f.StringArrayVar(&args, "arg", nil, "further argument for a part, as PART=ARGUMENT (repeatable)")
	return cmd
}

// partArgs sorts "part=argument" pairs by part.
func partArgs(pairs []string) (map[string][]string, error) {
	args := map[string][]string{}
	for _, p := range pairs {
		name, arg, ok := strings.Cut(p, "=")
		if !ok || !strings.HasPrefix(arg, "-") {
			return nil, fmt.Errorf("--arg must be PART=--ARGUMENT, got %q", p)
		}
		args[name] = append(args[name], arg)
	}
	return args, nil
}
