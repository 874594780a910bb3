// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestNamedTests holds that each test which a page names exists.
func TestNamedTests(t *testing.T) {
	const root = "../.."
	exist := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(text, -1) {
			exist[string(m[1])] = true
		}
		return err
	})
	if err != nil || len(exist) < 100 {
		t.Fatalf("%d tests were found: %v", len(exist), err)
	}
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	named, n := regexp.MustCompile("`(Test\\w+)[/`]"), 0
	for _, page := range append(pages, filepath.Join(root, "README.md")) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllSubmatch(text, -1) {
			if n++; !exist[string(m[1])] {
				t.Errorf("%s names the test %s, which there is not", filepath.Base(page), m[1])
			}
		}
	}
	if n < 20 {
		t.Errorf("%d names of tests were found in the pages", n)
	}
}
