// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"fmt"
	"strings"
)

// Permission is one verb on one resource, as "scope group/resource verb [name]": scope is the
// kind of the role.
type Permission string

// ParsePermissions reads the tables of docs/permissions.md. The error says which line cannot be
// understood.
func ParsePermissions(page string) ([]Permission, error) {
	var out []Permission
	scope, number := "", 0
	for line := range strings.Lines(page) {
		number++
		line = strings.TrimSpace(line)
		switch {
		case line == "## In all namespaces":
			scope = "ClusterRole"
		case line == "## In the manager's own namespace":
			scope = "Role"
		case !strings.HasPrefix(line, "| core |") && !strings.HasPrefix(line, "| `"):
			continue
		default:
			cells := strings.Split(line, "|")
			if len(cells) != 7 || strings.TrimSpace(cells[5]) == "" {
				return nil, fmt.Errorf("line %d must have five cells, the last of them why: %s", number, line)
			}
			groups, resources, verbs, names := words(cells[1]), words(cells[2]), words(cells[3]), words(cells[4])
			if len(names) == 0 {
				names = []string{""}
			}
			for _, r := range resources {
				for _, v := range verbs {
					for _, n := range names {
						out = append(out, NewPermission(scope, groups[0], r, v, n))
					}
				}
			}
		}
	}
	return out, nil
}

// NewPermission returns the permission of a role of the kind scope. The group core is "core" or "".
func NewPermission(scope, group, resource, verb, name string) Permission {
	if group == "" {
		group = "core"
	}
	return Permission(strings.TrimSpace(fmt.Sprintf("%s %s/%s %s %s", scope, group, resource, verb, name)))
}

// words are the items of a cell, without quotes.
func words(cell string) []string {
	return strings.FieldsFunc(cell, func(r rune) bool { return r == ' ' || r == ',' || r == '`' })
}
