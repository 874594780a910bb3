// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package staging

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/minio/minio-go/v7/pkg/signer"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/staging/store"
	"batchcompute.dev/operator/internal/testutil/s3test"
)

// raw transfers files with parallel requests of net/http and as little work as the protocol allows: each is
// signed (SigV4; over HTTP with the SHA-256 of the body, over HTTPS with UNSIGNED-PAYLOAD), and large files are
// cut into the same parts. It lists nothing, computes no checksum of its own, looks at no answer but its status
// and the ETags of parts, and writes files where they are.
type raw struct {
	Store  agentapi.Store
	Prefix string
	Dir    string
	// Files is the number of files below Prefix and Dir, all of Size bytes: see fileName.
	Files int
	Size  int64
	// Put uploads; else it downloads.
	Put       bool
	PartBytes int64
	Workers   int

	transport *http.Transport
}

// fileName is the name of a file: the key in a Synthetic, without its prefix.
func fileName(i int) string { return s3test.Key(i)[len("p/"):] }

// rawPart is one request.
type rawPart struct {
	file         string
	offset, size int64
	upload       *rawUpload // nil if the file is sent at once
	number       int
}

// rawUpload is an upload in parts.
type rawUpload struct {
	id    string
	left  sync.WaitGroup
	etags []string
}

// must ends the process: the raw client repeats nothing.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// run transfers all files.
func (r *raw) run() {
	var err error
	r.transport, err = store.Transport(store.TransportOptions{Connections: r.Workers, CA: r.Store.CA})
	must(err)
	parts := make(chan rawPart)
	var workers, uploads sync.WaitGroup
	for range r.Workers {
		workers.Go(func() {
			buf := make([]byte, 128<<10)
			for p := range parts {
				r.part(p, buf)
			}
		})
	}
	for i := range r.Files {
		file := fileName(i)
		n := int(max(1, (r.Size+r.PartBytes-1)/r.PartBytes))
		var u *rawUpload
		if r.Put && n > 1 {
			u = &rawUpload{etags: make([]string, n), id: r.begin(file)}
			u.left.Add(n)
			uploads.Go(func() { u.left.Wait(); r.complete(file, u) })
		}
		for i := range n {
			offset := int64(i) * r.PartBytes
			parts <- rawPart{file, offset, min(r.PartBytes, r.Size-offset), u, i}
		}
	}
	close(parts)
	workers.Wait()
	uploads.Wait()
}

// do sends a signed request.
func (r *raw) do(method, file, query string, body io.Reader, size int64, sum string, header http.Header) *http.Response {
	target := r.Store.Endpoint + "/" + r.Store.Bucket + "/" + (&url.URL{Path: r.Prefix + file}).EscapedPath()
	if query != "" {
		target += "?" + query
	}
	request, err := http.NewRequest(method, target, body)
	must(err)
	if header != nil {
		request.Header = header
	}
	request.ContentLength = size
	request.Header.Set("X-Amz-Content-Sha256", sum)
	request = signer.SignV4(*request, s3test.AccessKey, s3test.SecretKey, "", r.Store.Region)
	answer, err := r.transport.RoundTrip(request)
	must(err)
	if answer.StatusCode >= 300 {
		text, _ := io.ReadAll(answer.Body) // it is for the message only
		must(fmt.Errorf("%s %s: %s: %s", method, target, answer.Status, text))
	}
	return answer
}

// part sends one request, and reads the answer.
func (r *raw) part(p rawPart, buf []byte) {
	name := filepath.Join(r.Dir, p.file)
	if !r.Put {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o644)
		must(err)
		header := http.Header{}
		if p.size < r.Size {
			header.Set("Range", fmt.Sprintf("bytes=%d-%d", p.offset, p.offset+p.size-1))
		}
		answer := r.do(http.MethodGet, p.file, "", nil, 0, unsigned, header)
		n, err := io.CopyBuffer(struct{ io.Writer }{io.NewOffsetWriter(f, p.offset)}, struct{ io.Reader }{answer.Body}, buf)
		must(err)
		if n != p.size {
			must(io.ErrUnexpectedEOF)
		}
		must(answer.Body.Close())
		must(f.Close())
		return
	}
	f, err := os.Open(name)
	must(err)
	defer f.Close()
	sum, query := unsigned, ""
	if strings.HasPrefix(r.Store.Endpoint, "http://") {
		hash := sha256.New()
		_, err := io.CopyBuffer(hash, struct{ io.Reader }{io.NewSectionReader(f, p.offset, p.size)}, buf)
		must(err)
		sum = hex.EncodeToString(hash.Sum(nil))
	}
	if p.upload != nil {
		query = fmt.Sprintf("partNumber=%d&uploadId=%s", p.number+1, url.QueryEscape(p.upload.id))
	}
	answer := r.do(http.MethodPut, p.file, query, struct{ io.Reader }{io.NewSectionReader(f, p.offset, p.size)}, p.size, sum, nil)
	must(answer.Body.Close())
	if p.upload != nil {
		p.upload.etags[p.number] = answer.Header.Get("ETag")
		p.upload.left.Done()
	}
}

// unsigned says that a body is not part of the signature.
const unsigned = "UNSIGNED-PAYLOAD"

// begin starts an upload in parts.
func (r *raw) begin(file string) string {
	answer := r.do(http.MethodPost, file, "uploads=", nil, 0, emptySum, nil)
	defer answer.Body.Close()
	var started struct {
		UploadID string `xml:"UploadId"`
	}
	must(xml.NewDecoder(answer.Body).Decode(&started))
	return started.UploadID
}

// emptySum is the SHA-256 of nothing.
var emptySum = hex.EncodeToString(sha256.New().Sum(nil))

// complete makes an object of the parts.
func (r *raw) complete(file string, u *rawUpload) {
	var text bytes.Buffer
	text.WriteString("<CompleteMultipartUpload>")
	for i, etag := range u.etags {
		fmt.Fprintf(&text, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", i+1, etag)
	}
	text.WriteString("</CompleteMultipartUpload>")
	sum := sha256.Sum256(text.Bytes())
	answer := r.do(http.MethodPost, file, "uploadId="+url.QueryEscape(u.id), &text, int64(text.Len()), hex.EncodeToString(sum[:]), nil)
	_, err := io.Copy(io.Discard, answer.Body)
	must(err)
	must(answer.Body.Close())
}

// directories makes those of the files of a download.
func (r *raw) directories() error {
	var made []string
	for i := range r.Files {
		dir := filepath.Dir(filepath.Join(r.Dir, fileName(i)))
		if !slices.Contains(made, dir) {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			made = append(made, dir)
		}
	}
	return nil
}
