// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package backlog has the events of one job or ComputeEnv that one topic announces and that its receiver has not acknowledged.
//
// The status of the object stores them, so they are lost in no crash: they are added in the write that stores what they
// announce, and removed after the receiver's acknowledgement. An entry has all events that differ in their number only,
// so the size of a backlog does not grow with the number of instances. See MaxEntries and MaxSize.
package backlog

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"batchcompute.dev/operator/internal/notify/event"
	"batchcompute.dev/operator/internal/ranges"
)

const (
	// MaxEntries is how many entries a backlog may have before the older ones are merged.
	MaxEntries = 64
	// unmerged is how many of the newest entries stay as they are then.
	unmerged = 16
)

// Key is what the ids of the events of an entry have in common. Together with its number it identifies an event of its object.
type Key struct {
	Name event.Name
	Run  int
	// Attempt is that of the instance, for events of instances and their nodes. For those of a ComputeEnv's nodes it is
	// the generation of the ComputeEnv.
	Attempt int
}

// Entry is one or more events that differ in their number only.
type Entry struct {
	Key
	// Numbers are those of v1alpha1.PendingEvents; 0 for an event of the job or the ComputeEnv.
	Numbers ranges.Set
	// Time is when it happened; for several events, when the last did.
	Time time.Time
	// JobState is the state of the job; "" means RUNNING, or that in the name.
	JobState string
	Details
}

// Details are what else is known of the events of an entry, as far as they have it in common.
type Details struct {
	ExitCode              *int32
	Reason, Message, Node string
}

// merge returns what both have in common.
func (d Details) merge(o Details) Details {
	if d.ExitCode != nil && (o.ExitCode == nil || *d.ExitCode != *o.ExitCode) {
		d.ExitCode = nil
	}
	for _, p := range [...]struct{ a, b *string }{{&d.Reason, &o.Reason}, {&d.Message, &o.Message}, {&d.Node, &o.Node}} {
		if *p.a != *p.b {
			*p.a = ""
		}
	}
	return d
}

// Backlog has entries in the order in which they are sent. No event is in two of them. The zero value is empty.
// Methods return a new backlog where they change something, and never change their receiver.
type Backlog []Entry

// Acks are events by key and number: for example, those that were acknowledged.
type Acks map[Key]ranges.Set

// Add adds events to the set.
func (a Acks) Add(k Key, numbers ranges.Set) { a[k] = a[k].Union(numbers) }

// Clone returns a copy.
func (a Acks) Clone() Acks { return maps.Clone(a) }

// Len returns how many events there are.
func (a Acks) Len() int {
	n := 0
	for _, set := range a {
		n += set.Len()
	}
	return n
}

// Len returns how many events there are.
func (b Backlog) Len() int {
	n := 0
	for i := range b {
		n += b[i].Numbers.Len()
	}
	return n
}

// Remove removes those of the events that are in acks, and returns how many these are.
func (b Backlog) Remove(acks Acks) (Backlog, int) {
	if len(acks) == 0 {
		return b, 0
	}
	out, removed := make(Backlog, 0, len(b)), 0
	for _, e := range b {
		if set, ok := acks[e.Key]; ok {
			left := e.Numbers.Minus(set)
			removed += e.Numbers.Len() - left.Len()
			e.Numbers = left
		}
		if !e.Numbers.Empty() {
			out = append(out, e)
		}
	}
	return out, removed
}

// RemoveBefore removes the events of entries that are older than a time, and returns how many these are.
func (b Backlog) RemoveBefore(t time.Time) (Backlog, int) {
	if t.IsZero() {
		return b, 0
	}
	out, removed := make(Backlog, 0, len(b)), 0
	for _, e := range b {
		if e.Time.Before(t) {
			removed += e.Numbers.Len()
		} else {
			out = append(out, e)
		}
	}
	return out, removed
}

// Keep returns those of acks that are in the backlog.
func (b Backlog) Keep(acks Acks) Acks {
	out := Acks{}
	for i := range b {
		if set := b[i].Numbers.Intersect(acks[b[i].Key]); !set.Empty() {
			out.Add(b[i].Key, set)
		}
	}
	return out
}

// Add appends the events of one pass, given in any order. They are sorted as Rank says, and those that have the same
// key, exit code and reason become one entry. If the backlog gets more than MaxEntries, its older entries with the same
// key are merged, and sorted likewise. So the events of one job, task or instance are always in their order; those of
// different ones are as long as the backlog is short.
func (b Backlog) Add(events []Entry) Backlog {
	if len(events) == 0 {
		return b
	}
	out := append(slices.Clone(b), group(events, sameCause)...)
	if n := len(out) - unmerged; len(out) > MaxEntries {
		out = append(group(out[:n], sameKey), out[n:]...)
	}
	return out
}

func sameKey(*Entry, *Entry) bool { return true }

func sameCause(a, b *Entry) bool {
	same := a.Reason == b.Reason && (a.ExitCode == nil) == (b.ExitCode == nil) && a.JobState == b.JobState
	return same && (a.ExitCode == nil || *a.ExitCode == *b.ExitCode)
}

// group returns entries sorted by rank, with those merged that have the same key and that same allows. Entries that are not
// merged and have the same rank keep their order. Cost: O(n log n), and n comparisons for each group with the same key.
func group(entries []Entry, same func(a, b *Entry) bool) []Entry {
	order := make([]int, len(entries)) // entries are large to be sorted themselves
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		a, b := &entries[i], &entries[j]
		if a.Key == b.Key {
			return i - j
		}
		return cmp.Or(a.compare(b.Key), i-j)
	})
	var out []Entry
	var sets [][]ranges.Set
	first := 0
	for n, i := range order {
		e := &entries[i]
		if n > 0 && entries[order[n-1]].Key != e.Key {
			first = len(out)
		}
		at := first
		for at < len(out) && !same(&out[at], e) {
			at++
		}
		if at == len(out) {
			out, sets = append(out, *e), append(sets, []ranges.Set{e.Numbers})
			continue
		}
		o := &out[at]
		sets[at] = append(sets[at], e.Numbers)
		o.Details = o.merge(e.Details)
		if e.Time.After(o.Time) {
			o.Time = e.Time
		}
		if o.JobState != e.JobState {
			o.JobState = ""
		}
	}
	for i := range out {
		if len(sets[i]) > 1 {
			out[i].Numbers = ranges.UnionAll(sets[i]...)
		}
	}
	return out
}

// ranks order the events of one run: job and tasks start, attempts start and end, instances end, tasks end, the job ends.
// Attempts are ordered by their number before anything else, and an interrupted attempt is the last of its instance.
var ranks = map[event.Name][2]int{
	event.JobRunning:                    {0, 0},
	event.ComputeEnvCreated:             {0, 0},
	event.TaskRunning:                   {0, 1},
	event.ComputeNodeCreated:            {1, 0},
	event.ComputeNodeCreationFailed:     {1, 1},
	event.ComputeNodeRunning:            {1, 2},
	event.TaskInstanceRunning:           {1, 3},
	event.ComputeNodeAbnormal:           {1, 4},
	event.ComputeNodeDeleting:           {1, 5},
	event.TaskInstanceFailedInterrupted: {1, 6},
	event.TaskInstanceSucceed:           {2, 0},
	event.TaskInstanceFailed:            {2, 1},
	event.TaskFailedInterrupted:         {3, 0},
	event.TaskSucceed:                   {3, 1},
	event.TaskFailed:                    {3, 2},
	event.JobFailedInterrupted:          {4, 0},
	event.JobSucceed:                    {4, 1},
	event.JobFailed:                     {4, 2},
	event.ComputeEnvDeleted:             {4, 2},
}

// compare orders keys: by the run, then as ranks say.
func (k Key) compare(o Key) int {
	a, b := ranks[k.Name], ranks[o.Name]
	attempts := 0
	if a[0] == 1 && b[0] == 1 {
		attempts = cmp.Compare(k.Attempt, o.Attempt)
	}
	return cmp.Or(cmp.Compare(k.Run, o.Run), cmp.Compare(a[0], b[0]), attempts, cmp.Compare(a[1], b[1]), cmp.Compare(k.Attempt, o.Attempt))
}

// Bound returns a backlog that takes at most size bytes, and how many events it lost for that. As long as it takes more,
// all entries with the same key are merged, then messages are left out, and then entries are: first the largest of those
// about instances and nodes, then of those about tasks, and those about the job or the ComputeEnv last. It is for a receiver
// that is down while instances end in a pattern that has no short form. Cost: O(n log n), and O(ranges).
func (b Backlog) Bound(size int) (Backlog, int) {
	switch {
	case size < entrySize: // no entry is as small
		return nil, b.Len()
	case sum(b.sizes()) <= size:
		return b, 0
	}
	b = group(b, sameKey)
	sizes := b.sizes()
	left := sum(sizes)
	for i := 0; left > size && i < len(b); i++ { // group has copied them
		left -= b[i].messageSize()
		sizes[i] -= b[i].messageSize()
		b[i].Message = ""
	}
	order := make([]int, len(b))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		return cmp.Or(cmp.Compare(b[i].worth(), b[j].worth()), cmp.Compare(sizes[j], sizes[i]), cmp.Compare(i, j))
	})
	lost, dropped := 0, make([]bool, len(b))
	for _, i := range order {
		if left <= size {
			break
		}
		left -= sizes[i]
		lost += b[i].Numbers.Len()
		dropped[i] = true
	}
	out := b[:0]
	for i := range b {
		if !dropped[i] {
			out = append(out, b[i])
		}
	}
	return out, lost
}

// worth orders entries by how much is lost with them: those about instances and nodes have 0, those about tasks 1, those
// about the job or the ComputeEnv 2.
func (e *Entry) worth() int {
	switch e.Name.Level() {
	case event.Job, event.ComputeEnv:
		return 2
	case event.Task:
		return 1
	}
	return 0
}

// sizes returns the sizes of the entries.
func (b Backlog) sizes() []int {
	sizes := make([]int, len(b))
	for i := range b {
		sizes[i] = b[i].size()
	}
	return sizes
}

func sum(list []int) int {
	n := 0
	for _, i := range list {
		n += i
	}
	return n
}
