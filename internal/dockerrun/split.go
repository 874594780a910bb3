// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dockerrun

import (
	"errors"
	"strings"
	"unicode/utf8"

	"mvdan.cc/sh/v3/syntax"
)

// maxExpansions bounds what a shell would expand: over many, one in another, its grammar
// takes time that grows with their square.
const maxExpansions = 16

// program stands before a text, so that the whole is one command.
const program = "docker "

var (
	errText   = errors.New("must be UTF-8 text without NUL characters")
	errQuotes = errors.New("must be words that a shell can split: a quote or a bracket is unbalanced")
	errShell  = errors.New("must not need a shell: no $, `, ;, &, |, <, > and line ends outside single quotes")
)

// Split splits a text into words as a POSIX shell does, and takes their quotes away. A
// text that is more than words is an error, which does not repeat the text.
func Split(text string) ([]string, error) {
	if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
		return nil, errText
	}
	if strings.Count(text, "$(")+strings.Count(text, "${") > maxExpansions {
		return nil, errShell
	}
	file, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(strings.NewReader(program+text), "")
	if err != nil {
		return nil, errQuotes
	}
	if len(file.Stmts) != 1 {
		return nil, errShell
	}
	stmt := file.Stmts[0]
	call, ok := stmt.Cmd.(*syntax.CallExpr)
	if !ok || stmt.Negated || stmt.Background || stmt.Semicolon.IsValid() || len(stmt.Redirs) > 0 || len(call.Assigns) > 0 {
		return nil, errShell
	}
	var words []string
	for _, w := range call.Args[1:] {
		word, ok := unquote(w.Parts, false)
		if !ok {
			return nil, errShell
		}
		words = append(words, word)
	}
	return words, nil
}

// unquote joins the parts of a word; false when a part is not plain text. It recurses once,
// for what stands in double quotes.
func unquote(parts []syntax.WordPart, inQuotes bool) (string, bool) {
	var b strings.Builder
	for _, p := range parts {
		switch p := p.(type) {
		case *syntax.Lit:
			b.WriteString(unescape(p.Value, inQuotes))
		case *syntax.SglQuoted:
			if p.Dollar {
				return "", false
			}
			b.WriteString(p.Value)
		case *syntax.DblQuoted:
			s, ok := unquote(p.Parts, true)
			if !ok || p.Dollar || inQuotes {
				return "", false
			}
			b.WriteString(s)
		default:
			return "", false
		}
	}
	return b.String(), true
}

// unescape takes backslashes away: all outside of quotes, and in double quotes those before
// a character that means something there.
func unescape(s string, inQuotes bool) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && (!inQuotes || strings.IndexByte("\\\"$`", s[i+1]) >= 0) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
