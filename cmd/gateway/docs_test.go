// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"batchcompute.dev/operator/internal/gateway/actions"
)

const page = "../../docs/gateway.md"

// rowsOf returns the cells of the rows of a page's tables that match form.
func rowsOf(t *testing.T, form string) [][]string {
	t.Helper()
	text, err := os.ReadFile(page)
	must(t, err)
	var out [][]string
	for line := range strings.Lines(string(text)) {
		if regexp.MustCompile(form).MatchString(line) {
			cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			out = append(out, cells)
		}
	}
	return out
}

// The page has every action.
func TestPageHasActions(t *testing.T) {
	var documented []string
	for _, cells := range rowsOf(t, `^\| [A-Z][A-Za-z]+ \| `) {
		if name := cells[0]; regexp.MustCompile(`^(Submit|Describe|Terminate|Retry|Delete|Create|Modify|Attach|Detach)`).MatchString(name) {
			documented = append(documented, name)
		}
	}
	slices.Sort(documented)
	if diff := cmp.Diff(actions.Names(), documented); diff != "" {
		t.Errorf("%s (-the table of actions +the page):\n%s", page, diff)
	}
}

// The page has a row for every right of the gateway, and no other.
func TestPageHasRights(t *testing.T) {
	text, err := os.ReadFile("../../config/gateway/role.yaml")
	must(t, err)
	role := &rbacv1.ClusterRole{}
	must(t, yaml.UnmarshalStrict(text, role))
	line := func(group string, resources, verbs, names []string) string {
		return strings.Join([]string{group, strings.Join(resources, " "), strings.Join(verbs, " "), strings.Join(names, " ")}, "; ")
	}
	var want, got []string
	for _, rule := range role.Rules {
		group := rule.APIGroups[0]
		if group == "" {
			group = "core"
		}
		want = append(want, line(group, rule.Resources, rule.Verbs, rule.ResourceNames))
	}
	words := func(cell string) []string {
		return strings.FieldsFunc(cell, func(r rune) bool { return strings.ContainsRune(" ,`", r) })
	}
	for _, cells := range rowsOf(t, `^\| (core|`+"`batchcompute.dev`"+`) \| `) {
		if len(cells) != 5 || cells[4] == "" {
			t.Errorf("the row %q lacks a reason", cells)
			continue
		}
		got = append(got, line(words(cells[0])[0], words(cells[1]), words(cells[2]), words(cells[3])))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-role.yaml +the page):\n%s", page, diff)
	}
}
