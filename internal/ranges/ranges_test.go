// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package ranges

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"batchcompute.dev/operator/internal/testutil/cputime"
)

func TestParse(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want []int
		bad  bool
	}{
		"empty":          {text: ""},
		"one":            {text: "7", want: []int{7}},
		"range":          {text: "2-4", want: []int{2, 3, 4}},
		"both":           {text: "0-1,5", want: []int{0, 1, 5}},
		"touching":       {text: "0,1", want: []int{0, 1}},
		"out of order":   {text: "5,1", bad: true},
		"repeat":         {text: "1,1", bad: true},
		"overlap":        {text: "1-3,2-5", bad: true},
		"reversed":       {text: "4-2", bad: true},
		"space":          {text: "1, 2", bad: true},
		"sign":           {text: "+1", bad: true},
		"leading zero":   {text: "01", bad: true},
		"empty part":     {text: "1,", bad: true},
		"open range":     {text: "1-", bad: true},
		"too large":      {text: "2147483648", bad: true},
		"not a number":   {text: "x", bad: true},
		"double hyphen":  {text: "1--2", bad: true},
		"negative start": {text: "-1", bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Parse(tc.text)
			if (err != nil) != tc.bad {
				t.Fatalf("Parse(%q) error = %v, want an error: %v", tc.text, err, tc.bad)
			}
			if got := slices.Collect(s.All()); !slices.Equal(got, tc.want) {
				t.Errorf("Parse(%q) = %v, want %v", tc.text, got, tc.want)
			}
		})
	}
}

func TestZeroValue(t *testing.T) {
	var s Set
	if s.String() != "" || s.Len() != 0 || !s.Empty() || s.Max() != -1 || s.Contains(0) || !Span(3, 2).Empty() || !Of().Equal(s) {
		t.Errorf("the zero value is not the empty set: %q", s)
	}
}

// indexes is any small collection of indexes, so that sets touch and overlap often.
var indexes = rapid.SliceOfN(rapid.IntRange(0, 40), 0, 30)

// TestAgainstMap holds every operation against a plain map of indexes.
func TestAgainstMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := indexes.Draw(t, "a"), indexes.Draw(t, "b")
		s, u := Of(a...), Of(b...)
		n := rapid.IntRange(-1, 50).Draw(t, "n")
		probe := rapid.IntRange(0, 41).Draw(t, "probe")

		want := func(keep func(i int) bool) []int {
			var out []int
			for i := range 42 {
				if keep(i) {
					out = append(out, i)
				}
			}
			return out
		}
		inA := func(i int) bool { return slices.Contains(a, i) }
		inB := func(i int) bool { return slices.Contains(b, i) }
		check := func(name string, got Set, want []int) {
			t.Helper()
			if !slices.Equal(slices.Collect(got.All()), want) {
				t.Fatalf("%s = %v, want %v", name, got, want)
			}
			back, err := Parse(got.String())
			if err != nil || !back.Equal(got) {
				t.Fatalf("%s: Parse(%q) = %v, %v", name, got, back, err)
			}
			if scaled := got.Shift(98); got.TextLen() != len(got.String()) || scaled.TextLen() != len(scaled.String()) {
				t.Fatalf("%s: TextLen of %q is %d, and that of %q %d", name, got, got.TextLen(), scaled, scaled.TextLen())
			}
		}
		all := want(inA)
		check("Of", s, all)
		check("Union", s.Union(u), want(func(i int) bool { return inA(i) || inB(i) }))
		v := Of(rapid.SliceOfN(rapid.IntRange(0, 41), 0, 3).Draw(t, "c")...)
		check("UnionAll", UnionAll(s, u, v), want(func(i int) bool { return inA(i) || inB(i) || v.Contains(i) }))
		check("UnionAll of one", UnionAll(s), all)
		check("UnionAll of none", UnionAll(), nil)
		check("Minus", s.Minus(u), want(func(i int) bool { return inA(i) && !inB(i) }))
		check("First", s.First(n), all[:max(0, min(n, len(all)))])
		check("operands unchanged", s, all)
		if s.Len() != len(all) || s.Contains(probe) != inA(probe) || s.Empty() != (len(all) == 0) {
			t.Fatalf("Len, Contains or Empty is wrong for %v", s)
		}
		if len(all) > 0 && s.Max() != all[len(all)-1] {
			t.Fatalf("Max = %d, want %d", s.Max(), all[len(all)-1])
		}
		for i := range s.All() { // leaving early must not panic
			_ = i
			break
		}
	})
}

// FuzzParse proves that what Parse accepts means the same after a round trip.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "0", "0-4,7", "1,2,3", "5-", "99999999999"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		back, err := Parse(s.String())
		if err != nil || !back.Equal(s) {
			t.Errorf("Parse(%q) = %q, which parses to %v, %v", text, s, back, err)
		}
	})
}

// every returns n indexes that do not follow one another, from first on.
func every(first, n int) Set {
	indexes := make([]int, n)
	for i := range indexes {
		indexes[i] = first + 2*i
	}
	return Of(indexes...)
}

// TestCosts: the time grows with the number of ranges and not with the square of it, and what is small is taken out of what
// is large without a look at all of it.
func TestCosts(t *testing.T) {
	parts := func(n int) []Set {
		out := make([]Set, n)
		for i := range out {
			out[i] = Span(2*(i*7919%n), 2*(i*7919%n)) // in no order
		}
		return out
	}
	few, many := parts(1000), parts(16_000)
	if got := cputime.Ratio(func() { UnionAll(many...) }, func() { UnionAll(few...) }); got > 64 { // by the square it would be 256
		t.Errorf("UnionAll of sixteen times as many sets takes %.1f times as long", got)
	}
	all := every(0, 100_000)
	if got := cputime.Ratio(
		func() {
			for i := range 100 {
				Span(2000*i, 2000*i+1).Minus(all)
			}
		},
		func() { every(1, 50_000).Minus(all) },
	); got > 0.9 {
		t.Errorf("Minus of 100 small sets from a large one takes %.2f of the time of one large set", got)
	}
}
