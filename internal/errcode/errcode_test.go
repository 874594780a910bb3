// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package errcode

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/error-codes.md")

const document = "../../docs/error-codes.md"

// constants returns the values of all constants of type Code of a file, in source order.
func constants(t *testing.T, name string) []Code {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var codes []Code
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || fmt.Sprint(spec.Type) != "Code" {
			return true
		}
		for _, v := range spec.Values {
			text, err := strconv.Unquote(v.(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			codes = append(codes, Code(text))
		}
		return true
	})
	return codes
}

func TestTableHasEveryConstantInOrder(t *testing.T) {
	table, codes := Table(), constants(t, "codes.go")
	if len(table) != len(codes) {
		t.Fatalf("%d entries for %d constants", len(table), len(codes))
	}
	for i, e := range table {
		if e.Code != codes[i] {
			t.Errorf("entry %d is %s, want %s", i, e.Code, codes[i])
		}
	}
}

func TestGatewayTable(t *testing.T) {
	table, codes := GatewayTable(), constants(t, "gateway.go")
	if len(table) != len(codes) {
		t.Fatalf("%d entries for %d constants", len(table), len(codes))
	}
	for i, e := range table {
		if e.Code != codes[i] {
			t.Errorf("entry %d is %s, want %s", i, e.Code, codes[i])
		}
		if e.Actions == "" || e.Source == "" || !strings.HasSuffix(e.When, ".") || !strings.HasSuffix(e.WhatToDo, ".") {
			t.Errorf("%s lacks something: %+v", e.Code, e)
		}
		for _, other := range Table() {
			if other.Code == e.Code {
				t.Errorf("%s is in both tables", e.Code)
			}
		}
	}
}

func TestEntriesAreComplete(t *testing.T) {
	for _, e := range Table() {
		if e.When == "" || e.Example == "" || e.WhatToDo == "" || e.Source == "" {
			t.Errorf("%s lacks something: %+v", e.Code, e)
		}
		if strings.Count(string(e.Code), ".") > 1 {
			t.Errorf("%s has more than two parts", e.Code)
		}
		for _, sentence := range []string{e.When, e.WhatToDo} {
			if !strings.HasSuffix(sentence, ".") {
				t.Errorf("%s: no full stop: %s", e.Code, sentence)
			}
		}
	}
}

// To write the document: go test ./internal/errcode -update
func TestDocumentIsCurrent(t *testing.T) {
	want := render(Table())
	if *update {
		if err := os.WriteFile(document, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/error-codes.md is not what the table says; run: go test ./internal/errcode -update")
	}
}

func render(table []Entry) []byte {
	var b bytes.Buffer
	b.WriteString(`<!-- Written by "go test ./internal/errcode -update" from internal/errcode/table.go. Do not edit. -->

# Error codes

What a BatchJob, a ComputeEnv and a TaskTemplate can be answered with. The codes are BatchCompute's; a client that knows SubmitJob,
CreateComputeEnv and CreateTaskTemplate knows them.

A request that is refused is not stored. The answer is a ` + "`Status`" + ` with code 422. It has one entry in
` + "`details.causes`" + ` for each problem, at most 50 of them: the code in ` + "`reason`" + `, the path in ` + "`field`" + `, a sentence in
` + "`message`" + `. They come in the order of the fields, and the first is the one that the API would have answered.
Messages are for people and may change; codes do not. The part before the dot is the family, and may be matched alone.

| code | when |
|---|---|
`)
	for _, e := range table {
		fmt.Fprintf(&b, "| [%s](#%s) | %s |\n", e.Code, anchor(e.Code), cell(e.When))
	}
	for _, e := range table {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", e.Code, e.When)
		if e.Kind != "" {
			fmt.Fprintf(&b, "- **Kind:** %s\n", e.Kind)
		}
		if e.Field != "" {
			fmt.Fprintf(&b, "- **Field:** %s\n", e.Field)
		}
		example := e.Example
		if strings.ContainsAny(example, ":{") {
			example = "`" + example + "`"
		}
		fmt.Fprintf(&b, "- **Example:** %s\n- **What to do:** %s\n- **Source:** %s\n", example, e.WhatToDo, e.Source)
	}
	b.WriteString(gateway)
	for _, e := range GatewayTable() {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", e.Code, cell(e.When), e.Actions, cell(e.WhatToDo))
	}
	b.WriteString(absent)
	return b.Bytes()
}

// gateway is what stands above the codes of the gateway.
const gateway = `
## Codes of the gateway

The gateway, which speaks the vendor's API, passes on the codes above: the first cause is the ` + "`Code`" + `, its sentence the
` + "`Message`" + `. Beside them it answers with these.

| code | when | actions | what to do |
|---|---|---|---|
`

// absent says which codes of CreateComputeEnv there is nothing to answer with here.
const absent = `
## Codes that do not occur

CreateComputeEnv has these codes too. Nothing in a cluster corresponds to them, so no request is answered with them.

| code | why not |
|---|---|
| InternalError.CallCam | Nobody is asked but the cluster: its API server decides who may create a ComputeEnv. |
| InternalError.CallTagAPI | No tag service is called: tags become labels and annotations of the Pods. |
| InvalidParameterValue.InvalidDataTypeAny | The API server refuses a value of another type than its field's before admission, in its own words. |
| InvalidParameterValue.InvalidZoneMismatchRegion, InvalidZone.MismatchRegion | A cluster has zones and no region of the request. No node in the zone is waiting, or [InvalidParameterValue.UnavailableZone](#invalidparametervalueunavailablezone). |
| LimitExceeded.CpuQuota | A ComputeEnv takes no cores by itself. Those of its Pods are under the namespace's ResourceQuota; without room the instances wait, with reason ` + "`QuotaExceeded`" + `. |
`

// anchor is what Markdown makes of a heading.
func anchor(c Code) string { return strings.ToLower(strings.ReplaceAll(string(c), ".", "")) }

// cell keeps a text inside its cell of a table.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
