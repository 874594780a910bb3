// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"batchcompute.dev/operator/hack/cluster/internal/cluster"
	"batchcompute.dev/operator/hack/cluster/internal/image"
)

func newImageCommand() *cobra.Command {
	var out string
	var spec image.Spec
	var env, labels []string
	cmd := &cobra.Command{
		Use:   "image -o OUT.tar --name NAME:TAG [PATH=HOSTFILE | PATH->TARGET] ...",
		Short: "Pack an image without a container engine",
		Long: `Pack an image of one layer without a container engine, as a tar that docker load,
kind load image-archive and ctr images import take. The same input always gives
the same bytes.

PATH=HOSTFILE copies a file or a directory of this machine to PATH, and
PATH->TARGET makes a symbolic link.`,
		Example: `  cluster image -o manager.tar --name batchcompute-operator:dev --entrypoint /manager --user 65532:65532 /manager=bin/manager`,
		RunE: func(_ *cobra.Command, args []string) error {
			for _, a := range args {
				f, err := image.ParseFile(a)
				if err != nil {
					return err
				}
				spec.Files = append(spec.Files, f)
			}
			spec.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, env...)
			for _, l := range labels {
				k, v, ok := strings.Cut(l, "=")
				if !ok {
					return fmt.Errorf("--label must be KEY=VALUE, got %q", l)
				}
				if spec.Labels == nil {
					spec.Labels = map[string]string{}
				}
				spec.Labels[k] = v
			}
			return image.WriteFile(out, spec)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&out, "output", "o", "", "the tar to write")
	f.StringVar(&spec.Name, "name", "", "the image's name and tag")
	f.StringSliceVar(&spec.Entrypoint, "entrypoint", nil, "entrypoint, its words separated by commas")
	f.StringSliceVar(&spec.Cmd, "cmd", nil, "default arguments, separated by commas")
	f.StringVar(&spec.User, "user", "", "user and group it runs as, e.g. 65532:65532")
	f.StringArrayVar(&env, "env", nil, "environment variable KEY=VALUE (repeatable)")
	f.StringArrayVar(&labels, "label", nil, "label KEY=VALUE (repeatable)")
	for _, required := range []string{"output", "name"} {
		_ = cmd.MarkFlagRequired(required) // fails only for a flag that is not there
	}
	return cmd
}

func newLoadImageCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "load-image TAR ...",
		Short: "Give images to a cluster's nodes",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := cluster.Open(name, os.Stderr)
			if err != nil {
				return err
			}
			for _, archive := range args {
				if err := c.LoadImage(cmd.Context(), archive); err != nil {
					return err
				}
			}
			return nil
		},
	}
	nameFlag(cmd, &name)
	return cmd
}
