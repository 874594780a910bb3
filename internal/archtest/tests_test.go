// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestNamedTests checks that each test, and each check of the simulation, that a page names exists.
func TestNamedTests(t *testing.T) {
	const root = "../.."
	exist := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func (?:\([^)]*\) )?((?:Test|check)[A-Z]\w*)\(`)
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
	named, n := regexp.MustCompile("`((?:Test|check)[A-Z]\\w*)[/`]"), 0
	for _, page := range treeFiles(t, root) {
		if filepath.Ext(page) != ".md" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllSubmatch(text, -1) {
			if n++; !exist[string(m[1])] {
				t.Errorf("%s names %s, which does not exist", page, m[1])
			}
		}
	}
	if n < 20 {
		t.Errorf("%d names of tests were found in the pages", n)
	}
}

// TestDesignPage checks that docs/design.md says what each package is for, and names no other.
func TestDesignPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "\n| folder | holds |\n")
	documented := map[string]bool{}
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) != 4 {
			break
		}
		parent := ""
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
			if parent != "" && !strings.Contains(name[1], "/") {
				name[1] = parent + "/" + name[1]
			}
			parent, _, _ = strings.Cut(name[1], "/")
			documented[name[1]] = true
			if info, err := os.Stat(filepath.Join("../..", name[1])); err != nil || !info.IsDir() {
				t.Errorf("docs/design.md describes %s, which does not exist", name[1])
			}
		}
	}
	for _, parent := range []string{"cmd", "controllers", "internal", "hack"} {
		entries, err := os.ReadDir(filepath.Join("../..", parent))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if dir := parent + "/" + e.Name(); e.IsDir() && !documented[dir] {
				t.Errorf("docs/design.md does not say what %s holds", dir)
			}
		}
	}
}

// TestReasons checks that a page explains each condition and each reason of api/v1alpha1.
func TestReasons(t *testing.T) {
	const root = "../.."
	var pages strings.Builder
	for _, name := range treeFiles(t, root) {
		if path.Dir(name) == "docs" && path.Ext(name) == ".md" && path.Base(name) != "api.md" {
			text, err := os.ReadFile(filepath.Join(root, name))
			if err != nil {
				t.Fatal(err)
			}
			pages.Write(text)
		}
	}
	source, err := os.ReadFile(filepath.Join(root, "api/v1alpha1/conditions.go"))
	if err != nil {
		t.Fatal(err)
	}
	declared := regexp.MustCompile(`\b((?:Reason|Condition)\w+)\s+= "(\w+)"`).FindAllStringSubmatch(string(source), -1)
	if len(declared) < 50 {
		t.Fatalf("%d reasons and conditions were found", len(declared))
	}
	for _, m := range declared {
		if !strings.Contains(pages.String(), "`"+m[2]+"`") {
			t.Errorf("no page explains %s, `%s`: add it to docs/batchjob.md, docs/computeenv.md or docs/execution.md", m[1], m[2])
		}
	}
}
