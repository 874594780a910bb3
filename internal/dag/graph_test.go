// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dag

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func TestGraph(t *testing.T) {
	for name, tc := range map[string]struct {
		n          int
		edges      []Edge
		wantOrder  []int32
		wantLayers []int32
		wantCycle  []int32
	}{
		"no nodes":  {},
		"one node":  {n: 1, wantOrder: []int32{0}, wantLayers: []int32{0}},
		"no edges":  {n: 3, wantOrder: []int32{0, 1, 2}, wantLayers: []int32{0, 0, 0}},
		"one edge":  {n: 2, edges: []Edge{{0, 1}}, wantOrder: []int32{0, 1}, wantLayers: []int32{0, 1}},
		"backwards": {n: 3, edges: []Edge{{2, 1}, {1, 0}}, wantOrder: []int32{2, 1, 0}, wantLayers: []int32{2, 1, 0}},
		"diamond": {
			n: 4, edges: []Edge{{0, 1}, {0, 2}, {1, 3}, {2, 3}},
			wantOrder: []int32{0, 1, 2, 3}, wantLayers: []int32{0, 1, 1, 2},
		},
		"duplicates count once": {
			n: 3, edges: []Edge{{0, 1}, {0, 2}, {0, 1}, {1, 2}, {0, 1}, {1, 2}},
			wantOrder: []int32{0, 1, 2}, wantLayers: []int32{0, 1, 2},
		},
		"the longest path makes the layer": {
			n: 5, edges: []Edge{{0, 4}, {0, 1}, {1, 2}, {2, 4}},
			wantOrder: []int32{0, 3, 1, 2, 4}, wantLayers: []int32{0, 1, 2, 0, 3},
		},
		"a layer is ascending whoever freed it": {
			n: 4, edges: []Edge{{0, 3}, {1, 2}},
			wantOrder: []int32{0, 1, 2, 3}, wantLayers: []int32{0, 0, 1, 1},
		},
		"edge to itself":                {n: 3, edges: []Edge{{0, 1}, {1, 1}, {1, 2}}, wantCycle: []int32{1}},
		"itself before two":             {n: 3, edges: []Edge{{0, 1}, {1, 0}, {2, 2}}, wantCycle: []int32{2}},
		"two nodes":                     {n: 3, edges: []Edge{{0, 2}, {2, 1}, {1, 2}}, wantCycle: []int32{1, 2}},
		"the first of two pairs":        {n: 4, edges: []Edge{{3, 2}, {2, 3}, {1, 0}, {0, 1}}, wantCycle: []int32{0, 1}},
		"three nodes":                   {n: 4, edges: []Edge{{3, 2}, {2, 1}, {1, 3}, {3, 0}}, wantCycle: []int32{1, 3, 2}},
		"begins at its smallest":        {n: 5, edges: []Edge{{4, 3}, {3, 2}, {2, 1}, {1, 4}}, wantCycle: []int32{1, 4, 3, 2}},
		"a chord makes it shorter":      {n: 6, edges: append(ring(0, 6), Edge{4, 1}), wantCycle: []int32{1, 2, 3, 4}},
		"the shorter of two components": {n: 9, edges: append(ring(0, 5), ring(5, 4)...), wantCycle: []int32{5, 6, 7, 8}},
		"the first of two equals":       {n: 8, edges: append(ring(4, 4), ring(0, 4)...), wantCycle: []int32{0, 1, 2, 3}},
		"a node between two cycles": {
			n: 9, edges: slices.Concat(ring(1, 4), ring(5, 4), []Edge{{4, 0}, {0, 5}}),
			wantCycle: []int32{1, 2, 3, 4},
		},
		"shortest away from the first": {
			n: 9, edges: slices.Concat(ring(0, 6), []Edge{{3, 6}, {6, 7}, {7, 8}, {8, 3}}), wantCycle: []int32{3, 6, 7, 8},
		},
		"removal frees a second turn": {
			n: 10, edges: slices.Concat(ring(0, 5), []Edge{{4, 5}, {5, 6}, {6, 7}, {7, 4}}), wantCycle: []int32{4, 5, 6, 7},
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := New(tc.n, tc.edges)
			if g.Len() != tc.n {
				t.Errorf("Len() = %d, want %d", g.Len(), tc.n)
			}
			order, ok := g.Order()
			if ok != (tc.wantCycle == nil) {
				t.Errorf("Order() says acyclic %v, want %v", ok, tc.wantCycle == nil)
			}
			for what, pair := range map[string][2][]int32{
				"Order": {tc.wantOrder, order}, "Layers": {tc.wantLayers, g.Layers()}, "ShortestCycle": {tc.wantCycle, g.ShortestCycle()},
			} {
				if diff := cmp.Diff(pair[0], pair[1], cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("%s() (-want +got):\n%s", what, diff)
				}
			}
		})
	}
}

func TestAdjacency(t *testing.T) {
	g := New(4, []Edge{{3, 1}, {0, 3}, {0, 1}, {0, 3}, {2, 1}, {0, 1}})
	wantSucc := [][]int32{{1, 3}, {}, {1}, {1}}
	wantPred := [][]int32{{}, {0, 2, 3}, {}, {0}}
	for i := range g.Len() {
		if diff := cmp.Diff(wantSucc[i], g.Successors(i), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("Successors(%d) (-want +got):\n%s", i, diff)
		}
		if diff := cmp.Diff(wantPred[i], g.Predecessors(i), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("Predecessors(%d) (-want +got):\n%s", i, diff)
		}
	}
	// Rows share one array: growing one must not run into the next.
	_ = append(g.Successors(0), 9)
	if diff := cmp.Diff(wantSucc[2], g.Successors(2)); diff != "" {
		t.Errorf("append to a row changed another (-want +got):\n%s", diff)
	}
}

func TestNewPanicsOutsideRange(t *testing.T) {
	for _, e := range []Edge{{-1, 0}, {0, -1}, {2, 0}, {0, 2}, {3, 0}} {
		t.Run(fmt.Sprint(e), func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			New(2, []Edge{e})
		})
	}
}

// A search without a budget still answers with a cycle: the first one.
func TestShortestCycleBudget(t *testing.T) {
	g := New(10, append(ring(0, 6), ring(6, 4)...))
	for budget, want := range map[int][]int32{
		0:   {0, 1, 2, 3, 4, 5},
		6:   {0, 1, 2, 3, 4, 5},
		100: {6, 7, 8, 9},
	} {
		if diff := cmp.Diff(want, g.shortestCycle(budget)); diff != "" {
			t.Errorf("budget %d (-want +got):\n%s", budget, diff)
		}
	}
}

// drawGraph draws a small graph, dense or sparse, with cycles or without.
func drawGraph(t *rapid.T) (int, []Edge) {
	n := rapid.IntRange(1, 12).Draw(t, "n")
	node := rapid.IntRange(0, n-1)
	forward := rapid.Bool().Draw(t, "forward")
	edges := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Edge {
		e := Edge{node.Draw(t, "from"), node.Draw(t, "to")}
		if forward && e.From > e.To {
			e.From, e.To = e.To, e.From
		}
		return e
	}), 0, 30).Draw(t, "edges")
	if forward {
		edges = slices.DeleteFunc(edges, func(e Edge) bool { return e.From == e.To })
	}
	return n, edges
}

func TestPropertyOrderAndLayers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, edges := drawGraph(t)
		g := New(n, edges)
		order, ok := g.Order()
		if ok != (g.ShortestCycle() == nil) || ok != (girth(n, edges) == 0) {
			t.Fatal("Order, ShortestCycle and the slow search disagree about cycles")
		}
		if !ok {
			if order != nil || g.Layers() != nil {
				t.Fatal("a cyclic graph has an order or layers")
			}
			return
		}
		position := make([]int, n)
		for k, i := range order {
			position[i] = k
		}
		layers := g.Layers()
		for i := range n {
			if int(order[position[i]]) != i {
				t.Fatalf("order %v misses node %d", order, i)
			}
			var want int32
			for _, p := range g.Predecessors(i) {
				want = max(want, layers[p]+1)
			}
			if layers[i] != want {
				t.Fatalf("layer of %d is %d, want %d", i, layers[i], want)
			}
		}
		if !slices.IsSortedFunc(order, func(a, b int32) int {
			if layers[a] != layers[b] {
				return int(layers[a] - layers[b])
			}
			return int(a - b)
		}) {
			t.Fatalf("order %v is not by layer %v, then by number", order, layers)
		}
	})
}

func TestPropertyAdjacency(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, edges := drawGraph(t)
		g := New(n, edges)
		set := map[Edge]bool{}
		for _, e := range edges {
			set[e] = true
		}
		count := 0
		for i := range n {
			for _, row := range [][]int32{g.Successors(i), g.Predecessors(i)} {
				if !slices.IsSorted(row) || len(slices.Compact(slices.Clone(row))) != len(row) {
					t.Fatalf("row %v is not strictly ascending", row)
				}
			}
			for _, j := range g.Successors(i) {
				count++
				if !set[Edge{i, int(j)}] || !slices.Contains(g.Predecessors(int(j)), int32(i)) {
					t.Fatalf("edge %d -> %d was not given, or has no way back", i, j)
				}
			}
		}
		if count != len(set) {
			t.Fatalf("%d edges, want %d", count, len(set))
		}
	})
}

func TestPropertyShortestCycle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, edges := drawGraph(t)
		c := New(n, edges).ShortestCycle()
		if len(c) != girth(n, edges) {
			t.Fatalf("cycle %v, want %d nodes", c, girth(n, edges))
		}
		checkCycle(t, edges, c)
		slices.Reverse(edges)
		if again := New(n, edges).ShortestCycle(); !slices.Equal(c, again) {
			t.Fatalf("%v, but %v with the edges reversed", c, again)
		}
	})
}

func checkCycle(t interface{ Fatalf(string, ...any) }, edges []Edge, c []int32) {
	for k := range c {
		if e := (Edge{int(c[k]), int(c[(k+1)%len(c)])}); !slices.Contains(edges, e) {
			t.Fatalf("cycle %v uses %v, which is no edge", c, e)
		}
		if k > 0 && c[k] <= c[0] {
			t.Fatalf("cycle %v does not begin at its smallest node, or has a node twice", c)
		}
	}
}

// girth is the number of nodes of a shortest cycle, 0 if there is none: all shortest
// ways by Floyd and Warshall.
func girth(n int, edges []Edge) int {
	const far = 1 << 20
	d := make([][]int, n)
	for i := range d {
		d[i] = slices.Repeat([]int{far}, n)
	}
	for _, e := range edges {
		d[e.From][e.To] = 1
	}
	for k := range n {
		for i := range n {
			for j := range n {
				d[i][j] = min(d[i][j], d[i][k]+d[k][j])
			}
		}
	}
	best := far
	for i := range n {
		best = min(best, d[i][i])
	}
	return best % far
}

// ring is the cycle of n nodes that begins at first.
func ring(first, n int) []Edge {
	edges := make([]Edge, n)
	for i := range n {
		edges[i] = Edge{first + i, first + (i+1)%n}
	}
	return edges
}
