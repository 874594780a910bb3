// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dag

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"batchcompute.dev/operator/internal/testutil/cputime"
)

// hostile are the graphs that cost most: 5,000 nodes and up to 50,000 edges.
var hostile = map[string]func() (int, []Edge){
	"chain":    func() (int, []Edge) { return 5000, ring(0, 5000)[:4999] },
	"ring":     func() (int, []Edge) { return 5000, ring(0, 5000) },
	"backward": func() (int, []Edge) { return 5000, steps(5000, 1, -1) },
	// Every cycle is as long as every other, and it takes many turns to break them all.
	"layers of 1000": func() (int, []Edge) { return 5000, layered(5, 1000, 10) },
	"layers of 250":  func() (int, []Edge) { return 5000, layered(20, 250, 10) },
	"layers of 50":   func() (int, []Edge) { return 5000, layered(100, 50, 10) },
	"braid of 2":     func() (int, []Edge) { return 5000, steps(5000, 2, 1) },
	"braid of 10":    func() (int, []Edge) { return 5000, steps(5000, 10, 1) },
	"random":         func() (int, []Edge) { return random(5000, 50_000, false) },
	"random dag":     func() (int, []Edge) { return random(5000, 50_000, true) },
	"sparse":         func() (int, []Edge) { return random(5000, 10_000, false) },
	"dense":          func() (int, []Edge) { return random(230, 50_000, false) },
	"tournament":     func() (int, []Edge) { return random(316, 49_770, true) },
	"rings":          func() (int, []Edge) { return 5000, rings(50, 100) },
}

// steps leads from each node to the next width ones, round and round.
func steps(n, width, sign int) []Edge {
	var edges []Edge
	for i := range n {
		for k := 1; k <= width; k++ {
			edges = append(edges, Edge{i, (i + sign*k + n) % n})
		}
	}
	return edges
}

// rings are count rings of size nodes, each bound to the next in both ways but far apart.
func rings(count, size int) []Edge {
	var edges []Edge
	for r := range count {
		edges = append(edges, ring(r*size, size)...)
		if r > 0 {
			edges = append(edges, Edge{r * size, (r-1)*size + size/2}, Edge{(r-1)*size + 1, r*size + size/3})
		}
	}
	return edges
}

// layered leads from each node to width random ones of the next layer, round and round.
func layered(layers, size, width int) []Edge {
	r := rand.New(rand.NewPCG(1, 2))
	var edges []Edge
	for i := range layers * size {
		for range width {
			edges = append(edges, Edge{i, ((i/size+1)%layers)*size + r.IntN(size)})
		}
	}
	return edges
}

func random(n, edges int, forward bool) (int, []Edge) {
	r := rand.New(rand.NewPCG(1, 2))
	list := make([]Edge, 0, edges)
	for len(list) < edges {
		e := Edge{r.IntN(n), r.IntN(n)}
		if e.From == e.To {
			continue
		}
		if forward && e.From > e.To {
			e.From, e.To = e.To, e.From
		}
		list = append(list, e)
	}
	return n, list
}

// No graph takes over maxPasses times as long as one pass over its edges that only notes them.
func TestHostileGraphsStayCheap(t *testing.T) {
	const maxPasses = 200
	for name, build := range hostile {
		t.Run(name, func(t *testing.T) {
			n, edges := build()
			ratio := cputime.Ratio(func() {
				g := New(n, edges)
				cycle := g.ShortestCycle()
				checkCycle(t, edges, cycle)
				if _, ok := g.Order(); ok != (cycle == nil) {
					t.Errorf("Order says acyclic %v, ShortestCycle found %v", ok, cycle)
				}
			}, func() {
				seen := make(map[Edge]struct{}, len(edges))
				for _, e := range edges {
					seen[e] = struct{}{}
				}
			})
			t.Logf("%.1f of noting the edges", ratio)
			if ratio > maxPasses {
				t.Errorf("%.1f of noting the edges, want at most %d", ratio, maxPasses)
			}
		})
	}
}

func BenchmarkNew(b *testing.B) {
	for _, size := range []int{1000, 10_000, 100_000} {
		n, edges := random(size/10, size, true)
		b.Run(fmt.Sprintf("edges=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				New(n, edges)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(size), "ns/edge")
		})
	}
}

func BenchmarkHostile(b *testing.B) {
	for name, build := range hostile {
		n, edges := build()
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				New(n, edges).ShortestCycle()
			}
		})
	}
}
