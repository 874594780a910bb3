// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestPagesWithSDK compiles the lines of the pages that call the vendor's SDK, with the SDK.
func TestPagesWithSDK(t *testing.T) {
	for page, name := range map[string]string{"README.md": "response", "docs/gateway.md": "answer"} {
		t.Run(page, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("../..", page))
			if err != nil {
				t.Fatal(err)
			}
			_, rest, found := strings.Cut(string(text), "```go\n")
			lines, _, closed := strings.Cut(rest, "```")
			if !found || !closed {
				t.Fatal("the page has no lines in Go")
			}
			compile(t, `package main

import (
	"fmt"

	batch "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/batch/v20170312"
	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common"
	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/profile"
)

func page(secretID, secretKey, body string) error {
`+lines+`
	fmt.Print(`+name+`)
	return err
}

func main() { _ = page("", "", "") }
`)
		})
	}
}

// compile compiles a program in the place of the one in hack/sdk/demo, whose module has the SDK.
func compile(t *testing.T, program string) {
	t.Helper()
	dir := t.TempDir()
	main, err := filepath.Abs("../sdk/demo/main.go")
	if err != nil {
		t.Fatal(err)
	}
	instead := filepath.Join(dir, "main.go")
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {main: instead}})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"main.go": []byte(program), "overlay.json": overlay} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", filepath.Join(dir, "program"), ".")
	cmd.Dir = filepath.Dir(main)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
