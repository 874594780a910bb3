// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/hack/internal/install"
)

// faults counts what was done to the cluster.
type faults struct {
	// kills are those of the manager; spared is how often it was left alive, since it did
	// not hold the lease yet and there was nothing to interrupt.
	kills, spared atomic.Int64
	// outages are those of the node.
	outages atomic.Int64
}

// killManager kills the manager again and again until ctx ends.
func (s *soak) killManager(ctx context.Context) error {
	if s.killEvery == 0 {
		return nil
	}
	for pause(ctx, s.killEvery) {
		if !s.leads(ctx) {
			s.faults.spared.Add(1)
			continue
		}
		switch err := s.cluster.KillManager(ctx, s.kube); {
		case err == nil:
			s.faults.kills.Add(1)
		case errors.Is(err, install.ErrNoManager) || ctx.Err() != nil:
		default:
			return err
		}
	}
	return nil
}

// leads reports whether some manager holds the lease and has renewed it of late. It does
// so every 2 s.
func (s *soak) leads(ctx context.Context) bool {
	var lease coordinationv1.Lease
	err := s.kube.Get(ctx, client.ObjectKey{Namespace: install.Namespace, Name: "manager.batchcompute.dev"}, &lease)
	return err == nil && lease.Spec.RenewTime != nil && time.Since(lease.Spec.RenewTime.Time) < 4*time.Second
}

// outage is one death of the node: when, as a part of the soak's duration, and for how long.
type outage struct {
	at   float64
	away time.Duration
}

// outages are what the node goes through. The first is over before anybody has noticed
// it. The second, for which only a longer soak has the time, is a node that is lost: its
// Pods are put out before it comes back.
func (s *soak) outages() []outage {
	switch {
	case !s.nodeDies:
		return nil
	case s.duration < short:
		return []outage{{0.4, 5 * time.Second}}
	}
	return []outage{{0.25, 5 * time.Second}, {0.6, 45 * time.Second}}
}

// killNode kills the node as often as it is due, and brings it back.
func (s *soak) killNode(ctx context.Context) error {
	begin, part := time.Now(), s.cluster.NodePart()
	for _, o := range s.outages() {
		if !pause(ctx, time.Until(begin.Add(time.Duration(o.at*float64(s.duration))))) {
			return nil
		}
		s.say("the node dies, for %s", o.away)
		if err := s.cluster.Stop(ctx, part); err != nil && ctx.Err() == nil {
			return err
		}
		s.faults.outages.Add(1)
		if !pause(ctx, o.away) {
			return nil
		}
		if err := s.cluster.Start(ctx, part); err != nil && ctx.Err() == nil {
			return err
		}
		s.say("the node is back")
	}
	return nil
}

// say prints a line with the time of day in front.
func (s *soak) say(format string, args ...any) {
	fmt.Fprintf(s.out, "%s %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

// pause waits, and reports whether it waited to the end.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
