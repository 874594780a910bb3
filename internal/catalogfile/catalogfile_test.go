// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package catalogfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/manager"

	"batchcompute.dev/operator/internal/catalog"
)

var _ interface {
	manager.Runnable
	manager.LeaderElectionRunnable
} = &File{}

// naming is a catalogue with one image; broken is one in error on line 3.
func naming(image string) string {
	return "apiVersion: " + catalog.APIVersion + "\nkind: Catalog\nimages: {img-1: " + image + "}\n"
}

var broken = naming("''")

// volume is a directory as the kubelet makes it for a ConfigMap: catalog.yaml points
// through ..data into a directory for each version.
type volume struct {
	dir     string
	version int
}

func newVolume(t *testing.T, content string) *volume {
	t.Helper()
	v := &volume{dir: t.TempDir()}
	v.write(t, content)
	if err := os.Symlink(filepath.Join("..data", "catalog.yaml"), v.path()); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v *volume) path() string { return filepath.Join(v.dir, "catalog.yaml") }

// write swaps the version, as the kubelet does, and removes the one before.
func (v *volume) write(t *testing.T, content string) {
	t.Helper()
	v.version++
	name := fmt.Sprintf("..%d", v.version)
	for _, err := range []error{
		os.Mkdir(filepath.Join(v.dir, name), 0o700),
		os.WriteFile(filepath.Join(v.dir, name, "catalog.yaml"), []byte(content), 0o600),
		os.Symlink(name, filepath.Join(v.dir, "..data_tmp")),
		os.Rename(filepath.Join(v.dir, "..data_tmp"), filepath.Join(v.dir, "..data")),
		os.RemoveAll(filepath.Join(v.dir, fmt.Sprintf("..%d", v.version-1))),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// follow starts to follow a file, and returns what it is told.
func follow(t *testing.T, path string, set func(*File)) (*File, <-chan error) {
	t.Helper()
	f, err := New(path)
	if err != nil {
		t.Fatal(err)
	}
	f.debounce, f.recheck = 50*time.Millisecond, time.Hour
	if set != nil {
		set(f)
	}
	told := make(chan error, 100)
	f.OnReload(func(_ context.Context, err error) { told <- err })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Start ended with %v", err)
		}
	})
	return f, told
}

// next waits for what is told next.
func next(t *testing.T, told <-chan error) error {
	t.Helper()
	select {
	case err := <-told:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("nothing is told")
		return nil
	}
}

func image(f *File) string {
	ref, _ := f.Current().Image("img-1")
	return ref
}

func TestNew(t *testing.T) {
	f, err := New("")
	if err != nil || f.Current().DefaultImage != catalog.DefaultImage {
		t.Errorf("%+v, error %v", f, err)
	}
	if err := f.Start(t.Context()); err != nil {
		t.Error(err)
	}
	if f.NeedLeaderElection() {
		t.Error("only the leader follows the file")
	}
	if _, err := New(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	v := newVolume(t, broken)
	if _, err := New(v.path()); err == nil || !strings.Contains(err.Error(), v.path()) || !strings.Contains(err.Error(), "line 3: images.img-1: ") {
		t.Errorf("the error %v does not name file and line", err)
	}
	v.write(t, naming("a")+strings.Repeat("#", catalog.MaxSize))
	if _, err := New(v.path()); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("error %v", err)
	}
}

// The life of a catalogue: it changes, it breaks twice, it is good again.
func TestFollow(t *testing.T) {
	v := newVolume(t, naming("one"))
	f, told := follow(t, v.path(), nil)
	for _, step := range []struct{ content, wantImage, wantError string }{
		{naming("two"), "two", ""},
		{broken, "two", "line 3: images.img-1: "},
		{broken + "kind: a\n", "two", "line 4: kind: given twice"},
		{naming("two"), "two", ""},
		{naming("three"), "three", ""},
	} {
		v.write(t, step.content)
		err := next(t, told)
		switch {
		case step.wantError == "" && err != nil:
			t.Errorf("error %v", err)
		case step.wantError != "" && (err == nil || !strings.Contains(err.Error(), step.wantError)):
			t.Errorf("error %v, want %q", err, step.wantError)
		}
		if got := image(f); got != step.wantImage {
			t.Errorf("image %q, want %q", got, step.wantImage)
		}
	}
	if len(told) > 0 {
		t.Errorf("told once more: %v", <-told)
	}
}

// Only what is another content is told: a kubelet that writes the same again is not.
func TestSameContent(t *testing.T) {
	v := newVolume(t, naming("one"))
	f, told := follow(t, v.path(), nil)
	for range 5 {
		v.write(t, naming("one"))
	}
	v.write(t, naming("two"))
	if err := next(t, told); err != nil || image(f) != "two" {
		t.Errorf("image %q, error %v", image(f), err)
	}
	for range 5 {
		v.write(t, broken)
	}
	if err := next(t, told); err == nil {
		t.Error("no error")
	}
	v.write(t, naming("three"))
	if err := next(t, told); err != nil || image(f) != "three" {
		t.Errorf("image %q, error %v", image(f), err)
	}
}

// until waits until told says that a catalogue with the image is in use, whatever it says before.
func until(t *testing.T, f *File, told <-chan error, want string) {
	t.Helper()
	for next(t, told) != nil || image(f) != want {
		continue
	}
}

// A plain file is followed too: written in place, and replaced as editors do.
func TestPlainFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.yaml")
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(path, naming("one"))
	f, told := follow(t, path, nil)
	write(path, naming("two"))
	until(t, f, told, "two") // it may be read while it is written
	write(path+"~", naming("three"))
	if err := os.Rename(path+"~", path); err != nil {
		t.Fatal(err)
	}
	if err := next(t, told); err != nil || image(f) != "three" {
		t.Errorf("replaced: image %q, error %v", image(f), err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := next(t, told); !errors.Is(err, fs.ErrNotExist) || image(f) != "three" {
		t.Errorf("removed: image %q, error %v", image(f), err)
	}
}

// A watch that is lost with its directory is established again, and what changed meanwhile is read.
func TestWatchIsLost(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "catalog")
	path := filepath.Join(dir, "catalog.yaml")
	write := func(content string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write(naming("one"))
	f, told := follow(t, path, func(f *File) { f.recheck = 100 * time.Millisecond })
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := next(t, told); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	write(naming("two"))
	until(t, f, told, "two") // its directory may be there before it
	write(naming("three"))
	until(t, f, told, "three")
}

// What changes between New and Start, and what no watch shows, is read as well.
func TestWithoutWatch(t *testing.T) {
	v := newVolume(t, naming("one"))
	f, told := follow(t, v.path(), func(f *File) {
		v.write(t, naming("two"))
		f.debounce, f.recheck = time.Hour, 50*time.Millisecond
	})
	if err := next(t, told); err != nil || image(f) != "two" {
		t.Errorf("before Start: image %q, error %v", image(f), err)
	}
	v.write(t, naming("three"))
	if err := next(t, told); err != nil || image(f) != "three" {
		t.Errorf("every now and then: image %q, error %v", image(f), err)
	}
}
