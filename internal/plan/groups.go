// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"batchcompute.dev/operator/internal/ranges"
)

// history is what counts of an instance's past.
type history struct {
	// run is the run of the job that the instance's Pod belongs to; 0 unless the instance is
	// interrupted, since all others are of the current run.
	run int
	// retries is how often the command failed, machines how often a machine was not
	// acquired or was lost.
	retries, machines int
}

// attempt is the number of the attempt that comes after this history, from 0.
func (h history) attempt() int { return h.retries + h.machines }

func (h history) compare(o history) int {
	return cmp.Or(cmp.Compare(h.run, o.run), cmp.Compare(h.retries, o.retries), cmp.Compare(h.machines, o.machines))
}

// group is a set of instances with the same history.
type group struct {
	history
	set ranges.Set
}

// groups are ordered by history; no set is empty, and no index is in two. They are
// values: no operation changes its operand.
type groups []group

// parseGroups reads the form that String writes: "0-4,7;r1:8;m2:9;r1m2:10". The empty
// string is no group.
func parseGroups(text string) (groups, error) {
	if text == "" {
		return nil, nil
	}
	var out groups
	for more := true; more; {
		var part string
		part, text, more = strings.Cut(text, ";")
		head, indexes, ok := strings.Cut(part, ":")
		if !ok {
			head, indexes = "", part
		}
		h, err := parseHistory(head)
		if err != nil {
			return nil, err
		}
		set, err := ranges.Parse(indexes)
		switch {
		case err != nil:
			return nil, err
		case set.Empty():
			return nil, fmt.Errorf("group %q is empty", part)
		case len(out) > 0 && out[len(out)-1].compare(h) >= 0:
			return nil, fmt.Errorf("group %q is out of order", part)
		}
		out = append(out, group{h, set})
	}
	return out, nil
}

// parseHistory reads the head of a group, such as "x1r2m3"; each part may be missing.
func parseHistory(text string) (history, error) {
	h, rest := history{}, text
	for _, f := range []struct {
		letter string
		value  *int
	}{{"x", &h.run}, {"r", &h.retries}, {"m", &h.machines}} {
		digits, ok := strings.CutPrefix(rest, f.letter)
		if !ok {
			continue
		}
		end := len(digits) - len(strings.TrimLeft(digits, "0123456789"))
		n, err := strconv.ParseUint(digits[:end], 10, 31)
		if err != nil || n == 0 || digits[0] == '0' {
			return history{}, fmt.Errorf("group %q must be such as r1m2", text)
		}
		*f.value, rest = int(n), digits[end:]
	}
	if rest != "" {
		return history{}, fmt.Errorf("group %q must be such as r1m2", text)
	}
	return h, nil
}

func (g groups) String() string {
	var out []byte
	for i, x := range g {
		if i > 0 {
			out = append(out, ';')
		}
		head := len(out)
		for _, f := range []struct {
			letter byte
			value  int
		}{{'x', x.run}, {'r', x.retries}, {'m', x.machines}} {
			if f.value > 0 {
				out = strconv.AppendInt(append(out, f.letter), int64(f.value), 10)
			}
		}
		if len(out) > head {
			out = append(out, ':')
		}
		out = append(out, x.set.String()...)
	}
	return string(out)
}

func (g groups) len() int {
	n := 0
	for _, x := range g {
		n += x.set.Len()
	}
	return n
}

// all returns the indexes of all groups.
func (g groups) all() ranges.Set {
	return ranges.UnionAll(g.sets()...)
}

// sets returns the sets of all groups.
func (g groups) sets() []ranges.Set {
	out := make([]ranges.Set, len(g))
	for i, x := range g {
		out[i] = x.set
	}
	return out
}

// find returns the history of the instance i.
func (g groups) find(i int) (h history, ok bool) {
	for _, x := range g {
		if x.set.Contains(i) {
			return x.history, true
		}
	}
	return history{}, false
}

// plus returns g with set added at h.
func (g groups) plus(h history, set ranges.Set) groups {
	if set.Empty() {
		return g
	}
	at, found := slices.BinarySearchFunc(g, h, func(x group, h history) int { return x.compare(h) })
	if !found {
		return slices.Insert(slices.Clone(g), at, group{h, set})
	}
	out := slices.Clone(g)
	out[at].set = out[at].set.Union(set)
	return out
}

// minus returns g without the indexes of set.
func (g groups) minus(set ranges.Set) groups {
	if set.Empty() {
		return g
	}
	var out groups
	for _, x := range g {
		if x.set = x.set.Minus(set); !x.set.Empty() {
			out = append(out, x)
		}
	}
	return out
}
