// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"batchcompute.dev/operator/internal/params"
)

const sdkFields = "testdata/sdk-fields.txt"

// sdkModels is the file tencentcloud/batch/v20170312/models.go of a newer copy of the
// vendor's Go SDK, github.com/TencentCloud/tencentcloud-sdk-go.
var sdkModels = flag.String("sdk-models", "", "write "+sdkFields+" again from this models.go of the vendor's SDK")

// TestEveryFieldOfTheSDK: each field that the vendor's SDK has in a request is a field of
// ours, of the same kind. The list is of the SDK as of 2026-08-21 (v1.3.166). It is a list
// and not the SDK itself because module proxies do not have the SDK's newer versions, and
// because nothing else here needs that module.
func TestEveryFieldOfTheSDK(t *testing.T) {
	if *sdkModels != "" {
		if err := os.WriteFile(sdkFields, []byte(readSDK(t, *sdkModels)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	list, err := os.ReadFile(sdkFields)
	if err != nil {
		t.Fatal(err)
	}
	ours, a, n := map[string]bool{}, "", 0
	for line := range strings.Lines(string(list)) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "# "); ok {
			a, ours = name, map[string]bool{}
			for _, known := range actions {
				if known.name == name {
					leavesOf(known.shape, "", ours)
				}
			}
			continue
		}
		n++
		if !ours[line] {
			t.Errorf("%s has a field that the types lack: %s", a, line)
		}
	}
	if n < 200 {
		t.Errorf("%d fields", n)
	}
}

// leavesOf adds "Job.Tasks.N.TaskName: a text" for each field that has none below it. A
// credential is a text in a body.
func leavesOf(s *params.Shape, path string, to map[string]bool) {
	switch s.Kind {
	case params.KindObject:
		for _, f := range s.Fields {
			leavesOf(f.Shape, params.Join(path, f.Name), to)
		}
	case params.KindList:
		leavesOf(s.Item, path+".N", to)
	case params.KindSecret:
		to[path+": "+string(params.KindText)] = true
	default:
		to[path+": "+string(s.Kind)] = true
	}
}

// readSDK returns the fields of the requests in a models.go, as leavesOf writes them.
func readSDK(t *testing.T, file string) string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	structs := map[string]*ast.StructType{}
	ast.Inspect(parsed, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok {
			if s, ok := spec.Type.(*ast.StructType); ok {
				structs[spec.Name.Name] = s
			}
		}
		return true
	})
	var lines []string
	var walk func(s *ast.StructType, path string)
	walk = func(s *ast.StructType, path string) {
		for _, f := range s.Fields.List {
			if f.Tag == nil {
				continue
			}
			name, _, _ := strings.Cut(reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json"), ",")
			p, typ := params.Join(path, name), f.Type
			if l, ok := typ.(*ast.ArrayType); ok {
				p, typ = p+".N", l.Elt
			}
			if star, ok := typ.(*ast.StarExpr); ok {
				typ = star.X
			}
			ident := fmt.Sprint(typ)
			if kind := map[string]params.Kind{"string": params.KindText, "uint64": params.KindNumber, "int64": params.KindNumber, "bool": params.KindSwitch}[ident]; kind != "" {
				lines = append(lines, p+": "+string(kind)+"\n")
			} else if structs[ident] != nil {
				walk(structs[ident], p)
			} else {
				t.Fatalf("%s is a %s", p, ident)
			}
		}
	}
	var out strings.Builder
	for _, a := range actions {
		lines = nil
		request := structs[a.name+"RequestParams"]
		if request == nil {
			t.Fatalf("no request of %s", a.name)
		}
		walk(request, "")
		slices.Sort(lines)
		out.WriteString("# " + a.name + "\n" + strings.Join(lines, ""))
	}
	return out.String()
}
