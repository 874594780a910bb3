// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import "sync"

// group is goroutines of which the first that fails ends the soak.
type group struct {
	wg   sync.WaitGroup
	fail func(error)
}

func (g *group) run(f func() error) {
	g.wg.Go(func() {
		if err := f(); err != nil {
			g.fail(err)
		}
	})
}

func (g *group) wait() { g.wg.Wait() }
