// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import "time"

// hops times, in every job of a shape, the way from the end of the last Pod that a task waits
// for to the first Pod of that task.
type hops struct {
	shape shape
	after [][]int // the reverse of task.after
	jobs  map[string][]progress
	ended int
	times []time.Duration
}

// progress is how far a task of a job has come.
type progress struct {
	ended, waitsFor int // Pods of its own that have ended, and tasks before it that have not
	free            time.Time
	started         bool
}

func newHops(s shape) *hops {
	h := &hops{shape: s, after: make([][]int, len(s.tasks)), jobs: map[string][]progress{}}
	for n, t := range s.tasks {
		for _, before := range t.after {
			h.after[before] = append(h.after[before], n)
		}
	}
	return h
}

func (h *hops) job(name string) []progress {
	p, ok := h.jobs[name]
	if !ok {
		p = make([]progress, len(h.shape.tasks))
		for n, t := range h.shape.tasks {
			p[n].waitsFor = len(t.after)
		}
		h.jobs[name] = p
	}
	return p
}

// made says that a task of a job has a new Pod.
func (h *hops) made(job string, task int, now time.Time) {
	p := &h.job(job)[task]
	if !p.started && !p.free.IsZero() {
		h.times = append(h.times, now.Sub(p.free))
	}
	p.started = true
}

// end says that a Pod of a task of a job has succeeded, and returns whether that was the last.
func (h *hops) end(job string, task int, now time.Time) bool {
	h.ended++
	all := h.job(job)
	all[task].ended++
	if all[task].ended == h.shape.tasks[task].instances {
		for _, n := range h.after[task] {
			if all[n].waitsFor--; all[n].waitsFor == 0 {
				all[n].free = now
			}
		}
	}
	return h.ended == h.shape.total()
}
