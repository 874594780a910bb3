// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"context"
	"io"
	"iter"
	"os"
	"strings"
	"testing"

	"batchcompute.dev/operator/internal/staging/fault"
	"batchcompute.dev/operator/internal/staging/localdir"
	"batchcompute.dev/operator/internal/staging/meter"
	"batchcompute.dev/operator/internal/staging/store"
)

// listing is a store that has only a listing.
type listing []store.Object

func (l listing) List(context.Context, string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		for _, o := range l {
			if !yield(o, nil) {
				return
			}
		}
	}
}

func (l listing) Get(context.Context, store.Range, io.Writer, []byte) (store.Info, error) {
	return store.Info{}, fault.Final(fault.NoObject, "", "no bytes", "")
}

func (l listing) Stat(context.Context, string) (store.Info, error) {
	return store.Info{}, fault.Final(fault.NoObject, "", "no bytes", "")
}

// TestConflicts finds a file that has to be a directory, however many keys are between the two.
func TestConflicts(t *testing.T) {
	for keys, want := range map[string]string{
		"a a-b a/b":         "a",
		"a a! a!/b":         "a!",
		"a aa aaa aaa/b":    "aaa",
		"d/a d/a.x d/a/b":   "d/a",
		"a a.b b/a":         "",
		"aa aab/c ab":       "",
		"a-b a/b a0":        "",
		"x x-/y x-y x.y/z ": "",
	} {
		var l listing
		for k := range strings.FieldsSeq(keys) {
			l = append(l, store.Object{Key: k})
		}
		_, err := List(t.Context(), l, "", Limits{})
		if want == "" && err != nil || want != "" && (!fault.Is(err, fault.Conflict) || fault.As(err).Key != want) {
			t.Errorf("%s: %v, want %q", keys, err, want)
		}
	}
}

// TestTooLargeForDisk compares with the disk before the first request.
func TestTooLargeForDisk(t *testing.T) {
	dir, err := localdir.Open(t.TempDir(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	p, err := List(t.Context(), listing{{Key: "a", Size: 1 << 60}}, "", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if err := dir.CheckSpace(p.Bytes - p.Present(dir)); !fault.Is(err, fault.Disk) || fault.As(err).Class != "permanent" || !strings.HasPrefix(err.Error(), "1.0 EiB are needed, and ") || fault.As(err).Advice != fault.MoreDisk {
		t.Errorf("error %v", err)
	}
	free, size, err := dir.Space()
	if err != nil || free <= 0 || size < free {
		t.Errorf("%d of %d: %v", free, size, err)
	}
	if err := dir.CheckSpace(size - 1); !fault.Is(err, fault.Disk) || fault.As(err).Class != "transient" {
		t.Errorf("as large as the disk: %v", err)
	}
}

// TestLocalConflicts are files and directories that are there before.
func TestLocalConflicts(t *testing.T) {
	name := t.TempDir()
	if err := os.MkdirAll(name+"/dir/x", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dir, err := localdir.Open(name, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for _, key := range []string{"dir", "file/x", "file/", "file/x/y"} {
		p, err := List(t.Context(), listing{{Key: key}}, "", Limits{})
		if err != nil {
			t.Fatal(err)
		}
		err = p.Run(t.Context(), Options{From: listing{}, To: dir, Meter: &meter.Meter{}})
		if e := fault.As(err); !fault.Is(err, fault.Conflict) || e.Key != key {
			t.Errorf("%s: %v", key, err)
		}
	}
}
