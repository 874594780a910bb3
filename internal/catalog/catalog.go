// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package catalog reads the operator's configuration file: what this cluster
// offers under the names that the BatchCompute API knows.
//
//	apiVersion: config.batchcompute.dev/v1alpha1
//	kind: Catalog
//	defaultImage: busybox:1.37
//	images:
//	  img-bd78fy2t: python:3.13-slim
//
// The file is decoded strictly: an unknown field, a field given twice and a
// second document are errors, so that a typing mistake is found at the start
// and not by a user whose job runs in the wrong image.
package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v3"
)

// What the head of the file must say.
const (
	APIVersion = "config.batchcompute.dev/v1alpha1"
	Kind       = "Catalog"
)

// DefaultImage is the default image of a file that names none, and of Default.
const DefaultImage = "busybox:1.37"

// Catalog is what the cluster offers. It is never changed after Parse, so any
// number of goroutines may read it.
type Catalog struct {
	// DefaultImage is the container image of a task that names none. Never empty.
	DefaultImage string
	// images maps a machine image's identifier to a container image.
	images map[string]string
}

// file is the form of the configuration file.
type file struct {
	APIVersion   string            `yaml:"apiVersion"`
	Kind         string            `yaml:"kind"`
	DefaultImage string            `yaml:"defaultImage"`
	Images       map[string]string `yaml:"images"`
}

// Both are deliberately loose: an image reference has many legal forms, and the
// container runtime is the judge of it. What is caught here is what cannot be one.
var (
	imageID  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	imageRef = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,511}$`)
)

// Default is the catalogue of an operator that was given no file: no image
// identifiers, and DefaultImage.
func Default() *Catalog {
	return &Catalog{DefaultImage: DefaultImage}
}

// Image returns the container image that the catalogue has for a machine image's
// identifier, such as img-bd78fy2t. ok is false when the catalogue has no such
// identifier; whether it is then a container image itself is not decided here.
func (c *Catalog) Image(id string) (ref string, ok bool) {
	ref, ok = c.images[id]
	return ref, ok
}

// Parse reads a configuration file. The error joins everything that is wrong with
// it, each with its line or its field.
func Parse(data []byte) (*Catalog, error) {
	var f file
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading catalog: %w", err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("reading catalog: must be a single YAML document")
	}
	if err := f.check(); err != nil {
		return nil, fmt.Errorf("reading catalog: %w", err)
	}
	c := Default()
	c.images = f.Images
	if f.DefaultImage != "" {
		c.DefaultImage = f.DefaultImage
	}
	return c, nil
}

// check returns what is wrong with a file that is in the right form.
func (f *file) check() error {
	var errs []error
	if f.APIVersion != APIVersion {
		errs = append(errs, fmt.Errorf("apiVersion: must be %s, got %q", APIVersion, f.APIVersion))
	}
	if f.Kind != Kind {
		errs = append(errs, fmt.Errorf("kind: must be %s, got %q", Kind, f.Kind))
	}
	if f.DefaultImage != "" && !imageRef.MatchString(f.DefaultImage) {
		errs = append(errs, fmt.Errorf("defaultImage: must be a container image such as %s, got %q", DefaultImage, f.DefaultImage))
	}
	for _, id := range slices.Sorted(maps.Keys(f.Images)) {
		if !imageID.MatchString(id) {
			errs = append(errs, fmt.Errorf("images: an identifier must be letters, digits, '.', '_' and '-', got %q", id))
		}
		if ref := f.Images[id]; !imageRef.MatchString(ref) {
			errs = append(errs, fmt.Errorf("images.%s: must be a container image such as %s, got %q", id, DefaultImage, ref))
		}
	}
	return errors.Join(errs...)
}
