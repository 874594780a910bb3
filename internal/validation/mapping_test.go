// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"batchcompute.dev/operator/internal/archtest"
)

// TestMapping: docs/mapping.md says "no effect" and "refused" of those fields
// that are answered so, and of no others.
func TestMapping(t *testing.T) {
	page, err := os.ReadFile("../../docs/mapping.md")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := archtest.ParseMapping(string(page))
	if err != nil {
		t.Fatalf("docs/mapping.md: %v", err)
	}
	documented, held := map[string]string{}, map[string]string{}
	for _, r := range rows {
		if r.Effect != "" {
			documented[r.Kind+" "+strings.TrimSuffix(r.Path, "[]")] = r.Effect
		}
	}
	hold := func(kind, effect string, rows []carried) {
		for _, row := range rows {
			key := kind + " spec." + strings.TrimSuffix(row.field, "[]")
			held[key] = effect
		}
	}
	hold("BatchJob", "refused", notBuiltYet)
	hold("BatchJob", "no effect", neverOnKubernetes)
	hold("ComputeEnv", "refused", envNotBuiltYet)
	hold("ComputeEnv", "no effect", envNeverOnKubernetes) // the rest are as in a task's computeEnv
	for _, key := range slices.Sorted(maps.Keys(held)) {
		if got := documented[key]; got != held[key] {
			t.Errorf("docs/mapping.md says %q of %s, and admission has it as %q: put **%s** into its row, or change the table in unbuilt.go", got, key, held[key], held[key])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(documented)) {
		if held[key] == "" {
			t.Errorf("docs/mapping.md says **%s** of %s, and admission says nothing of it: say what it becomes, or add it to the table in unbuilt.go", documented[key], key)
		}
	}
}
