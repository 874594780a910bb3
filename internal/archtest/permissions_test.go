// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestPermissions checks docs/permissions.md: each right of the manager has one row with a reason, each row
// is a right, and no right is for everything.
func TestPermissions(t *testing.T) {
	page, err := os.ReadFile("../../docs/permissions.md")
	if err != nil {
		t.Fatal(err)
	}
	said, err := ParsePermissions(string(page))
	if err != nil {
		t.Fatalf("docs/permissions.md: %v", err)
	}
	given := manifestPermissions(t)
	if len(given) < 40 {
		t.Fatalf("%d rights were found in the manifest", len(given))
	}
	for _, p := range given {
		if strings.Contains(string(p), "*") {
			t.Errorf("config/rbac/role.yaml gives a right to everything: %s", p)
		}
		if !slices.Contains(said, p) {
			t.Errorf("docs/permissions.md does not say why the manager has %s", p)
		}
	}
	for i, p := range said {
		if !slices.Contains(given, p) {
			t.Errorf("docs/permissions.md explains %s, which the manager does not have", p)
		}
		if slices.Contains(said[:i], p) {
			t.Errorf("docs/permissions.md explains %s twice", p)
		}
	}
}

// manifestPermissions are those of config/rbac/role.yaml.
func manifestPermissions(t *testing.T) []Permission {
	t.Helper()
	text, err := os.ReadFile("../../config/rbac/role.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var out []Permission
	for doc := range bytes.SplitSeq(text, []byte("\n---\n")) {
		var role struct {
			Kind  string
			Rules []struct{ APIGroups, Resources, Verbs, ResourceNames []string }
		}
		if err := yaml.Unmarshal(doc, &role); err != nil {
			t.Fatal(err)
		}
		for _, rule := range role.Rules {
			names := rule.ResourceNames
			if len(names) == 0 {
				names = []string{""}
			}
			for _, g := range rule.APIGroups {
				for _, r := range rule.Resources {
					for _, v := range rule.Verbs {
						for _, n := range names {
							out = append(out, NewPermission(role.Kind, g, r, v, n))
						}
					}
				}
			}
		}
	}
	return out
}

// TestParsePermissions proves that a row without a reason is refused.
func TestParsePermissions(t *testing.T) {
	const row = "## In all namespaces\n| core | `pods` | `get`, `list` | `a` | why |\n"
	want := []Permission{"ClusterRole core/pods get a", "ClusterRole core/pods list a"}
	if got, err := ParsePermissions(row); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	if _, err := ParsePermissions(strings.Replace(row, "why", "", 1)); err == nil || !strings.HasPrefix(err.Error(), "line 2 ") {
		t.Errorf("a row without a reason: %v", err)
	}
}
