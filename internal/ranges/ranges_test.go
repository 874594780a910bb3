// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package ranges

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
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
		}
		all := want(inA)
		check("Of", s, all)
		check("Union", s.Union(u), want(func(i int) bool { return inA(i) || inB(i) }))
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
