// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dag is the graph that the dependences of a job make: which task waits
// for which, in what order tasks can run, and, if there is none, which tasks wait
// for each other in a circle.
//
// A node is the position of a task in the spec, 0 to n-1; names stay outside. An
// edge From -> To says that To waits for From:
//
//	tasks:        0 fetch     1 split     2 count     3 merge
//	dependences:  0->1  0->2  1->3  2->3
//
//	                  .--> 1 split --.
//	    0 fetch ------|              |----> 3 merge
//	                  '--> 2 count --'
//
//	layer:    0               1                2
//	order:    0              1 2               3
//
// The layer of a node is the length of the longest path that leads to it, so all
// nodes of a layer could run at once. The order is layer by layer, and within a
// layer by position; it is a topological order, and the only one that this package
// ever answers for a given graph.
//
// # Shape in memory
//
// Adjacency is stored as two compressed rows (CSR): the successors of node i are
// succ[succAt[i]:succAt[i+1]], ascending and without duplicates, and likewise the
// predecessors. A graph takes 8 bytes an edge and 16 bytes a node however it is
// shaped, and is built in O(nodes + edges) with two counting sorts:
//
//	succAt   0     2   3   4 4          pred is the same, transposed
//	         |     |   |   |/
//	succ     1 2   3   3
//
// # Hostile input
//
// Users choose the graph, so nothing here recurses (a chain of 100,000 nodes is as
// good as any other graph) and every cost is linear, with one exception: to find a
// *shortest* cycle takes nodes x edges steps in the worst case. ShortestCycle
// therefore counts its steps and stops at a budget; see there for what is still
// promised then.
//
// A Graph does not change after New, so any number of goroutines may read it. The
// slices that it returns are its own memory: do not write to them.
package dag
