// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"bufio"
	"bytes"
	"io"
	"strings"

	"batchcompute.dev/operator/internal/staging/fault"
)

// headBytes is how much of a file is looked at to tell its kind: a header of tar.
const headBytes = 512

// What to do about a file that is no archive, by what it is.
const (
	repackAdvice   = "pack it with: tar -czf"
	compressAdvice = "compress it with: gzip"
	uploadAdvice   = "store it again, or correct the path"
	loginAdvice    = "correct the address; a server may answer so where a login is needed"
	resendAdvice   = "store the whole file again, or pack it again with: tar -czf"
)

// kinds are what users take for a package, by how it begins.
var kinds = []struct {
	begins, is, advice string
}{
	{"PK\x03\x04", "a zip archive", repackAdvice},
	{"PK\x05\x06", "a zip archive", repackAdvice},
	{"BZh", "compressed with bzip2", repackAdvice},
	{"\xfd7zXZ\x00", "compressed with xz", repackAdvice},
	{"\x28\xb5\x2f\xfd", "compressed with zstd", repackAdvice},
	{"7z\xbc\xaf\x27\x1c", "a 7z archive", repackAdvice},
	{"Rar!", "a RAR archive", repackAdvice},
	{"\x1f\x8b", "compressed with gzip", "do not compress it twice"},
	{"\x7fELF", "a program", repackAdvice},
	{"#!", "a script", repackAdvice},
	{"version https://git-lfs.", "a pointer of Git LFS", "store the file itself"},
}

// looks says what a file is that begins with head, and what to do; "" where that is not known.
func looks(head []byte) (is, advice string) {
	if len(head) == 0 {
		return "empty", uploadAdvice
	}
	for _, k := range kinds {
		if bytes.HasPrefix(head, []byte(k.begins)) {
			return k.is, k.advice
		}
	}
	if len(head) >= 262 && string(head[257:262]) == "ustar" {
		return "a tar archive that is not compressed", compressAdvice
	}
	text := strings.ToLower(strings.TrimLeft(strings.TrimPrefix(string(head), "\ufeff"), " \t\r\n"))
	for _, begins := range [...]string{"<!doctype html", "<html", "<head", "<!--"} {
		if strings.HasPrefix(text, begins) {
			return "an HTML page", loginAdvice
		}
	}
	if strings.HasPrefix(text, "<?xml") {
		return "an XML document", loginAdvice
	}
	return "", ""
}

// checkGzip returns an error if a file is not compressed with gzip. It reads nothing away.
func (i *input) checkGzip(r *bufio.Reader) error {
	head, err := r.Peek(headBytes) // an error of a short file is none
	if err != nil && i.err != nil {
		return i.err
	}
	if bytes.HasPrefix(head, []byte("\x1f\x8b")) || len(head) == 1 && head[0] == '\x1f' {
		return nil
	}
	is, advice := looks(head)
	switch is {
	case "":
		return fault.Final(fault.Archive, "", "the file is not compressed with gzip", repackAdvice)
	case "empty":
		return fault.Final(fault.Archive, "", "the file is empty", advice)
	}
	return fault.Final(fault.Archive, "", "the file is not compressed with gzip: it is "+is, advice)
}

// contents is what gzip unpacks. It notes how that begins, and whether it ended in order.
type contents struct {
	r     io.Reader
	head  []byte
	ended bool
}

// Read reads.
func (c *contents) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.head = append(c.head, p[:min(n, headBytes-len(c.head))]...)
	c.ended = err == io.EOF
	return n, err
}

// notTar explains that the contents are no tar archive.
func (c *contents) notTar() *fault.Error {
	is, advice := looks(c.head)
	switch is {
	case "":
		return fault.Final(fault.Archive, "", "the contents of the compressed file are not a tar archive", repackAdvice)
	case "empty":
		return fault.Final(fault.Archive, "", "the compressed file has no contents", uploadAdvice)
	}
	if advice == loginAdvice || advice == compressAdvice {
		advice = repackAdvice
	}
	return fault.Final(fault.Archive, "", "the contents of the compressed file are not a tar archive: it is "+is, advice)
}
