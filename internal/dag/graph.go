// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dag

// Edge says that node To waits for node From.
type Edge struct{ From, To int }

// Graph is a directed graph over the nodes 0 to n-1. It may have cycles; then it
// has no order and no layers, and ShortestCycle says why.
type Graph struct {
	succAt, succ []int32
	predAt, pred []int32
	order        []int32 // nil when there is a cycle
	layers       []int32 // nil when there is a cycle
	blocked      []bool  // the nodes on a cycle or behind one; nil when there is none
}

// New builds the graph of n nodes and the given edges.
//
// Both ends of every edge must be in [0, n); New panics otherwise, like a slice
// does. An edge given twice counts once; an edge from a node to itself is a cycle.
// edges is not kept. Cost: O(n + edges) time and memory.
func New(n int, edges []Edge) *Graph {
	g := &Graph{}
	g.succAt, g.succ = successors(n, edges)
	g.predAt, g.pred = transpose(n, g.succAt, g.succ)
	g.sortNodes()
	return g
}

// Len returns the number of nodes.
func (g *Graph) Len() int { return len(g.succAt) - 1 }

// Predecessors returns the nodes that i waits for, ascending. Read-only.
func (g *Graph) Predecessors(i int) []int32 {
	return g.pred[g.predAt[i]:g.predAt[i+1]:g.predAt[i+1]]
}

// Successors returns the nodes that wait for i, ascending. Read-only.
func (g *Graph) Successors(i int) []int32 {
	return g.succ[g.succAt[i]:g.succAt[i+1]:g.succAt[i+1]]
}

// Order returns all nodes so that each comes after its predecessors: by layer, and
// within a layer ascending. It is nil and false when there is a cycle. Read-only.
func (g *Graph) Order() ([]int32, bool) { return g.order, g.blocked == nil }

// Layers returns for every node the number of edges on the longest path that leads
// to it; a node without predecessors is in layer 0. It is nil when there is a
// cycle. Read-only.
func (g *Graph) Layers() []int32 { return g.layers }

// successors sorts edges by To, then stably by From, both by counting, so that each
// row comes out ascending and a duplicate is next to its twin.
func successors(n int, edges []Edge) (at, list []int32) {
	toAt, at := make([]int32, n+1), make([]int32, n+1)
	for _, e := range edges {
		_, _ = toAt[e.To], at[e.From] // both ends are checked before either is counted
		toAt[e.To+1]++
		at[e.From+1]++
	}
	sum(toAt)
	sum(at)
	froms := make([]int32, len(edges))
	next := append([]int32(nil), toAt[:n]...)
	for _, e := range edges {
		froms[next[e.To]] = int32(e.From)
		next[e.To]++
	}
	list = make([]int32, len(edges))
	copy(next, at)
	for to := range n {
		for _, from := range froms[toAt[to]:toAt[to+1]] {
			if k := next[from]; k > at[from] && list[k-1] == int32(to) {
				continue
			}
			list[next[from]] = int32(to)
			next[from]++
		}
	}
	return compact(at, next, list)
}

// compact closes the gaps that skipped duplicates left: row i ends at end[i].
func compact(at, end, list []int32) ([]int32, []int32) {
	var k int32
	for i, stop := range end {
		start := at[i]
		at[i] = k
		k += int32(copy(list[k:], list[start:stop]))
	}
	at[len(end)] = k
	return at, list[:k]
}

// transpose turns the rows of successors into the rows of predecessors.
func transpose(n int, at, list []int32) (tAt, tList []int32) {
	tAt = make([]int32, n+1)
	for _, to := range list {
		tAt[to+1]++
	}
	sum(tAt)
	next := append([]int32(nil), tAt[:n]...)
	tList = make([]int32, len(list))
	for from := range n {
		for _, to := range list[at[from]:at[from+1]] {
			tList[next[to]] = int32(from)
			next[to]++
		}
	}
	return tAt, tList
}

// sum replaces each number by the sum of all numbers up to it.
func sum(a []int32) {
	for i := 1; i < len(a); i++ {
		a[i] += a[i-1]
	}
}

// sortNodes fills order and layers, or blocked, with Kahn's algorithm.
func (g *Graph) sortNodes() {
	n := g.Len()
	layers, waits := make([]int32, n), make([]int32, n)
	queue := make([]int32, 0, n)
	for i := range n {
		if waits[i] = g.predAt[i+1] - g.predAt[i]; waits[i] == 0 {
			queue = append(queue, int32(i))
		}
	}
	for k := 0; k < len(queue); k++ {
		i := queue[k]
		for _, j := range g.Successors(int(i)) {
			if waits[j]--; waits[j] == 0 {
				// The queue runs layer by layer, so the last predecessor is the deepest.
				layers[j] = layers[i] + 1
				queue = append(queue, j)
			}
		}
	}
	if len(queue) < n {
		g.blocked = make([]bool, n)
		for i, w := range waits {
			g.blocked[i] = w > 0
		}
		return
	}
	g.layers, g.order = layers, byLayer(layers, queue)
}

// byLayer sorts the nodes by layer, then by number. queue is sorted by layer
// already, and is overwritten with the result.
func byLayer(layers, queue []int32) []int32 {
	if len(queue) == 0 {
		return queue
	}
	at := make([]int32, layers[queue[len(queue)-1]]+2)
	for _, l := range layers {
		at[l+1]++
	}
	sum(at)
	for i, l := range layers {
		queue[at[l]] = int32(i)
		at[l]++
	}
	return queue
}
