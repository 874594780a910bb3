// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"slices"

	"batchcompute.dev/operator/api/v1alpha1"
)

// waitingList are the first instances that wait, in order of task and index, at most v1alpha1.MaxWaiting.
type waitingList []waiter

// waiter is an instance that waits, of the task at pos.
type waiter struct {
	pos int
	v1alpha1.TaskInstanceWait
}

// wait says what an instance waits for.
func (o *outcomes) wait(t *task, index int, podName, reason, detail string) {
	o.tasks[t.pos].waits.add(reason, detail, index)
	o.waiting.add(t, index, podName, reason, detail)
}

func (w *waitingList) add(t *task, index int, podName, reason, detail string) {
	x := waiter{t.pos, v1alpha1.TaskInstanceWait{TaskName: t.Name, TaskInstanceIndex: int64(index), Reason: reason, PodName: podName}}
	at, _ := slices.BinarySearchFunc(*w, x, func(a, b waiter) int {
		return cmp.Or(cmp.Compare(a.pos, b.pos), cmp.Compare(a.TaskInstanceIndex, b.TaskInstanceIndex))
	})
	if at == v1alpha1.MaxWaiting {
		return
	}
	x.Message = cut(detail)
	*w = slices.Insert(*w, at, x)
	*w = (*w)[:min(len(*w), v1alpha1.MaxWaiting)]
}

// stored returns the instances as the status has them. As with tasks, the old sentence is kept for as
// long as the reason is the same.
func (w waitingList) stored(old []v1alpha1.TaskInstanceWait) []v1alpha1.TaskInstanceWait {
	var out []v1alpha1.TaskInstanceWait
	for _, x := range w {
		for _, o := range old {
			if o.TaskName == x.TaskName && o.TaskInstanceIndex == x.TaskInstanceIndex && o.Reason == x.Reason && o.PodName == x.PodName {
				x.Message = o.Message
			}
		}
		out = append(out, x.TaskInstanceWait)
	}
	return out
}

// waits sums up, by reason, what the instances of one task wait for.
type waits []waitSum

// waitSum is the instances that wait for one reason: how many, the lowest index, and what
// that one says.
type waitSum struct {
	reason, detail string
	first, count   int
}

func (w *waits) add(reason, detail string, index int) {
	for i := range *w {
		x := &(*w)[i]
		if x.reason != reason {
			continue
		}
		x.count++
		if index < x.first {
			x.first, x.detail = index, detail
		}
		return
	}
	*w = append(*w, waitSum{reason, detail, index, 1})
}

// worst returns what the task's message says: the reason of the lowest index.
func (w waits) worst() *waitSum {
	if len(w) == 0 {
		return nil
	}
	first := slices.MinFunc(w, func(a, b waitSum) int { return a.first - b.first })
	return &first
}

// message is the sentence that sums up: "3 instances wait: no node fits …".
func (w *waitSum) message() string {
	noun := "instances wait"
	if w.count == 1 {
		noun = "instance waits"
	}
	return cut(fmt.Sprintf("%d %s: %s", w.count, noun, w.detail))
}
