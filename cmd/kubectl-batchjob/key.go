// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
)

const keyUsage = `Usage: kubectl batchjob key create NAME [flags]
       kubectl batchjob key list [flags]
       kubectl batchjob key revoke NAME [flags]

Keys of the gateway, with which programs call the vendor's API: Secrets of a namespace
with the label ` + v1alpha1.LabelAPIKey + `. Requests act in that namespace, as a service
account of it.

  create   makes the Secret NAME with a random secretId and secretKey, and prints both.
           It makes nothing else; if the service account or its rights are missing, it
           prints the commands that make them
  list     lists the keys of the namespace, without the secretKeys
  revoke   disables a key, or deletes it; requests with it are refused within seconds

Flags:
`

// keyCommands are what can be done with keys. Those with a name take that of the Secret.
var keyCommands = map[string]struct {
	named bool
	run   func(*keys, context.Context) error
}{
	"create": {true, (*keys).create},
	"list":   {false, (*keys).list},
	"revoke": {true, (*keys).revoke},
}

// keys is a command on the keys of a namespace.
type keys struct {
	client    client.Client
	namespace string
	name      string // of the Secret
	account   string // whom a new key acts as
	expires   string // when a new key expires, as the flag has it
	remove    bool   // revoke deletes the Secret

	now            time.Time
	stdout, stderr io.Writer
}

// keyCommand reads the flags of a command on keys and runs it against the cluster of the caller's kubeconfig.
func keyCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	k := &keys{now: time.Now(), stdout: stdout, stderr: stderr}
	rules, overrides := clientcmd.NewDefaultClientConfigLoadingRules(), &clientcmd.ConfigOverrides{}
	flags := flag.NewFlagSet("key", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, keyUsage)
		flags.PrintDefaults()
	}
	flags.StringVar(&rules.ExplicitPath, "kubeconfig", "", "the kubeconfig `file` (default: as kubectl does)")
	flags.StringVar(&overrides.CurrentContext, "context", "", "the `context` of the kubeconfig")
	flags.StringVar(&overrides.Context.Namespace, "n", "", "the `namespace` of the keys (default: that of the context)")
	flags.StringVar(&k.expires, "expires", "", "create: `when` the key expires: a time such as 2027-01-01T00:00:00Z, or how long from now, such as 90d or 12h (default: never)")
	flags.StringVar(&k.account, "service-account", v1alpha1.DefaultAPIServiceAccount, "create: the `name` of the service account that requests act as")
	flags.BoolVar(&k.remove, "delete", false, "revoke: delete the Secret, instead of disabling the key in it")
	words, err := parseAll(flags, args)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		return exitUsage
	}
	command, ok := keyCommands[first(words)]
	if !ok || command.named != (len(words) == 2) || len(words) > 2 {
		flags.Usage()
		return exitUsage
	}
	if command.named {
		k.name = words[1]
	}
	err = k.connect(clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides))
	if err == nil {
		err = command.run(k, ctx)
	}
	if err != nil {
		fmt.Fprintf(stderr, "error: %v\n", err)
		return exitFailed
	}
	return exitOK
}

// parseAll parses flags also behind and between other words, and returns these words.
func parseAll(flags *flag.FlagSet, args []string) (words []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		if flags.NArg() == 0 {
			return words, nil
		}
		words, args = append(words, flags.Arg(0)), flags.Args()[1:]
	}
}

// first returns the first word, "" for none.
func first(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return words[0]
}

// connect makes the client of the cluster in a kubeconfig.
func (k *keys) connect(kubeconfig clientcmd.ClientConfig) error {
	config, err := kubeconfig.ClientConfig()
	if err != nil {
		return fmt.Errorf("finding the cluster: %w", err)
	}
	if k.namespace, _, err = kubeconfig.Namespace(); err != nil {
		return fmt.Errorf("finding the namespace: %w", err)
	}
	if k.client, err = client.New(config, client.Options{Scheme: scheme.Scheme}); err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	return nil
}
