// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"sigs.k8s.io/yaml"
)

// Vocabulary is the list of retired words in hack/vocabulary.yaml.
type Vocabulary struct {
	// Retired are the words, in the order of the file.
	Retired []RetiredWord `json:"retired"`
	// Pending are the paths below which retired words are counted and not refused.
	Pending []string `json:"pending"`
}

// RetiredWord is a word, or several, that the project does not use.
type RetiredWord struct {
	// Word is the regular expression of the word.
	Word string `json:"word"`
	// Use is what to write instead.
	Use string `json:"use"`
	// Except are regular expressions of texts that are not searched.
	Except []string `json:"except"`

	word   *regexp.Regexp
	except []*regexp.Regexp
}

// RetiredUse is one use of a retired word.
type RetiredUse struct {
	// Line is the line in the file, from 1, or 0 for the file's name.
	Line int
	// Found is the text that matches.
	Found string
	// Word is the retired word.
	Word RetiredWord
}

// ParseVocabulary reads hack/vocabulary.yaml.
func ParseVocabulary(data []byte) (*Vocabulary, error) {
	v := &Vocabulary{}
	if err := yaml.UnmarshalStrict(data, v); err != nil {
		return nil, err
	}
	for i := range v.Retired {
		w := &v.Retired[i]
		var err error
		if w.word, err = regexp.Compile(`(?i)\b(` + w.Word + `)\b`); err != nil {
			return nil, fmt.Errorf("word %q: %w", w.Word, err)
		}
		if w.Use == "" {
			return nil, fmt.Errorf("word %q: use must say what to write instead", w.Word)
		}
		for _, e := range w.Except {
			r, err := regexp.Compile(`(?i)` + e)
			if err != nil {
				return nil, fmt.Errorf("word %q: except: %w", w.Word, err)
			}
			w.except = append(w.except, r)
		}
	}
	return v, nil
}

// IsPending tells whether a file, named from the top of the tree, may still use retired words.
func (v *Vocabulary) IsPending(name string) bool { return below(name, v.Pending) }

// Check returns the uses of retired words in a file, in the order of lines. A generated file has none:
// its source is checked.
func (v *Vocabulary) Check(name string, data []byte) ([]RetiredUse, error) {
	if generated(data) {
		return nil, nil
	}
	var texts []textAt
	if strings.HasSuffix(name, ".go") {
		var err error
		if texts, err = goTexts(name, data); err != nil {
			return nil, err
		}
	} else {
		texts = []textAt{{1, string(data)}}
	}
	texts = append(texts, compounds(texts)...)
	texts = append(texts, textAt{0, splitName(strings.TrimSuffix(path.Base(name), path.Ext(name)))})
	var out []RetiredUse
	for _, text := range texts {
		out = append(out, v.find(text)...)
	}
	slices.SortStableFunc(out, func(a, b RetiredUse) int { return a.Line - b.Line })
	return out, nil
}

// compound is a name in CamelCase, such as maxBatchSize or BatchSize.
var compound = regexp.MustCompile(`\b[A-Za-z]+[a-z][A-Z][A-Za-z]*\b`)

// compounds returns the names in CamelCase that texts have, as words: comments and pages name what the code declares.
func compounds(texts []textAt) []textAt {
	var out []textAt
	for _, t := range texts {
		for _, at := range compound.FindAllStringIndex(t.text, -1) {
			out = append(out, textAt{t.line + strings.Count(t.text[:at[0]], "\n"), splitName(t.text[at[0]:at[1]])})
		}
	}
	return out
}

// find returns the uses of retired words in one text, in which a line break counts as a space.
func (v *Vocabulary) find(text textAt) []RetiredUse {
	joined, lines := joinLines(text)
	var out []RetiredUse
	for _, w := range v.Retired {
		searched := joined
		for _, e := range w.except {
			searched = e.ReplaceAllStringFunc(searched, func(s string) string { return strings.Repeat("-", len(s)) })
		}
		for _, at := range w.word.FindAllStringIndex(searched, -1) {
			out = append(out, RetiredUse{Line: lines[at[0]], Found: searched[at[0]:at[1]], Word: w})
		}
	}
	return out
}

// textAt is a text of a file and the line where it begins; 0 for the file's name.
type textAt struct {
	line int
	text string
}

var lineBreak = regexp.MustCompile(`[ \t]*\n[ \t]*(//+|#+|>)?[ \t]*`)

// joinLines returns the text with one space for each line break and the comment sign after it, and for
// each byte of the result its line.
func joinLines(text textAt) (joined string, lines []int) {
	var b strings.Builder
	line, from := text.line, 0
	add := func(s string) {
		b.WriteString(s)
		for range len(s) {
			lines = append(lines, line)
		}
	}
	for _, at := range lineBreak.FindAllStringIndex(text.text, -1) {
		add(text.text[from:at[0]])
		add(" ")
		line, from = line+1, at[1]
	}
	add(text.text[from:])
	return b.String(), lines
}

// goTexts returns the comments, the declared names and the string literals of a Go file.
func goTexts(name string, src []byte) ([]textAt, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var out []textAt
	add := func(pos token.Pos, text string) { out = append(out, textAt{fset.Position(pos).Line, text}) }
	declare := func(names ...*ast.Ident) {
		for _, id := range names {
			if id != nil {
				add(id.Pos(), splitName(id.Name))
			}
		}
	}
	for _, group := range file.Comments {
		text := string(src[fset.Position(group.Pos()).Offset:fset.Position(group.End()).Offset])
		add(group.Pos(), text)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			if n.Kind == token.STRING {
				add(n.Pos(), n.Value)
			}
		case *ast.FuncDecl:
			declare(n.Name)
		case *ast.TypeSpec:
			declare(n.Name)
		case *ast.ImportSpec:
			declare(n.Name)
			return false
		case *ast.ValueSpec:
			declare(n.Names...)
		case *ast.Field:
			declare(n.Names...)
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE {
				declare(identifiers(n.Lhs...)...)
			}
		case *ast.RangeStmt:
			if n.Tok == token.DEFINE {
				declare(identifiers(n.Key, n.Value)...)
			}
		}
		return true
	})
	return out, nil
}

// identifiers returns the expressions that are names.
func identifiers(exprs ...ast.Expr) []*ast.Ident {
	var out []*ast.Ident
	for _, e := range exprs {
		if id, ok := e.(*ast.Ident); ok {
			out = append(out, id)
		}
	}
	return out
}

// splitName returns the words of a name with spaces between them: claimPods, claim_pods and claim-pods
// are "claim pods".
func splitName(name string) string {
	var b strings.Builder
	lower := false
	for _, r := range name {
		switch {
		case r == '_' || r == '-' || r == '.':
			r = ' '
		case unicode.IsUpper(r) && lower:
			b.WriteByte(' ')
		}
		lower = unicode.IsLower(r)
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// generated tells whether a file says in its first lines that it is generated.
func generated(data []byte) bool {
	head := data[:min(len(data), 500)]
	return bytes.Contains(head, []byte("DO NOT EDIT.")) || bytes.Contains(head, []byte("Do not edit. -->"))
}
