// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package actions

import (
	"errors"
	"slices"
	"strings"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/gateway/refusal"
	"batchcompute.dev/operator/internal/params"
	"batchcompute.dev/operator/internal/validation"
)

// firstProblem returns the refusal for the first problem of a request that cannot be decoded. The API has one code in an
// answer.
func firstProblem(err error) error {
	var problems params.Problems
	if errors.As(err, &problems) && len(problems) > 0 {
		return refusal.New(problems[0].Code, "%s", problems[0].Message())
	}
	return err
}

// isCode reports whether an error is a refusal with a code.
func isCode(err error, code errcode.Code) bool {
	var r *refusal.Refusal
	return errors.As(err, &r) && r.Code == code
}

// filter is one condition of a list: any of the values. Several filters must all hold.
// Source: BatchCompute, Filter.
type filter struct {
	Name   string   `params:"required"`
	Values []string `params:"required"`
}

// Bounds of lists. Source: BatchCompute, DescribeJobs and others.
const (
	defaultLimit = 20
	maxLimit     = 100
	maxIDs       = 100
	// maxFilters and maxFilterValues are those of the vendor's other APIs; this one documents none.
	maxFilters      = 10
	maxFilterValues = 100
)

// paging is which part of a list is asked for.
type paging struct{ offset, limit int }

// pagingOf reads Offset and Limit; a Limit of 0 is the default. tooMuch is the code of a Limit above the highest.
func pagingOf(offset, limit *int64, standard, highest int, tooMuch errcode.Code) (paging, error) {
	p := paging{0, standard}
	if offset != nil {
		if *offset < 0 {
			return p, refusal.New(errcode.InvalidParameterValue, "Offset must be 0 or more, got %d", *offset)
		}
		p.offset = int(min(*offset, 1<<31))
	}
	if limit != nil && *limit != 0 {
		switch {
		case *limit < 0:
			return p, refusal.New(errcode.InvalidParameterValue, "Limit must be 1-%d, got %d", highest, *limit)
		case *limit > int64(highest):
			return p, refusal.New(tooMuch, "Limit must be 1-%d, got %d", highest, *limit)
		}
		p.limit = int(*limit)
	}
	return p, nil
}

// pageOf returns the part of a list.
func pageOf[T any](list []T, p paging) []T {
	from := min(p.offset, len(list))
	return list[from:min(from+p.limit, len(list))]
}

// matcher reports whether an object matches all filters.
type matcher[T any] func(T) bool

// property is what a filter compares: an object matches if any of the values of the filter matches.
type property[T any] func(object T, value string) bool

// tagFilter begins the name of a filter for the value of one tag.
const tagFilter = "tag:"

// matcherOf reads filters. known are the properties by the names of filters; tags are those of an object, nil where
// there is no filter for them.
func matcherOf[T any](filters []filter, known map[string]property[T], tags func(T) []v1alpha1.Tag) (matcher[T], error) {
	if len(filters) > maxFilters {
		return nil, refusal.New(errcode.InvalidParameterValue, "Filters must have at most %d items, got %d", maxFilters, len(filters))
	}
	all := make([]matcher[T], len(filters))
	for i, f := range filters {
		p := known[f.Name]
		if p == nil && tags != nil {
			p = tagProperty(f.Name, tags)
		}
		switch {
		case p == nil:
			return nil, refusal.New(errcode.InvalidFilter, "Filters.%d.Name must be one of %s, got %s", i, namesOf(known, tags != nil), validation.Quote(f.Name))
		case len(f.Values) == 0:
			return nil, refusal.New(errcode.InvalidFilterValue, "Filters.%d.Values must have a value", i)
		case len(f.Values) > maxFilterValues:
			return nil, refusal.New(errcode.InvalidFilterValue, "Filters.%d.Values must have at most %d items, got %d", i, maxFilterValues, len(f.Values))
		}
		all[i] = func(object T) bool {
			return slices.ContainsFunc(f.Values, func(value string) bool { return p(object, value) })
		}
	}
	return func(object T) bool {
		for _, matches := range all {
			if !matches(object) {
				return false
			}
		}
		return true
	}, nil
}

// tagProperty is the property of a filter about tags; nil for another filter.
func tagProperty[T any](name string, tags func(T) []v1alpha1.Tag) property[T] {
	has := func(object T, matches func(v1alpha1.Tag) bool) bool {
		return slices.ContainsFunc(tags(object), matches)
	}
	key, one := strings.CutPrefix(name, tagFilter)
	switch {
	case one && key != "":
		return func(object T, value string) bool {
			return has(object, func(t v1alpha1.Tag) bool { return t.Key == key && t.Value == value })
		}
	case name == "tag-key":
		return func(object T, value string) bool {
			return has(object, func(t v1alpha1.Tag) bool { return t.Key == value })
		}
	case name == "tag-value":
		return func(object T, value string) bool {
			return has(object, func(t v1alpha1.Tag) bool { return t.Value == value })
		}
	}
	return nil
}

// namesOf lists the names of filters.
func namesOf[T any](known map[string]property[T], tags bool) string {
	var names []string
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(names)
	if tags {
		names = append(names, "tag-key", "tag-value", tagFilter+"KEY")
	}
	return strings.Join(names, ", ")
}

// equal is the property that a text of the object is the value.
func equal[T any](text func(T) string) property[T] {
	return func(object T, value string) bool { return text(object) == value }
}

// checkChoice refuses a request that names objects and filters them as well, and one that names too many.
func checkChoice(field string, ids []string, filters []filter) error {
	switch {
	case len(ids) > 0 && len(filters) > 0:
		return refusal.New(errcode.InvalidParameterCombination, "only one of %s and Filters may be given", field)
	case len(ids) > maxIDs:
		return refusal.New(errcode.InvalidParameterValue, "%s must have at most %d items, got %d", field, maxIDs, len(ids))
	}
	return nil
}

// set returns the values of a list.
func set(list []string) map[string]bool {
	out := make(map[string]bool, len(list))
	for _, s := range list {
		out[s] = true
	}
	return out
}
