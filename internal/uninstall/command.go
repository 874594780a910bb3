// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package uninstall

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// CommandName is the command of the manager and of the kubectl plugin.
const CommandName = "release-finalizers"

// DefaultOperatorNamespace is where config/default puts the manager.
const DefaultOperatorNamespace = "batchcompute-system"

// Exit codes.
const (
	exitOK = iota
	exitFailed
	exitUsage
)

const usage = `Usage: %s ` + CommandName + ` [flags]

For an operator that was removed while there were jobs. Removes its finalizers from Pods,
BatchJobs and ComputeEnvs, so that they and their namespaces can be deleted, and deletes
the ConfigMaps batchcompute-tombstones. Events of notifications that were not sent are
lost with them. Pods are not stopped. It refuses to while the
operator runs. It can be repeated.

Flags:
`

// Command reads the flags of release-finalizers, runs it against the cluster of the caller's
// kubeconfig, or the one that it runs in, and returns the exit code: 0, 1 for trouble, 2 for wrong
// usage. program is what is called, as the help has it.
func Command(ctx context.Context, program string, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet(CommandName, flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintf(stderr, usage, program)
		flags.PrintDefaults()
	}
	var o Options
	rules, overrides := clientcmd.NewDefaultClientConfigLoadingRules(), &clientcmd.ConfigOverrides{}
	all := false
	flags.StringVar(&rules.ExplicitPath, "kubeconfig", "", "the kubeconfig `file` (default: as kubectl does, or the cluster that this runs in)")
	flags.StringVar(&overrides.CurrentContext, "context", "", "the `context` of the kubeconfig")
	flags.StringVar(&o.Namespace, "n", "", "the `namespace` to look at (default: that of the context)")
	flags.BoolVar(&all, "all-namespaces", false, "look at all namespaces")
	flags.BoolVar(&o.DryRun, "dry-run", false, "change nothing, and tell what would be done")
	flags.BoolVar(&o.Force, "force", false, "do not look whether the operator runs")
	flags.StringVar(&o.OperatorNamespace, "operator-namespace", cmp.Or(os.Getenv("POD_NAMESPACE"), DefaultOperatorNamespace), "the `namespace` of the operator, where its lease is")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage
	case flags.NArg() > 0, all && o.Namespace != "":
		flags.Usage()
		return exitUsage
	}
	s, err := runWith(ctx, clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides), o, all, stdout, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "error: %v\n", err)
	}
	if running := new(RunningError); errors.As(err, &running) {
		return exitFailed
	}
	fmt.Fprintf(stdout, "Pods: %d, BatchJobs: %d, ComputeEnvs: %d, ConfigMaps: %d; failed: %d\n", s.Pods, s.BatchJobs, s.ComputeEnvs, s.ConfigMaps, s.Failed)
	if err != nil {
		return exitFailed
	}
	return exitOK
}

// runWith runs it against the cluster of a kubeconfig.
func runWith(ctx context.Context, kubeconfig clientcmd.ClientConfig, o Options, all bool, stdout, stderr io.Writer) (Summary, error) {
	config, err := kubeconfig.ClientConfig()
	if err != nil {
		return Summary{}, fmt.Errorf("finding the cluster: %w", err)
	}
	if o.Namespace == "" && !all {
		if o.Namespace, _, err = kubeconfig.Namespace(); err != nil {
			return Summary{}, fmt.Errorf("finding the namespace: %w", err)
		}
	}
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = 100, 200
	c, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	if err != nil {
		return Summary{}, fmt.Errorf("making a client: %w", err)
	}
	return Run(ctx, c, o, stdout, stderr)
}
