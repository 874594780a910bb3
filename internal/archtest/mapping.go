// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// MappingRow is what docs/mapping.md says of one field, or of all fields below one.
type MappingRow struct {
	// Kind is the kind that has the field: the section of the page.
	Kind string
	// Path is the field, such as spec.job.tasks[].taskName. With Below it is that of a
	// structure, without the .* behind it.
	Path  string
	Below bool
	// As is the path of the structure of BatchJob in which each field below Path has the
	// same meaning; "" for none.
	As string
	// Effect is one of the Effects, or "" for a field that becomes something.
	Effect string
	// Line is where the row is.
	Line int
}

// Effects are what a row says in bold of a field that does not become what it is in
// BatchCompute.
var Effects = []string{"no effect", "refused"}

var (
	mappingPath   = regexp.MustCompile("`((?:spec|status)[A-Za-z0-9.\\[\\]]*)(\\.\\*)?`")
	mappingEffect = regexp.MustCompile(`\*\*([^*]+)\*\*`)
)

// ParseMapping reads the tables of docs/mapping.md: those in a section "## Kind" whose first
// cell has one or more paths in backquotes, or "`X.*` as `Y.*`". The error says which line
// cannot be understood.
func ParseMapping(page string) ([]MappingRow, error) {
	var out []MappingRow
	kind, number := "", 0
	for line := range strings.Lines(page) {
		number++
		if title, ok := strings.CutPrefix(strings.TrimSpace(line), "## "); ok {
			kind = title
		}
		if !strings.HasPrefix(line, "| `s") {
			continue
		}
		rows, err := parseMappingRow(strings.TrimSpace(line))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		for _, r := range rows {
			r.Kind, r.Line = kind, number
			out = append(out, r)
		}
	}
	return out, nil
}

func parseMappingRow(line string) ([]MappingRow, error) {
	cells := strings.Split(line, "|")
	if len(cells) != 4 || strings.TrimSpace(cells[2]) == "" {
		return nil, fmt.Errorf("must have two cells, the field and what it becomes: %s", line)
	}
	effect := ""
	for _, m := range mappingEffect.FindAllStringSubmatch(cells[2], -1) {
		if effect != "" || !slices.Contains(Effects, m[1]) {
			return nil, fmt.Errorf("must have in bold nothing but one of %s: %s", strings.Join(Effects, ", "), line)
		}
		effect = m[1]
	}
	paths := mappingPath.FindAllStringSubmatch(cells[1], -1)
	rest := strings.Trim(mappingPath.ReplaceAllString(cells[1], ""), " ,")
	if rest == "as" && len(paths) == 2 && paths[0][2] != "" && paths[1][2] != "" {
		return []MappingRow{{Path: paths[0][1], Below: true, As: paths[1][1], Effect: effect}}, nil
	}
	if rest != "" || len(paths) == 0 {
		return nil, fmt.Errorf("must have in the first cell paths in backquotes: %s", line)
	}
	var out []MappingRow
	for _, p := range paths {
		out = append(out, MappingRow{Path: p[1], Below: p[2] != "", Effect: effect})
	}
	return out, nil
}
