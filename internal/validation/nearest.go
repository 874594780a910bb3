// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

// Nearest returns the known name that a mistyped one was probably meant to be: the one
// with the smallest edit distance, letters' case aside; empty when none is near.
func Nearest(name string, known []string) string {
	n := nearest{known: known, budget: nearestBudget}
	return n.to(name)
}

// nearest finds the known name that a mistyped one was probably meant to be.
type nearest struct {
	known []string
	// budget is how many cells of distance tables may still be filled, over all
	// searches of one request: 5,000 names times 50 mistakes would take a second.
	budget int
}

// nearestBudget takes some 5 ms.
const nearestBudget = 3_000_000

// to returns the known name with the smallest edit distance to name, letters' case
// aside; of several, the first. The distance must be small against the name's length,
// else nothing is near and the result is empty, as it is when the budget is spent.
func (n *nearest) to(name string) string {
	limit := min((len(name)+1)/3, 4)
	best := ""
	for _, k := range n.known {
		if n.budget <= 0 {
			return ""
		}
		n.budget--
		if len(k)-len(name) > limit || len(name)-len(k) > limit {
			continue
		}
		if d := n.distance(k, name, limit); d <= limit {
			if best, limit = k, d-1; d == 0 {
				break
			}
		}
	}
	return best
}

// maxDistanceLength is the longest name that distance takes. Unit: bytes.
const maxDistanceLength = 64

// distance is the number of bytes to insert, delete or replace, or of neighbours to
// exchange, that make b out of a; only whether it is over limit matters beyond it.
func (n *nearest) distance(a, b string, limit int) int {
	if len(a) > maxDistanceLength || len(b) > maxDistanceLength {
		return limit + 1
	}
	var rows [3][maxDistanceLength + 1]int
	two, one, row := &rows[0], &rows[1], &rows[2]
	for j := range len(b) + 1 {
		one[j] = j
	}
	for i := 1; i <= len(a); i++ {
		n.budget -= len(b)
		row[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] || a[i-1]|0x20 == b[j-1]|0x20 && isLetter(a[i-1]) {
				cost = 0
			}
			d := min(row[j-1]+1, one[j]+1, one[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, two[j-2]+1)
			}
			row[j] = d
			least = min(least, d)
		}
		if least > limit+1 { // an exchange looks one row further back
			return limit + 1
		}
		two, one, row = one, row, two
	}
	return one[len(b)]
}
