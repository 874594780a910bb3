// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// TestLinks fails for each link of a Markdown page to a file or a section that does not exist, and for
// each page below docs/ that no other page links to. Links to other sites are not followed.
func TestLinks(t *testing.T) {
	const root = "../.."
	pages := map[string]string{}
	for _, name := range treeFiles(t, root) {
		if path.Ext(name) == ".md" {
			data, err := os.ReadFile(filepath.Join(root, name))
			if err != nil {
				t.Fatal(err)
			}
			pages[name] = string(data)
		}
	}
	linked, n := map[string]bool{}, 0
	for name, text := range pages {
		for _, target := range links(text) {
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			n++
			file, section, _ := strings.Cut(target, "#")
			to := name
			if file != "" {
				to = path.Join(path.Dir(name), file)
				linked[to] = true
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				t.Errorf("%s links to %s: there is no file %s", name, target, to)
			} else if section != "" && !slices.Contains(sections(pages[to]), section) {
				t.Errorf("%s links to %s: %s has no such section", name, target, to)
			}
		}
	}
	if n < 100 {
		t.Errorf("%d links were found", n)
	}
	for name := range pages {
		if strings.HasPrefix(name, "docs/") && !linked[name] {
			t.Errorf("no page links to %s", name)
		}
	}
}

var (
	codeBlock = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	codeSpan  = regexp.MustCompile("`[^`\n]*`")
	inline    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading   = regexp.MustCompile(`(?m)^#+ (.*)$`)
)

// links returns the targets of a page's links, in order; those in code are not links.
func links(page string) []string {
	var out []string
	page = codeSpan.ReplaceAllString(codeBlock.ReplaceAllString(page, ""), "code")
	for _, m := range inline.FindAllStringSubmatch(page, -1) {
		out = append(out, m[1])
	}
	return out
}

// sections returns the names under which the headings of a page can be linked to, as GitHub makes them.
func sections(page string) []string {
	var out []string
	for _, m := range heading.FindAllStringSubmatch(codeBlock.ReplaceAllString(page, ""), -1) {
		var b strings.Builder
		for _, r := range strings.ToLower(strings.TrimSpace(m[1])) {
			switch {
			case r == ' ':
				b.WriteByte('-')
			case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_':
				b.WriteRune(r)
			}
		}
		out = append(out, b.String())
	}
	return out
}

// TestLinkParts proves that links and sections are found as GitHub shows them.
func TestLinkParts(t *testing.T) {
	page := "# A title: `code`, and_more\n[a](b.md#c) ![i](i.svg) `[no](x)` [`x`](y)\n```\n# no heading [no](z)\n```\n## Two\n"
	if got, want := links(page), []string{"b.md#c", "i.svg", "y"}; !slices.Equal(got, want) {
		t.Errorf("links %q, want %q", got, want)
	}
	if got, want := sections(page), []string{"a-title-code-and_more", "two"}; !slices.Equal(got, want) {
		t.Errorf("sections %q, want %q", got, want)
	}
}
