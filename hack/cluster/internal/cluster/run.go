// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"syscall"
	"time"

	"batchcompute.dev/operator/hack/cluster/internal/part"
)

// ownParts are the names that a user's program must not take.
var ownParts = append([]string{partProcessNode}, append(inNode, stopOrder...)...)

// Run runs a program beside the cluster as a part of it, in the place of the one of
// that name that may run there already. It ends with the cluster, and stop and start
// take it like any other part.
func Run(ctx context.Context, name, partName, exe string, args []string, log io.Writer) error {
	c, err := openLocked(ctx, name, log)
	if err != nil {
		return err
	}
	defer c.lock.Release()
	if c.Provider != Local {
		return fmt.Errorf("cluster %q: %w", name, ErrNotUp)
	}
	if slices.Contains(ownParts, partName) {
		return fmt.Errorf("%s is a part of the cluster itself", partName)
	}
	before, err := part.Load(c.partsDir(), partName)
	if err == nil {
		err = part.Stop(ctx, c.self, before, syscall.SIGTERM, 30*time.Second)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return c.start(partName, exe, args...)
}
