// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/staging/fault"
	"batchcompute.dev/operator/internal/staging/localdir"
	"batchcompute.dev/operator/internal/staging/meter"
)

// entry is an entry of an archive.
type entry struct {
	h    tar.Header
	data string
}

func file(name, data string) entry { return entry{tar.Header{Name: name, Mode: 0o644}, data} }

func link(name, target string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}, ""}
}

func hard(name, target string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target}, ""}
}

func dir(name string, mode int64) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: mode}, ""}
}

// packTar makes a tar archive.
func packTar(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		e.h.Size = int64(len(e.data))
		if err := w.WriteHeader(&e.h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// compress compresses with gzip.
func compress(t testing.TB, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func pack(t testing.TB, entries ...entry) []byte { return compress(t, packTar(t, entries...)) }

// unpack unpacks into a directory next to which nothing may change.
func unpack(t testing.TB, data []byte, l Limits) (string, error) {
	t.Helper()
	top := t.TempDir()
	to := filepath.Join(top, "to")
	if err := os.Mkdir(to, 0o755); err != nil {
		t.Fatal(err)
	}
	d, err := localdir.Open(to, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	err = Unpack(t.Context(), bytes.NewReader(data), d, l, &meter.Meter{})
	if entries, _ := os.ReadDir(top); len(entries) != 1 {
		t.Errorf("something was written outside: %v", entries)
	}
	return to, err
}

func TestUnpack(t *testing.T) {
	when := time.Unix(1600000000, 0)
	to, err := unpack(t, pack(t,
		dir("./", 0o700), dir("./locked/", 0o555), file("./locked/f", "in it"),
		entry{tar.Header{Name: "bin/run", Mode: 0o4755, ModTime: when, Uid: 7, PAXRecords: map[string]string{"SCHILY.xattr.user.x": "y"}}, "run"},
		hard("bin/same", "./bin/run"), link("current", "bin/../bin/run"), link("bin/up", "../locked"), link("dangling", "nothing"),
		file("twice", "first"), file("twice", "second"), file(strings.Repeat("long/", 60)+"name", "long"), file("é/ +%", "unicode"),
		entry{tar.Header{Name: "global", Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}}, ""},
		file("empty", ""),
	), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"locked/f": "in it", "bin/run": "run", "bin/same": "run", "current": "run", "bin/up/f": "in it", "twice": "second",
		strings.Repeat("long/", 60) + "name": "long", "é/ +%": "unicode", "empty": "",
	} {
		if got, err := os.ReadFile(filepath.Join(to, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if info, err := os.Stat(filepath.Join(to, "bin/run")); err != nil || info.Mode() != 0o755 || !info.ModTime().Equal(when) {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := os.Stat(filepath.Join(to, localdir.Unfinished)); err == nil {
		t.Error("the directory of unfinished files is left")
	}
}

func TestRefused(t *testing.T) {
	zeros := strings.Repeat("\x00", 1<<20)
	good := pack(t, file("a", strings.Repeat("text ", 1000)))
	for name, tc := range map[string]struct {
		data   []byte
		limits Limits
		want   string
	}{
		"parent":               {pack(t, file("../x", "x")), Limits{}, `"../x": the name has the part ..`},
		"parent inside":        {pack(t, file("a/../../x", "x")), Limits{}, "the part .."},
		"absolute":             {pack(t, file("/tmp/x", "x")), Limits{}, "starts with /"},
		"absolute directory":   {pack(t, dir("/", 0o755)), Limits{}, "starts with /"},
		"link outside":         {pack(t, link("l", "../x")), Limits{}, `"l": it is a link that leads outside, to "../x"`},
		"link absolute":        {pack(t, link("l", "/etc/passwd")), Limits{}, "leads outside"},
		"link by a link":       {pack(t, dir("a/b", 0o755), link("a/b/up", ".."), link("l", "a/b/up/../../x")), Limits{}, "leads outside"},
		"write through a link": {pack(t, link("l", "."), file("l/../../x", "x")), Limits{}, "the part .."},
		"circle":               {pack(t, link("a", "b"), link("b", "a")), Limits{}, "circle"},
		"hard link outside":    {pack(t, hard("h", "../x")), Limits{}, "leads outside"},
		"hard link absolute":   {pack(t, hard("h", "/etc/passwd")), Limits{}, "leads outside"},
		"hard link to nothing": {pack(t, hard("h", "x")), Limits{}, "no file of the archive"},
		"hard link to a link":  {pack(t, link("l", "x"), hard("h", "l")), Limits{}, "no file of the archive"},
		"device":               {pack(t, entry{tar.Header{Name: "d", Typeflag: tar.TypeChar}, ""}), Limits{}, "device"},
		"FIFO":                 {pack(t, entry{tar.Header{Name: "d", Typeflag: tar.TypeFifo}, ""}), Limits{}, "FIFO"},
		"bomb":                 {pack(t, file("a", zeros), file("b", zeros), file("c", zeros)), Limits{Bytes: 2 << 20}, `"c": the archive has, unpacked, more than 2.0 MiB; use less, or set a limit`},
		"bomb behind the end":  {compress(t, append(packTar(t, file("a", "x")), zeros...)), Limits{Bytes: 1 << 19}, "more than 512.0 KiB"},
		"many files":           {pack(t, file("a", ""), file("b", ""), file("c", "")), Limits{Files: 2}, `"c": the archive has more than 2 entries`},
		"deep":                 {pack(t, file("a/b/c/d", "")), Limits{Depth: 2}, "below more than 2 directories"},
		"long name":            {pack(t, file(strings.Repeat("x", 256), "")), Limits{}, "longer than 255"},
		"file and directory":   {pack(t, file("a", ""), file("a/b", "")), Limits{}, "a file where a directory has to be"},
		"directory and file":   {pack(t, file("a/b", ""), file("a", "")), Limits{}, "a directory of this name"},
		"truncated":            {good[:len(good)-12], Limits{}, "the file is truncated: its compressed data end in the middle; store the whole file again"},
		"truncated header":     {good[:5], Limits{}, "the file is truncated"},
		"one byte":             {good[:1], Limits{}, "the file is truncated"},
		"truncated checksum":   {good[:len(good)-3], Limits{}, "the file is truncated"},
		"truncated tar":        {compress(t, packTar(t, file("a", "text"))[:514]), Limits{}, `"a": the tar archive is truncated, and the compressed file is not`},
		"damaged":              {append(append([]byte{}, good[:len(good)-8]...), "12345678"...), Limits{}, "checksum is wrong"},
		"damaged in it":        {append(append([]byte{}, good[:20]...), bytes.Repeat([]byte{0xff}, 400)...), Limits{}, "the file is damaged: its compressed data are wrong"},
		"damaged header":       {append([]byte("\x1f\x8b\x07"), good[3:]...), Limits{}, "the file is damaged: a header of gzip is wrong"},
		"damaged tar":          {compress(t, append(packTar(t, file("a", "x"))[:1024], strings.Repeat("x", 1024)...)), Limits{}, "the tar archive is damaged"},
		"zip":                  {[]byte("PK\x03\x04 something else"), Limits{}, "the file is not compressed with gzip: it is a zip archive; pack it with: tar -czf"},
		"plain tar":            {packTar(t, file("a", "x")), Limits{}, "the file is not compressed with gzip: it is a tar archive that is not compressed; compress it with: gzip"},
		"page":                 {[]byte("\n <!DOCTYPE html><title>planted</title>"), Limits{}, "the file is not compressed with gzip: it is an HTML page; correct the address"},
		"error of a store":     {[]byte("<?xml version=\"1.0\"?><Error/>"), Limits{}, "the file is not compressed with gzip: it is an XML document"},
		"xz":                   {[]byte("\xfd7zXZ\x00..."), Limits{}, "compressed with xz"},
		"pointer":              {[]byte("version https://git-lfs.github.com/spec/v1\n"), Limits{}, "a pointer of Git LFS"},
		"other":                {[]byte("planted"), Limits{}, "the file is not compressed with gzip; pack it"},
		"empty":                {nil, Limits{}, "the file is empty; store it again, or correct the path"},
		"twice compressed":     {compress(t, good), Limits{}, "the contents of the compressed file are not a tar archive: it is compressed with gzip; do not compress it twice"},
		"compressed zip":       {compress(t, []byte("PK\x03\x04"+strings.Repeat("x", 1000))), Limits{}, "not a tar archive: it is a zip archive; pack it with: tar -czf"},
		"compressed text":      {compress(t, []byte("a program")), Limits{}, "the contents of the compressed file are not a tar archive; pack it with: tar -czf"},
		"compressed nothing":   {compress(t, nil), Limits{}, "the compressed file has no contents"},
		"no tar":               {compress(t, []byte(strings.Repeat("no tar ", 200))), Limits{}, "not a tar archive"},
		"two archives":         {append(pack(t, file("a", "")), pack(t, file("b", ""))...), Limits{}, "another archive"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := unpack(t, tc.data, tc.limits)
			if err == nil || !strings.Contains(err.Error(), tc.want) || fault.As(err).Class != agentapi.Permanent {
				t.Errorf("error %v, want %s", err, tc.want)
			}
			t.Log(err)
		})
	}
}

// TestConcatenatedGzip is one archive in several members of gzip, as parallel compressors make it.
func TestConcatenatedGzip(t *testing.T) {
	whole := packTar(t, file("a", strings.Repeat("text", 1000)), file("b", "b"))
	var data []byte
	for _, cut := range [][]byte{whole[:700], whole[700:701], whole[701:]} {
		data = append(data, compress(t, cut)...)
	}
	to, err := unpack(t, data, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(filepath.Join(to, "b")); string(got) != "b" {
		t.Errorf("%q", got)
	}
}

// TestLinksFromBefore are links that were there before: they are not followed.
func TestLinksFromBefore(t *testing.T) {
	top := t.TempDir()
	to := filepath.Join(top, "to")
	if err := os.Mkdir(to, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..", filepath.Join(to, "up")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../victim", filepath.Join(to, "f")); err != nil {
		t.Fatal(err)
	}
	d, err := localdir.Open(to, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := Unpack(t.Context(), bytes.NewReader(pack(t, file("f", "mine"))), d, Limits{}, &meter.Meter{}); err != nil {
		t.Error(err)
	}
	if err := Unpack(t.Context(), bytes.NewReader(pack(t, file("up/victim", "x"))), d, Limits{}, &meter.Meter{}); err == nil {
		t.Error("a link was followed outside")
	}
	if _, err := os.Stat(filepath.Join(top, "victim")); err == nil {
		t.Error("something was written outside")
	}
	if got, _ := os.ReadFile(filepath.Join(to, "f")); string(got) != "mine" {
		t.Errorf("%q", got)
	}
}

// TestSourceError keeps the error of the transfer.
func TestSourceError(t *testing.T) {
	data := pack(t, file("a", strings.Repeat("text", 10000)))
	want := fault.Temporary(fault.Network, "k", "the network", "")
	d, err := localdir.Open(t.TempDir(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for n := range len(data) {
		in := Stream(t.Context(), func(_ context.Context, w io.Writer) error {
			if _, err := w.Write(data[:n]); err != nil {
				return err
			}
			return want
		})
		if err := Unpack(t.Context(), in, d, Limits{}, &meter.Meter{}); !errors.Is(err, want) {
			t.Fatalf("after %d bytes: %v", n, err)
		}
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(pack(f, file("a", "x"), link("l", "a"), dir("d/", 0o755), hard("h", "a")))
	f.Add(pack(f, file("../a", "x")))
	f.Fuzz(func(t *testing.T, data []byte) {
		to, err := unpack(t, data, Limits{Bytes: 1 << 20, Files: 100})
		if err != nil && fault.As(err).Reason == "" {
			t.Errorf("error %v", err)
		}
		if err == nil {
			if _, err := os.Stat(filepath.Join(to, localdir.Unfinished)); err == nil {
				t.Error("the directory of unfinished files is left")
			}
		}
	})
}
