// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"strings"
	"testing"
)

const head = "apiVersion: config.batchcompute.dev/v1alpha1\nkind: Catalog\n"

func TestParse(t *testing.T) {
	c, err := Parse([]byte(head + `
defaultImage: debian:13
images:
  img-bd78fy2t: python:3.13-slim
  img-0: host.example:5000/a/b@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
`))
	if err != nil {
		t.Fatal(err)
	}
	if c.DefaultImage != "debian:13" {
		t.Errorf("DefaultImage = %q", c.DefaultImage)
	}
	if ref, ok := c.Image("img-bd78fy2t"); ref != "python:3.13-slim" || !ok {
		t.Errorf("Image(img-bd78fy2t) = %q, %v", ref, ok)
	}
	if ref, ok := c.Image("python:3.13-slim"); ref != "" || ok {
		t.Errorf("Image answers for what is no identifier: %q, %v", ref, ok)
	}
}

func TestParseWithoutImages(t *testing.T) {
	c, err := Parse([]byte(head))
	if err != nil {
		t.Fatal(err)
	}
	if c.DefaultImage != DefaultImage {
		t.Errorf("DefaultImage = %q, want %q", c.DefaultImage, DefaultImage)
	}
	if _, ok := c.Image("img-bd78fy2t"); ok {
		t.Error("an empty catalogue has an image")
	}
}

func TestDefault(t *testing.T) {
	if c := Default(); c.DefaultImage != DefaultImage {
		t.Errorf("DefaultImage = %q, want %q", c.DefaultImage, DefaultImage)
	}
	if _, ok := Default().Image("img-bd78fy2t"); ok {
		t.Error("the default catalogue has an image")
	}
}

func TestParseErrors(t *testing.T) {
	tests := map[string]struct {
		in   string
		want []string // each must be in the error
	}{
		"empty":            {"", []string{"apiVersion: must be config.batchcompute.dev/v1alpha1", "kind: must be Catalog"}},
		"other version":    {"apiVersion: v1\nkind: Catalog\n", []string{`apiVersion: must be config.batchcompute.dev/v1alpha1, got "v1"`}},
		"other kind":       {"apiVersion: " + APIVersion + "\nkind: ConfigMap\n", []string{`kind: must be Catalog, got "ConfigMap"`}},
		"unknown field":    {head + "imges: {}\n", []string{"line 3", "imges"}},
		"field twice":      {head + "images: {a: b}\nimages: {c: d}\n", []string{"line 4", "images", "line 3"}},
		"identifier twice": {head + "images:\n  a: b\n  a: c\n", []string{"line 5", `"a"`}},
		"wrong type":       {head + "images: [a]\n", []string{"line 3"}},
		"no YAML":          {head + "images: {", []string{"line 3"}},
		"two documents":    {head + "---\n" + head, []string{"single YAML document"}},
		"bad default":      {head + "defaultImage: 'busybox 1.37'\n", []string{"defaultImage: must be a container image", `"busybox 1.37"`}},
		"empty image":      {head + "images: {img-1: ''}\n", []string{"images.img-1: must be a container image", `""`}},
		"bad identifier":   {head + "images: {'a/b': c}\n", []string{`identifier must be letters`, `"a/b"`}},
		"all at once": {head + "defaultImage: ' '\nimages: {img-2: ' ', img-1: ' '}\n",
			[]string{"defaultImage:", "images.img-1:", "images.img-2:"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(tc.in))
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}
