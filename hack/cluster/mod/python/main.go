// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// python-unpack DIR writes a standalone CPython for this platform into DIR.
package main

import (
	"fmt"
	"os"

	"github.com/kluctl/go-embed-python/python"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: python-unpack DIR")
		os.Exit(2)
	}
	if _, err := python.NewEmbeddedPythonWithTmpDir(os.Args[1], false); err != nil {
		fmt.Fprintln(os.Stderr, "unpacking Python:", err)
		os.Exit(1)
	}
}
