// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dag

// cycleBudget bounds the edges that ShortestCycle looks at while it searches for a
// cycle shorter than the one it has: some 20 ms.
const cycleBudget = 4_000_000

// ShortestCycle returns a cycle with as few nodes as possible: [a b c] stands for
// a -> b -> c -> a. It begins at its smallest node, is the same for the same graph
// every time, and is nil when there is no cycle.
//
// Cycles of one and of two nodes are found in O(nodes + edges). For longer ones
// the search spends at most a fixed number of steps. On a graph that uses it up,
// which takes thousands of nodes tangled in long cycles, the answer is a cycle, but
// perhaps not a shortest one: the shortest of those found by then.
func (g *Graph) ShortestCycle() []int32 { return g.shortestCycle(cycleBudget) }

func (g *Graph) shortestCycle(budget int) []int32 {
	if g.blocked == nil {
		return nil
	}
	if c := g.tinyCycle(); c != nil {
		return c
	}
	s := newCycleSearch(g, budget)
	for i := range g.Len() {
		if s.alive[i] {
			s.from(int32(i))
			if s.budget <= 0 || len(s.best) == 3 {
				break
			}
			s.remove(int32(i))
		}
	}
	return s.best
}

// tinyCycle returns a cycle of one node, else of two, else nil.
func (g *Graph) tinyCycle() []int32 {
	var pair []int32
	for i := range g.Len() {
		if !g.blocked[i] {
			continue
		}
		succ, pred := g.Successors(i), g.Predecessors(i)
		for len(succ) > 0 && len(pred) > 0 {
			switch a, b := succ[0], pred[0]; {
			case a < b:
				succ = succ[1:]
			case a > b:
				pred = pred[1:]
			case a == int32(i):
				return []int32{a}
			default:
				if pair == nil {
					pair = []int32{int32(i), a}
				}
				succ, pred = succ[1:], pred[1:]
			}
		}
	}
	return pair
}

// cycleSearch looks for the shortest cycle whose smallest node is s, for each s in
// turn. A node that has had its turn is removed, and with it every node that is on
// no cycle any more, which keeps long simple cycles cheap.
type cycleSearch struct {
	g         *Graph
	component []int32 // two nodes are on a common cycle only if these are equal
	alive     []bool  // not yet removed
	in, out   []int32 // edges from and to living nodes of the same component
	parent    []int32 // of a node reached in this turn
	turn      []int32 // the turn in which parent was set, counted from 1
	depth     []int32
	queue     []int32
	turns     int32
	budget    int
	best      []int32
}

func newCycleSearch(g *Graph, budget int) *cycleSearch {
	n := g.Len()
	s := &cycleSearch{
		g: g, component: components(g), alive: make([]bool, n), in: make([]int32, n), out: make([]int32, n),
		parent: make([]int32, n), turn: make([]int32, n), depth: make([]int32, n), queue: make([]int32, 0, n), budget: budget,
	}
	for i := range n {
		for _, j := range g.Successors(i) {
			if s.component[i] == s.component[j] {
				s.out[i]++
				s.in[j]++
				s.alive[i], s.alive[j] = true, true
			}
		}
	}
	return s
}

// from searches breadth first from start, through living nodes, for the way back,
// and keeps it if it is shorter than the best. A start that is the smallest node of
// its component always finds one, so the first call does.
func (s *cycleSearch) from(start int32) {
	s.turns++
	s.turn[start], s.depth[start] = s.turns, 0
	s.queue = append(s.queue[:0], start)
	for k := 0; k < len(s.queue); k++ {
		i := s.queue[k]
		if s.best != nil && (int(s.depth[i])+1 >= len(s.best) || s.budget <= 0) {
			return
		}
		for _, j := range s.g.Successors(int(i)) {
			s.budget--
			if j == start {
				s.best = s.path(i, start)
				return
			}
			if s.alive[j] && s.turn[j] != s.turns && s.component[j] == s.component[start] {
				s.turn[j], s.parent[j], s.depth[j] = s.turns, i, s.depth[i]+1
				s.queue = append(s.queue, j)
			}
		}
	}
}

// path returns the nodes from start to end along the parents.
func (s *cycleSearch) path(end, start int32) []int32 {
	p := make([]int32, s.depth[end]+1)
	for k := len(p) - 1; k > 0; k-- {
		p[k], end = end, s.parent[end]
	}
	p[0] = start
	return p
}

// remove takes a node away, and then all that have no way in or no way out left.
// All calls together look at every edge at most twice.
func (s *cycleSearch) remove(i int32) {
	s.alive[i] = false
	stack := append(s.queue[:0], i)
	for len(stack) > 0 {
		i, stack = stack[len(stack)-1], stack[:len(stack)-1]
		for _, j := range s.g.Successors(int(i)) {
			stack = s.drop(stack, s.in, i, j)
		}
		for _, j := range s.g.Predecessors(int(i)) {
			stack = s.drop(stack, s.out, i, j)
		}
	}
	s.queue = stack
}

// drop takes the edge between i and j off the count of j, and j away with the last.
func (s *cycleSearch) drop(stack, count []int32, i, j int32) []int32 {
	if !s.alive[j] || s.component[i] != s.component[j] {
		return stack
	}
	if count[j]--; count[j] > 0 {
		return stack
	}
	s.alive[j] = false
	return append(stack, j)
}

// components numbers the strongly connected components with Tarjan's algorithm, its
// recursion unrolled. Only equality of the numbers means something. Nodes that are
// neither on a cycle nor behind one all have -1.
func components(g *Graph) []int32 {
	n := g.Len()
	component, index, low := make([]int32, n), make([]int32, n), make([]int32, n)
	edge := make([]int32, n) // the next edge to follow out of a node
	var stack, calls []int32
	var indexes, found int32
	for i := range component {
		component[i] = -1
	}
	visit := func(i int32) {
		indexes++
		index[i], low[i], edge[i] = indexes, indexes, g.succAt[i]
		stack, calls = append(stack, i), append(calls, i)
	}
	for root := range n {
		if !g.blocked[root] || index[root] != 0 {
			continue
		}
		visit(int32(root))
		for len(calls) > 0 {
			i := calls[len(calls)-1]
			if edge[i] < g.succAt[i+1] {
				j := g.succ[edge[i]] // behind a blocked node every node is blocked
				edge[i]++
				if index[j] == 0 {
					visit(j)
				} else if component[j] < 0 {
					low[i] = min(low[i], index[j])
				}
				continue
			}
			calls = calls[:len(calls)-1]
			if len(calls) > 0 {
				up := calls[len(calls)-1]
				low[up] = min(low[up], low[i])
			}
			if low[i] == index[i] {
				stack = closeComponent(stack, component, i, found)
				found++
			}
		}
	}
	return component
}

// closeComponent gives a number to all nodes of the stack down to root.
func closeComponent(stack, component []int32, root, number int32) []int32 {
	for {
		j := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		component[j] = number
		if j == root {
			return stack
		}
	}
}
