// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fetch copies the objects under a prefix to a directory.
package fetch

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"batchcompute.dev/operator/internal/staging/fault"
	"batchcompute.dev/operator/internal/staging/localdir"
	"batchcompute.dev/operator/internal/staging/store"
)

// Limits bound a tree; 0 means no bound.
type Limits struct {
	Bytes int64
	// Field is the field that sets Bytes; empty means that none does.
	Field string
	Files int
}

// Lister lists the objects under a prefix, in the order of their keys.
type Lister interface {
	List(ctx context.Context, prefix string) iter.Seq2[store.Object, error]
}

// Plan is what is to be copied: names of all objects were checked, and nothing is copied yet.
type Plan struct {
	prefix  string
	objects []store.Object
	// Files and Bytes are the sums, without directories.
	Files int
	Bytes int64
}

// List lists a prefix, which is empty or ends with /. It fails if there is nothing, if a key cannot be a
// path, if something would have to be a file and a directory, and if a limit is exceeded.
func List(ctx context.Context, l Lister, prefix string, limits Limits) (*Plan, error) {
	p := &Plan{prefix: prefix}
	// open are the files whose keys are a beginning of the current key, the longest last. In the order of
	// the bytes all keys that start with a are together.
	var open []string
	for o, err := range l.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		if o.Key == prefix {
			continue // the marker of the directory itself
		}
		name := strings.TrimPrefix(o.Key, prefix)
		isDir := strings.HasSuffix(name, "/")
		if err := check(o, strings.TrimSuffix(name, "/"), isDir); err != nil {
			return nil, err
		}
		for len(open) > 0 && !strings.HasPrefix(name, open[len(open)-1]) {
			open = open[:len(open)-1]
		}
		for _, file := range open {
			if name[len(file)] == '/' {
				return nil, fault.Final(fault.Conflict, prefix+file, "it has to be a file, and a directory for "+fault.Quote(o.Key),
					"rename or delete one of the objects")
			}
		}
		if !isDir {
			open = append(open, name)
			p.Files++
			p.Bytes += o.Size
		}
		p.objects = append(p.objects, o)
		if err := limits.check(p); err != nil {
			return nil, err
		}
	}
	if len(p.objects) == 0 && prefix != "" {
		return nil, fault.Final(fault.NoObject, prefix, "there is no object below it", "correct the path, or create the objects")
	}
	return p, nil
}

// check checks one object.
func check(o store.Object, name string, isDir bool) error {
	if err := localdir.CheckName(name, o.Key); err != nil {
		return err
	}
	if isDir && o.Size > 0 {
		return fault.Final(fault.Name, o.Key, "the object has contents, and the name of a directory", "rename it")
	}
	return nil
}

// check checks the sums.
func (l Limits) check(p *Plan) error {
	if l.Files > 0 && len(p.objects) > l.Files {
		return fault.Final(fault.Limit, p.prefix, fmt.Sprintf("there are more than %d objects", l.Files), "map a smaller directory, or pack the files")
	}
	if l.Bytes > 0 && p.Bytes > l.Bytes {
		return fault.TooLarge(p.prefix, "the objects have", l.Bytes, l.Field)
	}
	return nil
}
