// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestMapping checks docs/mapping.md: each field of the CRDs has one row, and each row a field.
func TestMapping(t *testing.T) {
	page, err := os.ReadFile("../../docs/mapping.md")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := ParseMapping(string(page))
	if err != nil {
		t.Fatalf("docs/mapping.md: %v", err)
	}
	fields := crdFields(t)
	if len(fields["BatchJob"]) < 100 || len(fields["ComputeEnv"]) < 50 {
		t.Fatalf("%d fields of BatchJob and %d of ComputeEnv were found", len(fields["BatchJob"]), len(fields["ComputeEnv"]))
	}
	for _, b := range mappingBreaches(rows, fields) {
		t.Error(b)
	}
}

// mappingBreaches says what is wrong with the rows; fields are by kind, sorted.
func mappingBreaches(rows []MappingRow, fields map[string][]string) []string {
	var out []string
	said := map[string][]int{} // lines by "Kind path"
	for _, r := range rows {
		covered := coveredBy(r, fields[r.Kind])
		if len(covered) == 0 {
			out = append(out, fmt.Sprintf("docs/mapping.md line %d: %s has no field %s any more: correct or remove the row", r.Line, r.Kind, r))
		}
		for _, f := range covered {
			said[r.Kind+" "+f] = append(said[r.Kind+" "+f], r.Line)
			if twin := r.As + strings.TrimPrefix(f, r.Path); r.As != "" && !slices.Contains(fields["BatchJob"], twin) {
				out = append(out, fmt.Sprintf("docs/mapping.md line %d: BatchJob has no field %s that %s could be as: give it a row of its own", r.Line, twin, f))
			}
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(fields)) {
		for _, f := range fields[kind] {
			switch lines := said[kind+" "+f]; {
			case len(lines) == 0:
				out = append(out, fmt.Sprintf("docs/mapping.md has no row for %s of %s: add one to the section %q", f, kind, "## "+kind))
			case len(lines) > 1:
				out = append(out, fmt.Sprintf("docs/mapping.md has %d rows for %s of %s, on the lines %v: leave one", len(lines), f, kind, lines))
			}
		}
	}
	return out
}

// String is the row's first cell.
func (r MappingRow) String() string {
	if r.Below {
		return r.Path + ".*"
	}
	return r.Path
}

// coveredBy returns the fields that a row speaks of.
func coveredBy(r MappingRow, fields []string) []string {
	var out []string
	for _, f := range fields {
		if r.Below && strings.HasPrefix(f, r.Path+".") || !r.Below && f == r.Path {
			out = append(out, f)
		}
	}
	return out
}

// crdFields returns the paths of all fields of spec and status that have no fields
// themselves, sorted, by kind.
func crdFields(t *testing.T) map[string][]string {
	t.Helper()
	files, err := filepath.Glob("../../config/crd/bases/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var crd struct {
			Spec struct {
				Names    struct{ Kind string }
				Versions []struct {
					Schema struct{ OpenAPIV3Schema schema }
				}
			}
		}
		if err := yaml.Unmarshal(text, &crd); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, v := range crd.Spec.Versions {
			for _, top := range []string{"spec", "status"} {
				if part, ok := v.Schema.OpenAPIV3Schema.Properties[top]; ok { // a TaskTemplate has no status
					out[crd.Spec.Names.Kind] = append(out[crd.Spec.Names.Kind], part.leaves(top)...)
				}
			}
		}
	}
	for _, list := range out {
		slices.Sort(list)
	}
	return out
}

// schema is as much of an OpenAPI schema as tells which fields there are.
type schema struct {
	Properties map[string]schema
	Items      *schema
}

func (s schema) leaves(path string) []string {
	if s.Items != nil {
		return s.Items.leaves(path + "[]")
	}
	if len(s.Properties) == 0 {
		return []string{path}
	}
	var out []string
	for name, p := range s.Properties {
		out = append(out, p.leaves(path+"."+name)...)
	}
	return out
}

// TestMappingBreaches proves that each rule can fail.
func TestMappingBreaches(t *testing.T) {
	fields := map[string][]string{
		"BatchJob":   {"spec.a", "spec.m.x", "spec.m.y", "spec.n.x"},
		"ComputeEnv": {"spec.m.x", "spec.m.y"},
	}
	const good = "## BatchJob\n| `spec.a` | is a. |\n| `spec.m.x`, `spec.m.y` | are m's. |\n| `spec.n.*` | **no effect**: none. |\n## ComputeEnv\n| `spec.m.*` as `spec.m.*` | likewise. |\n"
	for name, tc := range map[string]struct{ old, replace, want string }{
		"good":           {"", "", ""},
		"no row":         {"| `spec.a` | is a. |\n", "", "no row for spec.a of BatchJob"},
		"no row below":   {"`spec.m.x`, ", "", "no row for spec.m.x of BatchJob"},
		"two rows":       {"spec.n.*", "spec.a", "2 rows for spec.a"},
		"stale":          {"`spec.a`", "`spec.a`, `spec.b`", "no field spec.b any more"},
		"stale subtree":  {"`spec.a`", "`spec.a`, `spec.a.*`", "no field spec.a.* any more"},
		"a prefix":       {"spec.n.*", "spec.no.*", "no row for spec.n.x"},
		"as what is not": {"as `spec.m.*`", "as `spec.n.*`", "no field spec.n.y that spec.m.y could be as"},
	} {
		t.Run(name, func(t *testing.T) {
			rows, err := ParseMapping(strings.Replace(good, tc.old, tc.replace, 1))
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(mappingBreaches(rows, fields), "\n")
			if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
				t.Errorf("breaches %q, want %q", got, tc.want)
			}
		})
	}
	for _, bad := range []string{"| `spec.a` |", "| `spec.a` | |", "| `spec.a` or | a |", "| `spec.a` as `spec.b` | a |", "| `spec.a` | **void** |", "| `spec.a` | **refused** **refused** |", "| `str` | a |"} {
		if rows, err := ParseMapping("text\n" + bad + "\n"); err == nil || !strings.HasPrefix(err.Error(), "line 2: ") {
			t.Errorf("%s: rows %v, error %v", bad, rows, err)
		}
	}
	want := []MappingRow{{Kind: "K", Path: "spec.a[]", Effect: "refused", Line: 2}, {Kind: "K", Path: "spec.b", Below: true, Effect: "refused", Line: 2}}
	if got, err := ParseMapping("## K\n| `spec.a[]`, `spec.b.*` | **refused**. |\n"); err != nil || !slices.Equal(got, want) {
		t.Errorf("rows %v, %v; want %v", got, err, want)
	}
}
