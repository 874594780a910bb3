// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/ranges"
)

// group is a set of instances with the same number of failed attempts.
type group struct {
	retries int
	set     ranges.Set
}

// groups are ordered by retries; no set is empty, and no index is in two. They are
// values: no operation changes its operand.
type groups []group

func parseGroups(stored []v1alpha1.TaskInstanceGroup) (groups, error) {
	var out groups
	for _, s := range stored {
		set, err := ranges.Parse(s.Indexes)
		if err != nil {
			return nil, err
		}
		out = out.plus(int(s.Retries), set)
	}
	return out, nil
}

func (g groups) stored() []v1alpha1.TaskInstanceGroup {
	var out []v1alpha1.TaskInstanceGroup
	for _, x := range g {
		out = append(out, v1alpha1.TaskInstanceGroup{Retries: int64(x.retries), Indexes: x.set.String()})
	}
	return out
}

func (g groups) len() int {
	n := 0
	for _, x := range g {
		n += x.set.Len()
	}
	return n
}

// find returns the retries of the instance i.
func (g groups) find(i int) (retries int, ok bool) {
	for _, x := range g {
		if x.set.Contains(i) {
			return x.retries, true
		}
	}
	return 0, false
}

// plus returns g with set added at retries.
func (g groups) plus(retries int, set ranges.Set) groups {
	if set.Empty() {
		return g
	}
	at, found := slices.BinarySearchFunc(g, retries, func(x group, r int) int { return x.retries - r })
	if !found {
		return slices.Insert(slices.Clone(g), at, group{retries, set})
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
