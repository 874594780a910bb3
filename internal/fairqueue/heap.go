// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package fairqueue

import "container/heap"

// entry is an element of a heap. It knows its index, which is -1 while it is in none.
type entry[E any] interface {
	less(E) bool
	setIndex(int)
}

// heapOf is a heap with the least entry at index 0. The zero value is empty.
type heapOf[E entry[E]] []E

func (h *heapOf[E]) push(e E)           { heap.Push(h, e) }
func (h *heapOf[E]) remove(index int) E { return heap.Remove(h, index).(E) }
func (h *heapOf[E]) fix(index int)      { heap.Fix(h, index) }

// Len is heap.Interface's, as are the methods that follow.
func (h heapOf[E]) Len() int           { return len(h) }
func (h heapOf[E]) Less(i, j int) bool { return h[i].less(h[j]) }
func (h heapOf[E]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].setIndex(i)
	h[j].setIndex(j)
}

// Push is heap.Interface's.
func (h *heapOf[E]) Push(x any) {
	e := x.(E)
	e.setIndex(len(*h))
	*h = append(*h, e)
}

// Pop is heap.Interface's.
func (h *heapOf[E]) Pop() any {
	old, last := *h, len(*h)-1
	e := old[last]
	var none E
	old[last] = none // for the garbage collector
	*h = old[:last]
	e.setIndex(-1)
	return e
}
