// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"fmt"
	"testing"
	"time"

	"batchcompute.dev/operator/internal/testutil/controlplane"
)

// faulty is how long faults are injected at most.
const faulty = time.Minute

// TestFaultsNetwork: however late or broken the manager's watches are, and however its calls fail, every job ends as without
// faults.
func TestFaultsNetwork(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		seed     uint64
		share    float64
		lag, cut time.Duration
	}{
		"late watches": {seed: 1, lag: 2 * time.Second},
		"cut watches":  {seed: 2, lag: time.Second / 2, cut: 3 * time.Second},
		"bad answers":  {seed: 3, share: 0.3},
		"all together": {seed: 4, share: 0.2, lag: time.Second, cut: 4 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newFaultEnv(t, controlplane.Get(t), tc.seed)
			p, cfg := newProxy(t, d.Config, tc.seed)
			manager := d.manager(cfg, nil)
			const jobs = 5
			for i := range jobs {
				d.create(d.reference(fmt.Sprint("ref-", i)))
			}
			d.within(time.Minute, "the first Pod exists", func() bool { return len(d.Pods(t, d.ns)) > 0 })
			p.change(func(p *proxy) { p.share, p.lag, p.cut = tc.share, tc.lag, tc.cut })
			start := time.Now()
			d.within(4*time.Minute, "every job has ended", func() bool {
				if time.Since(start) > faulty { // on a slow machine the faults may keep the jobs from ending
					p.change(func(p *proxy) { p.share, p.lag, p.cut = 0, 0, 0 })
				}
				return d.allEnded()
			})
			if manager.hasEnded() {
				t.Error("the manager has stopped")
			}
			for i := range jobs {
				d.wantReference(fmt.Sprint("ref-", i))
			}
			t.Logf("seed %d, %s: %s", tc.seed, time.Since(start).Round(time.Millisecond), p.report())
			d.wantNoOverlap()
		})
	}
}
