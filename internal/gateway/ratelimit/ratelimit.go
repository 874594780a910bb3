// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ratelimit limits how many requests a caller may send, by a token bucket for each action of each key. It is
// stateful: it has a lock.
//
// A bucket is full when it was not used for a while, and then it is the same as none. So a bucket is kept only
// while it is not full, and what a Limiter holds is bounded by the requests of the last moments that were
// allowed: those that are refused make no bucket.
//
// The limits are those of one process. Where several serve the same callers, each caller has up to so many times as
// much as there are processes.
package ratelimit

import (
	"math"
	"sync"
	"time"
)

// Limit is a bucket's size: PerSecond tokens a second, and at most as many at once, but at least one. 0 or
// less: no limit.
type Limit struct{ PerSecond float64 }

// burst is how many requests may come at once.
func (l Limit) burst() float64 { return math.Max(1, math.Ceil(l.PerSecond)) }

// Defaults returns the limits of the actions. Those that are not in it have DefaultLimit. Source: BatchCompute,
// API Category (international), and for the actions that it does not have, the Chinese overview. Unit: requests
// a second.
func Defaults() map[string]Limit {
	out := map[string]Limit{}
	for perSecond, actions := range map[float64][]string{
		3:  {"DescribeTask"},
		5:  {"DescribeCvmZoneInstanceConfigInfos"},
		7:  {"SubmitJob"},
		30: {"DeleteJob"},
		20: {
			"DescribeTaskLogs", "DescribeJobMonitorData", "DescribeComputeEnvCreateInfos", "TerminateComputeNode", "TerminateComputeNodes",
			"AttachInstances", "DetachInstances", "DescribeInstanceCategories", "DescribeCpmOsInfo",
		},
	} {
		for _, action := range actions {
			out[action] = Limit{perSecond}
		}
	}
	return out
}

// DefaultLimit is that of the actions that are not in Defaults.
var DefaultLimit = Limit{2}

// maxBuckets bounds what a Limiter holds: some 100 bytes each. Unit: buckets.
const maxBuckets = 100_000

// key names a bucket. A source is a secretId that exists, or an address.
type key struct{ source, action string }

// bucket is one that was full of tokens at the moment full, or will be.
type bucket struct{ full time.Time }

// Limiter has the buckets of one process. Its methods may be called at the same time.
type Limiter struct {
	limits   map[string]Limit
	standard Limit
	now      func() time.Time

	mu      sync.Mutex
	buckets map[key]bucket
	swept   time.Time
}

// New returns a limiter with the limits of actions, and standard for all others. limits is kept.
func New(limits map[string]Limit, standard Limit, now func() time.Time) *Limiter {
	return &Limiter{limits: limits, standard: standard, now: now, buckets: map[key]bucket{}, swept: now()}
}

// Limit returns the limit of an action.
func (l *Limiter) Limit(action string) Limit {
	if limit, ok := l.limits[action]; ok {
		return limit
	}
	return l.standard
}

// Allow takes a token for a request of source, and reports whether there was one. action must come from a
// closed set, and source be known: every pair that is allowed may take memory for some seconds. A caller that
// finds no memory left is refused.
func (l *Limiter) Allow(source, action string) bool {
	limit := l.Limit(action)
	if limit.PerSecond <= 0 {
		return true
	}
	k := key{source, action}
	cost := time.Duration(float64(time.Second) / limit.PerSecond)
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	b := l.buckets[k]
	if b.full.Before(now) {
		b.full = now
	}
	// A bucket without tokens is full after burst times the cost of one.
	if b.full = b.full.Add(cost); b.full.Sub(now) > time.Duration(limit.burst()*float64(cost)) {
		return false
	}
	l.sweep(now)
	if _, there := l.buckets[k]; !there && len(l.buckets) >= maxBuckets {
		return false
	}
	l.buckets[k] = b
	return true
}

// sweepEvery is how often full buckets are looked for.
const sweepEvery = 10 * time.Second

// sweep forgets full buckets, so rarely that it costs each request little. The caller holds the lock.
func (l *Limiter) sweep(now time.Time) {
	if since := now.Sub(l.swept); since < sweepEvery && (since < time.Second || len(l.buckets) < maxBuckets) {
		return
	}
	l.swept = now
	for k, b := range l.buckets {
		if !b.full.After(now) {
			delete(l.buckets, k)
		}
	}
}

// Len returns how many buckets there are.
func (l *Limiter) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.buckets)
}
