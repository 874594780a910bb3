// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package archive unpacks a tar archive that is compressed with gzip, while it arrives. Nothing outside of
// the directory is touched: names and links that lead outside are refused, and so are devices. What is
// unpacked is bounded.
package archive

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"batchcompute.dev/operator/internal/staging/fault"
	"batchcompute.dev/operator/internal/staging/localdir"
	"batchcompute.dev/operator/internal/staging/meter"
)

// Limits bound what is unpacked; 0 means the default.
type Limits struct {
	// Bytes is of all files together, unpacked. Default: 64 GiB.
	Bytes int64
	// Field is the field that sets Bytes; empty means that none does.
	Field string
	// Files is of all entries. Default: 1,000,000.
	Files int
	// Depth is of directories. Default: 100.
	Depth int
}

// bufferBytes is the size of the buffer that files are copied with.
const bufferBytes = 128 << 10

// spaceBytes is the size of files from which on the disk is asked before they are written.
const spaceBytes = 1 << 20

// Unpack unpacks an archive into a directory, replacing files that are there. Its errors have the entry as
// key. After an error Unpack can be called again.
func Unpack(ctx context.Context, r io.Reader, dir *localdir.Dir, limits Limits, m *meter.Meter) error {
	u := &unpacker{ctx: ctx, dir: dir, limits: limits, meter: m, buf: make([]byte, bufferBytes)}
	u.limits.fill()
	in := &input{r: r}
	file := bufio.NewReader(in)
	if err := in.checkGzip(file); err != nil {
		return err
	}
	zip, err := gzip.NewReader(file)
	if err != nil {
		return in.explain("", err)
	}
	in.contents.r = zip
	t := tar.NewReader(&in.contents)
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return in.explain("", err)
		}
		in.isTar = true
		if err := u.entry(h, t, in); err != nil {
			return err
		}
	}
	if len(in.contents.head) == 0 {
		return in.contents.notTar()
	}
	if err := u.rest(&in.contents, in); err != nil {
		return err
	}
	return u.finish()
}

func (l *Limits) fill() {
	if l.Bytes == 0 {
		l.Bytes = 64 << 30
	}
	if l.Files == 0 {
		l.Files = 1_000_000
	}
	if l.Depth == 0 {
		l.Depth = 100
	}
}

// input is the compressed stream. It notes its own error: gzip and tar return others for it.
type input struct {
	r   io.Reader
	err error
	// contents is what is unpacked, and isTar says that it has an entry.
	contents contents
	isTar    bool
}

// Read reads.
func (i *input) Read(p []byte) (int, error) {
	n, err := i.r.Read(p)
	if err != nil && err != io.EOF {
		i.err = err
	}
	return n, err
}

// explain returns the error of the source, if it has one, or that of the archive.
func (i *input) explain(entry string, err error) error {
	if i.err != nil {
		return i.err
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	damaged := func(how, advice string) error {
		return fault.Final(fault.Archive, entry, how, advice).Because(err)
	}
	isEnd := errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
	switch {
	case !i.isTar && (isEnd && i.contents.ended || errors.Is(err, tar.ErrHeader)):
		return i.contents.notTar().Because(err)
	case isEnd && i.contents.ended:
		return damaged("the tar archive is truncated, and the compressed file is not: it was incomplete when it was compressed", repackAdvice)
	case isEnd:
		return damaged("the file is truncated: its compressed data end in the middle", resendAdvice)
	case errors.Is(err, gzip.ErrHeader):
		return damaged("the file is damaged: a header of gzip is wrong", resendAdvice)
	case errors.Is(err, gzip.ErrChecksum):
		return damaged("the file is damaged: its checksum is wrong", resendAdvice)
	case errors.Is(err, tar.ErrHeader):
		return damaged("the tar archive is damaged: the header of an entry is wrong", resendAdvice)
	}
	return damaged("the file is damaged: its compressed data are wrong", resendAdvice)
}

// unpacker is the state of one archive.
type unpacker struct {
	ctx    context.Context //nolint:containedctx // of one call
	dir    *localdir.Dir
	limits Limits
	meter  *meter.Meter
	buf    []byte

	bytes int64
	files int
	links []string
	// modes are those of directories without write permission, which get them at the end.
	modes []dirMode
}

type dirMode struct {
	name string
	mode fs.FileMode
}

// refuse returns an error of an entry.
func refuse(name, reason string) error {
	return fault.Final(fault.Archive, name, reason, "remove it from the archive")
}

// entry unpacks one entry.
func (u *unpacker) entry(h *tar.Header, t io.Reader, in *input) error {
	if err := u.ctx.Err(); err != nil {
		return fault.OfFile(h.Name, err)
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := u.check(h)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.directory(name, h)
	case tar.TypeReg, tar.TypeGNUSparse:
		return u.file(name, h, t, in)
	case tar.TypeSymlink:
		return u.symlink(name, h)
	case tar.TypeLink:
		return u.link(name, h)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return refuse(h.Name, "it is a device or a FIFO, which a package cannot have")
	}
	return refuse(h.Name, fmt.Sprintf("it is of a kind that is not known (%q)", h.Typeflag))
}

// check checks name and limits, and returns the name in its shortest form.
func (u *unpacker) check(h *tar.Header) (string, error) {
	u.files++
	if u.files > u.limits.Files {
		return "", fault.Final(fault.Limit, h.Name, fmt.Sprintf("the archive has more than %d entries", u.limits.Files), "pack fewer files")
	}
	name := h.Name
	for strings.HasPrefix(name, "./") {
		name = strings.TrimLeft(name[1:], "/")
	}
	if len(name) > 1 {
		name = strings.TrimSuffix(name, "/")
	}
	if (name == "" || name == ".") && h.Typeflag == tar.TypeDir && !strings.HasPrefix(h.Name, "/") {
		return ".", nil
	}
	if err := localdir.CheckName(name, h.Name); err != nil {
		return "", err
	}
	if depth := strings.Count(name, "/"); depth > u.limits.Depth {
		return "", fault.Final(fault.Limit, h.Name, fmt.Sprintf("it is below more than %d directories", u.limits.Depth), "pack a flatter tree")
	}
	return name, nil
}

// directory makes a directory that the owner can write to until the end.
func (u *unpacker) directory(name string, h *tar.Header) error {
	if err := u.dir.Mkdir(name); err != nil {
		return err
	}
	if mode := h.FileInfo().Mode().Perm(); mode != 0o755 && name != "." {
		u.modes = append(u.modes, dirMode{name, mode})
	}
	return nil
}

// file unpacks a file.
func (u *unpacker) file(name string, h *tar.Header, t io.Reader, in *input) error {
	if err := u.count(h.Name, h.Size); err != nil {
		return err
	}
	if h.Size > spaceBytes {
		if err := u.dir.CheckSpace(h.Size); err != nil {
			return err
		}
	}
	if info := u.dir.Lstat(name); info != nil && info.IsDir() {
		return refuse(h.Name, "there is a directory of this name")
	}
	f, err := u.dir.Create(name)
	if err != nil {
		return err
	}
	to := &counted{w: io.NewOffsetWriter(f, 0), m: u.meter, ctx: u.ctx}
	if _, err := io.CopyBuffer(to, struct{ io.Reader }{t}, u.buf); err != nil {
		f.Discard()
		return in.explain(h.Name, err)
	}
	if err := f.Commit(h.FileInfo().Mode().Perm(), h.ModTime); err != nil {
		return err
	}
	u.meter.Done(true)
	return nil
}

// count adds bytes.
func (u *unpacker) count(name string, n int64) error {
	if u.bytes += n; u.bytes > u.limits.Bytes {
		return fault.TooLarge(name, "the archive has, unpacked,", u.limits.Bytes, u.limits.Field)
	}
	return nil
}

// counted is a writer that counts, and stops with the context.
type counted struct {
	w   io.Writer
	m   *meter.Meter
	ctx context.Context //nolint:containedctx // of one call
}

// Write writes.
func (c *counted) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, fault.OfFile("", err)
	}
	n, err := c.w.Write(p)
	c.m.Add(int64(n))
	return n, err
}

// symlink makes a symbolic link that leads to a place below the directory.
func (u *unpacker) symlink(name string, h *tar.Header) error {
	if path.IsAbs(h.Linkname) || outside(path.Join(path.Dir(name), h.Linkname)) { //nolint:gosec // G305: this is the check
		return refuse(h.Name, "it is a link that leads outside, to "+fault.Quote(h.Linkname))
	}
	if err := u.dir.Symlink(h.Linkname, name); err != nil {
		return err
	}
	u.links = append(u.links, name)
	return nil
}

// link makes a hard link to a file that was unpacked before.
func (u *unpacker) link(name string, h *tar.Header) error {
	target := path.Clean(h.Linkname)
	if path.IsAbs(target) || outside(target) {
		return refuse(h.Name, "it is a hard link that leads outside, to "+fault.Quote(h.Linkname))
	}
	if info := u.dir.Lstat(target); info == nil || !info.Mode().IsRegular() {
		return refuse(h.Name, "it is a hard link to something that is no file of the archive: "+fault.Quote(h.Linkname))
	}
	if target == name {
		return nil
	}
	return u.dir.Link(target, name)
}

// outside tells whether a clean relative path leads out.
func outside(name string) bool { return name == ".." || strings.HasPrefix(name, "../") }

// rest reads what follows the end of the archive, which can only be zeros, and so checks gzip's checksum.
func (u *unpacker) rest(r io.Reader, in *input) error {
	for {
		n, err := r.Read(u.buf)
		for _, b := range u.buf[:n] {
			if b != 0 {
				return refuse("", "there is another archive, or something else, behind the end of the archive")
			}
		}
		if err := u.count("", int64(n)); err != nil {
			return err
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return in.explain("", err)
		}
		if err := u.ctx.Err(); err != nil {
			return fault.OfFile("", err)
		}
	}
}

// finish checks the links where they really lead, sets the modes of directories, and removes what is
// unfinished.
func (u *unpacker) finish() error {
	for _, name := range u.links {
		if err := u.dir.CheckLink(name); err != nil {
			return errors.Join(refuse(name, "it is a link that leads outside, or in a circle"), u.dir.Remove(name))
		}
	}
	for i := len(u.modes) - 1; i >= 0; i-- {
		// The owner keeps what a later run needs to replace files.
		if err := u.dir.Chmod(u.modes[i].name, u.modes[i].mode|0o700); err != nil {
			return err
		}
	}
	return u.dir.Finish()
}
