// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ranges holds sets of instance indexes as ranges, the form in which a job's
// status keeps them: 100,000 finished instances are "0-99999".
package ranges

import (
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
)

// Set is a set of indexes, each 0 or more. The zero value is the empty set. A Set is
// a value: no operation changes its operands.
type Set struct {
	spans []span // ascending, disjoint, never adjacent
}

// span is the indexes lo..hi, both included.
type span struct{ lo, hi int }

// Span returns the indexes lo..hi, both included; the empty set when hi < lo.
func Span(lo, hi int) Set {
	if hi < lo {
		return Set{}
	}
	return Set{spans: []span{{lo, hi}}}
}

// Of returns the set of the given indexes, in any order, repeats allowed.
// Cost: O(n log n), O(n) when they are ascending.
func Of(indexes ...int) Set {
	if len(indexes) == 0 {
		return Set{}
	}
	if !slices.IsSorted(indexes) {
		indexes = slices.Sorted(slices.Values(indexes))
	}
	var s Set
	for _, i := range indexes {
		s.spans = appendSpan(s.spans, span{i, i})
	}
	return s
}

// Parse reads the form that String writes: ascending ranges, as in "0-4,7". The empty
// string is the empty set. It reports what is wrong for anything else: a range out of
// order, an overlap, a sign, a space.
func Parse(text string) (Set, error) {
	var s Set
	if text == "" {
		return s, nil
	}
	s.spans = make([]span, 0, strings.Count(text, ",")+1)
	last := -1
	for part := range strings.SplitSeq(text, ",") {
		low, high, isRange := strings.Cut(part, "-")
		if !isRange {
			high = low
		}
		lo, err := parseIndex(low)
		if err != nil {
			return Set{}, err
		}
		hi, err := parseIndex(high)
		if err != nil {
			return Set{}, err
		}
		if lo <= last || hi < lo {
			return Set{}, fmt.Errorf("range %q must begin after %d and not end before it begins", part, last)
		}
		s.spans = appendSpan(s.spans, span{lo, hi})
		last = hi
	}
	return s, nil
}

// parseIndex reads a decimal number without sign or leading zero.
func parseIndex(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || text[0] == '+' || (len(text) > 1 && text[0] == '0') {
		return 0, fmt.Errorf("index %q must be a decimal number from 0 to 2147483647", text)
	}
	return int(n), nil
}

// String returns the set as ascending ranges: "0-4,7". The empty set is "".
func (s Set) String() string {
	buf := make([]byte, 0, 16*min(len(s.spans), 1<<12))
	for i, sp := range s.spans {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = strconv.AppendInt(buf, int64(sp.lo), 10)
		if sp.hi > sp.lo {
			buf = append(buf, '-')
			buf = strconv.AppendInt(buf, int64(sp.hi), 10)
		}
	}
	return string(buf)
}

// Len returns how many indexes are in the set. Cost: O(ranges).
func (s Set) Len() int {
	n := 0
	for _, sp := range s.spans {
		n += sp.hi - sp.lo + 1
	}
	return n
}

// Empty reports whether the set has no index.
func (s Set) Empty() bool { return len(s.spans) == 0 }

// Contains reports whether i is in the set. Cost: O(log ranges).
func (s Set) Contains(i int) bool {
	_, found := slices.BinarySearchFunc(s.spans, i, func(sp span, i int) int {
		switch {
		case sp.hi < i:
			return -1
		case sp.lo > i:
			return 1
		}
		return 0
	})
	return found
}

// Max returns the largest index, or -1 for the empty set.
func (s Set) Max() int {
	if len(s.spans) == 0 {
		return -1
	}
	return s.spans[len(s.spans)-1].hi
}

// All yields the indexes, ascending.
func (s Set) All() iter.Seq[int] {
	return func(yield func(int) bool) {
		for _, sp := range s.spans {
			for i := sp.lo; i <= sp.hi; i++ {
				if !yield(i) {
					return
				}
			}
		}
	}
}

// Shift returns the indexes with n added to each, which must not make any negative.
func (s Set) Shift(n int) Set {
	out := Set{make([]span, len(s.spans))}
	for i, sp := range s.spans {
		out.spans[i] = span{sp.lo + n, sp.hi + n}
	}
	return out
}

// First returns the n smallest indexes, or all when there are fewer.
func (s Set) First(n int) Set {
	var out Set
	for _, sp := range s.spans {
		if n <= 0 {
			break
		}
		sp.hi = min(sp.hi, sp.lo+n-1)
		out.spans = append(out.spans, sp)
		n -= sp.hi - sp.lo + 1
	}
	return out
}

// Union returns the indexes that are in s or in t. Cost: O(ranges).
func (s Set) Union(t Set) Set {
	switch {
	case s.Empty():
		return t
	case t.Empty():
		return s
	}
	out := make([]span, 0, len(s.spans)+len(t.spans))
	a, b := s.spans, t.spans
	for len(a) > 0 || len(b) > 0 {
		if len(b) == 0 || (len(a) > 0 && a[0].lo <= b[0].lo) {
			out, a = appendSpan(out, a[0]), a[1:]
		} else {
			out, b = appendSpan(out, b[0]), b[1:]
		}
	}
	return Set{out}
}

// UnionAll returns the indexes that are in any of the sets. Cost: O(n log n) for n ranges in all
// sets together, however many sets they are in: use it instead of Union in a loop.
func UnionAll(sets ...Set) Set {
	n := 0
	for _, s := range sets {
		n += len(s.spans)
	}
	if n == 0 {
		return Set{}
	}
	all := make([]span, 0, n)
	for _, s := range sets {
		all = append(all, s.spans...)
	}
	slices.SortFunc(all, func(a, b span) int { return a.lo - b.lo })
	out := all[:0]
	for _, sp := range all {
		out = appendSpan(out, sp)
	}
	return Set{out}
}

// Minus returns the indexes that are in s and not in t. Cost: O(ranges); where s has few ranges and
// t many, O(ranges of s * log ranges of t, and ranges of t that lie in s).
func (s Set) Minus(t Set) Set {
	if s.Empty() || t.Empty() {
		return s
	}
	var out []span
	cut := t.spans
	for _, sp := range s.spans {
		cut = from(cut, sp.lo)
		for _, c := range cut {
			if c.lo > sp.hi {
				break
			}
			if c.lo > sp.lo {
				out = append(out, span{sp.lo, c.lo - 1})
			}
			sp.lo = c.hi + 1
		}
		if sp.lo <= sp.hi {
			out = append(out, sp)
		}
	}
	return Set{out}
}

// from returns those of the ascending spans that do not end before lo. Cost: O(log spans left out).
func from(spans []span, lo int) []span {
	step := 1
	for step <= len(spans) && spans[step-1].hi < lo {
		step *= 2
	}
	// All before step/2 end before lo, and one at step-1, if there is one, does not.
	first, last := step/2, min(step, len(spans))
	at, _ := slices.BinarySearchFunc(spans[first:last], lo, func(sp span, lo int) int { return sp.hi - lo })
	return spans[first+at:]
}

// Intersect returns the indexes that are in s and in t. Cost: O(ranges).
func (s Set) Intersect(t Set) Set { return s.Minus(s.Minus(t)) }

// Equal reports whether both sets have the same indexes.
func (s Set) Equal(t Set) bool { return slices.Equal(s.spans, t.spans) }

// appendSpan adds sp, which must not begin before the last span of spans does, and
// joins the two where they touch.
func appendSpan(spans []span, sp span) []span {
	if n := len(spans); n > 0 && sp.lo <= spans[n-1].hi+1 {
		spans[n-1].hi = max(spans[n-1].hi, sp.hi)
		return spans
	}
	return append(spans, sp)
}
