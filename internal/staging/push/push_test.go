// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package push

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"batchcompute.dev/operator/internal/staging/crc"
	"batchcompute.dev/operator/internal/staging/fault"
	"batchcompute.dev/operator/internal/staging/meter"
	"batchcompute.dev/operator/internal/staging/store"
)

// forgetful is a store that notes only keys, and calls during while it reads.
type forgetful struct {
	mu      sync.Mutex
	keys    []string
	open    map[string]bool
	aborted []string
	old     []store.Upload
	refuse  error // of List and Uploads
	during  func(key string)
}

func (f *forgetful) List(context.Context, string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		if f.refuse != nil {
			yield(store.Object{}, f.refuse)
		}
	}
}

func (f *forgetful) Uploads(context.Context, string) iter.Seq2[store.Upload, error] {
	return func(yield func(store.Upload, error) bool) {
		if f.refuse != nil {
			yield(store.Upload{}, f.refuse)
			return
		}
		for _, u := range f.old {
			if !yield(u, nil) {
				return
			}
		}
	}
}

func (f *forgetful) Find(context.Context, string) (store.Info, error) {
	return store.Info{}, fault.Final(fault.NoObject, "", "there is none", "")
}

func (f *forgetful) send(key string, s store.Source) uint64 {
	data, _ := io.ReadAll(io.NewSectionReader(s.File, s.Offset, s.Size))
	if f.during != nil {
		f.during(key)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return crc.Update(0, data)
}

func (f *forgetful) Put(_ context.Context, key string, s store.Source, _ store.Meta) (uint64, error) {
	sum := f.send(key, s)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys = append(f.keys, key)
	return sum, nil
}

func (f *forgetful) Begin(_ context.Context, key string, _ store.Meta) (string, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open[key] = true
	return "id", false, nil
}

func (f *forgetful) PutPart(_ context.Context, key, _ string, n int, s store.Source) (store.Part, error) {
	return store.Part{Number: n, CRC: f.send(key, s)}, nil
}

func (f *forgetful) Complete(_ context.Context, key, _ string, _ []store.Part, _ int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, key)
	f.keys = append(f.keys, key)
	return nil
}

func (f *forgetful) Abort(_ context.Context, key, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, key)
	f.aborted = append(f.aborted, key+" "+id)
	return nil
}

func (f *forgetful) AbortOthers(context.Context, string, string) error { return nil }

// write makes files with their names as contents.
func write(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestOrder walks in the order of the keys, which that of the names is not, and has the digest that
// Digest describes.
func TestOrder(t *testing.T) {
	names := []string{"a/z", "a-b", "a.c", "a/b/c", "a0", "b", "é", "A"}
	f, d := &forgetful{open: map[string]bool{}}, NewDigest()
	if err := Dir(t.Context(), write(t, names...), "p/", Options{To: f, Workers: 1, PartBytes: 100, Meter: &meter.Meter{}, Digest: d}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	var want []string
	var lines strings.Builder
	for _, n := range names {
		want = append(want, "p/"+n)
		fmt.Fprintf(&lines, "%016x %d p/%s\x00", crc.Update(0, []byte(n)), len(n), n)
	}
	if !slices.Equal(f.keys, want) {
		t.Errorf("%q, want %q", f.keys, want)
	}
	sum := sha256.Sum256([]byte(lines.String()))
	if got := d.String(); got != hex.EncodeToString(sum[:]) {
		t.Errorf("digest %s", got)
	}
}

// TestDigestOrder adds lines in another order than they are expected in.
func TestDigestOrder(t *testing.T) {
	a, b := NewDigest(), NewDigest()
	a1, a2 := a.Expect("1"), a.Expect("2")
	b1, b2 := b.Expect("1"), b.Expect("2")
	a1(5, 6)
	a2(7, 8)
	b2(7, 8)
	if b.String() != "" {
		t.Error("a digest without the first line")
	}
	b1(5, 6)
	if a.String() != b.String() || len(a.String()) != 64 {
		t.Errorf("%s and %s", a, b)
	}
	b.Break()
	if b.String() != "" {
		t.Error("a digest of something that is not stored")
	}
}

// TestChangedFile are files that change while they are sent: no object is taken for a whole one.
func TestChangedFile(t *testing.T) {
	for name, change := range map[string]func(file string) error{
		"grows":     func(file string) error { return os.WriteFile(file, []byte("longer than it was"), 0o600) },
		"rewritten": func(file string) error { return os.Chtimes(file, time.Unix(1, 0), time.Unix(1, 0)) },
	} {
		for _, partBytes := range []int64{100, 2} {
			dir := write(t, "file", "other")
			f := &forgetful{open: map[string]bool{}, during: func(key string) {
				if key == "file" {
					if err := change(filepath.Join(dir, "file")); err != nil {
						t.Error(err)
					}
				}
			}}
			err := Dir(t.Context(), dir, "", Options{To: f, Workers: 2, PartBytes: partBytes, Meter: &meter.Meter{}})
			if !fault.Is(err, fault.Changed) || len(f.open) > 0 || !slices.Contains(f.keys, "other") {
				t.Errorf("%s, parts of %d: %v, %v, open: %v", name, partBytes, err, f.keys, f.open)
			}
			if partBytes == 2 && slices.Contains(f.keys, "file") {
				t.Errorf("%s: the object was made", name)
			}
		}
	}
}

// TestOldUploads aborts those of its own keys, and no others: another instance may be active.
func TestOldUploads(t *testing.T) {
	f := &forgetful{open: map[string]bool{}, old: []store.Upload{{Key: "p/a", ID: "1"}, {Key: "p/a", ID: "2"}, {Key: "p/b", ID: "3"}}}
	if err := Dir(t.Context(), write(t, "a"), "p/", Options{To: f, Workers: 2, PartBytes: 100, Meter: &meter.Meter{}}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(f.aborted); got != "[p/a 1 p/a 2]" {
		t.Errorf("aborted: %s", got)
	}
}

// TestWriteOnly is a key that may not list.
func TestWriteOnly(t *testing.T) {
	f := &forgetful{open: map[string]bool{}, refuse: fault.Final(fault.Denied, "", "denied", "")}
	if err := Dir(t.Context(), write(t, "a"), "p/", Options{To: f, Workers: 2, PartBytes: 100, Meter: &meter.Meter{}}); err != nil || len(f.keys) != 1 {
		t.Errorf("%v: %v", f.keys, err)
	}
}

func TestPartBytes(t *testing.T) {
	p := &pusher{Options: Options{PartBytes: 16 << 20}}
	for size, want := range map[int64]int64{1: 16 << 20, 160 << 30: 17 << 20, 5 << 40: 525 << 20} {
		got := p.partBytes(size)
		if got != want || (size+got-1)/got > maxParts {
			t.Errorf("%d bytes: parts of %d, want %d", size, got, want)
		}
	}
}
