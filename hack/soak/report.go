// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"batchcompute.dev/operator/hack/soak/ledger"
)

// reportEvery is how often there is a line of progress.
const reportEvery = 5 * time.Second

// reportProgress prints a line every few seconds until ctx ends.
func (s *soak) reportProgress(ctx context.Context) {
	for begin := time.Now(); pause(ctx, reportEvery); {
		sums := s.books.Sums()
		s.say("%4.0f s  %d jobs active, %d of %d ended as they should; %d Pods live, %d made; manager killed %d times, node %d; %d wrong",
			time.Since(begin).Seconds(), s.tally.active.Load(), s.tally.asExpected.Load(), sums.Jobs, sums.Live, sums.Attempts,
			s.faults.kills.Load(), s.faults.outages.Load(), len(s.books.Findings()))
	}
}

// printTable sums the soak up.
func (s *soak) printTable(took time.Duration, findings []ledger.Finding) {
	sums := s.books.Sums()
	on := "a real node"
	if s.cluster.NodeKind == "process" {
		on = "the process node"
	}
	fmt.Fprintf(s.out, "\n── Soak of %s with %d jobs at once on %s, ended after %s\n", s.duration, s.atOnce, on, took.Round(time.Second))
	row := func(what string, n int) { fmt.Fprintf(s.out, "%-44s %6d\n", what, n) }
	row("jobs", sums.Jobs)
	row("  ended as without faults", int(s.tally.asExpected.Load()))
	row("  deleted, and all of it gone", int(s.tally.deleted.Load()))
	row("instances that ran", sums.Instances)
	row("attempts, one Pod each", sums.Attempts)
	row("  succeeded", sums.Succeeded)
	row("  failed", sums.Failed)
	row("  ended after they were asked to", sums.Disturbed)
	row("  ended by the machine", sums.MachineLost)
	row("  gone without an end, with their job or node", sums.Gone)
	row("Pods live at once, at most", sums.MaxLive)
	row("the manager was killed", int(s.faults.kills.Load()))
	row("  was due and did not lead yet", int(s.faults.spared.Load()))
	row("the node was killed", int(s.faults.outages.Load()))
	byKind := map[ledger.Kind]int{}
	for _, f := range findings {
		byKind[f.Kind]++
	}
	for _, k := range ledger.Kinds {
		row(string(k), byKind[k])
	}
	for _, f := range findings {
		fmt.Fprintln(s.out, f)
	}
}
