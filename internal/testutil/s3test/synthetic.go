// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package s3test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// blockBytes is the length after which the contents of a Synthetic's objects repeat.
const blockBytes = 1 << 20

// Synthetic is an S3 server that has Objects objects of Size bytes under prefix p/, which take no memory,
// and that accepts and forgets what is stored. It checks nothing. Its own cost is small, so that it can be used
// for measuring clients.
type Synthetic struct {
	Objects int
	Size    int64
	// Received counts bytes of bodies.
	Received atomic.Int64

	block []byte
}

// NewSynthetic returns a server.
func NewSynthetic(objects int, size int64) *Synthetic {
	s := &Synthetic{Objects: objects, Size: size, block: make([]byte, 2*blockBytes)}
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range s.block[:blockBytes] {
		s.block[i] = byte(rnd.Uint32())
	}
	copy(s.block[blockBytes:], s.block)
	return s
}

// ServeHTTP answers a request.
func (s *Synthetic) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n, _ := io.Copy(io.Discard, r.Body) // the client may have gone
	s.Received.Add(n)
	q := r.URL.Query()
	switch {
	case q.Has("list-type") && q.Get("prefix") == "p/":
		s.list(w, q.Get("continuation-token"))
	case q.Has("list-type"):
		write(w, struct {
			XMLName xml.Name `xml:"ListBucketResult"`
		}{})
	case r.Method == http.MethodPut:
		w.Header().Set("ETag", `"e"`)
	case q.Has("uploads") && r.Method == http.MethodPost:
		_, _ = io.WriteString(w, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
	case q.Has("uploads"):
		_, _ = io.WriteString(w, "<ListMultipartUploadsResult></ListMultipartUploadsResult>")
	case r.Method == http.MethodPost:
		_, _ = io.WriteString(w, "<CompleteMultipartUploadResult><Bucket>b</Bucket></CompleteMultipartUploadResult>")
	case r.Method == http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	default:
		s.read(w, r)
	}
}

// list answers a page of 1000 keys.
func (s *Synthetic) list(w http.ResponseWriter, token string) {
	from, _ := strconv.Atoi(token)
	to := min(s.Objects, from+1000)
	w.Header().Set("Content-Type", "application/xml")
	var b strings.Builder
	fmt.Fprintf(&b, "<ListBucketResult><IsTruncated>%t</IsTruncated><NextContinuationToken>%d</NextContinuationToken>", to < s.Objects, to)
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "<Contents><Key>%s</Key><Size>%d</Size><ETag>&quot;e&quot;</ETag><LastModified>2023-11-14T22:13:20.000Z</LastModified></Contents>", Key(i), s.Size)
	}
	b.WriteString("</ListBucketResult>")
	_, _ = io.WriteString(w, b.String())
}

// Key returns the key of an object of a Synthetic.
func Key(i int) string { return fmt.Sprintf("p/%04d/%08d", i/100, i) }

// read answers GET and HEAD, with one range or none.
func (s *Synthetic) read(w http.ResponseWriter, r *http.Request) {
	from, to, status := int64(0), s.Size, http.StatusOK
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); err == nil {
		to, status = to+1, http.StatusPartialContent
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, s.Size))
	}
	w.Header().Set("Content-Length", strconv.FormatInt(to-from, 10))
	w.Header().Set("ETag", `"e"`)
	w.Header().Set("Last-Modified", time.Unix(1700000000, 0).UTC().Format(http.TimeFormat))
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return
	}
	for from < to {
		at := from % blockBytes
		n := min(to-from, blockBytes)
		if _, err := w.Write(s.block[at : at+n]); err != nil {
			return
		}
		from += n
	}
}

// Check tells whether data are the bytes of an object from offset.
func (s *Synthetic) Check(data []byte, offset int64) bool {
	for len(data) > 0 {
		at := offset % blockBytes
		n := min(len(data), blockBytes)
		if string(data[:n]) != string(s.block[at:at+int64(n)]) {
			return false
		}
		data, offset = data[n:], offset+int64(n)
	}
	return true
}

// Write writes an object's contents to a file, and makes its directory.
func (s *Synthetic) Write(name string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	for left := s.Size; left > 0 && err == nil; left -= blockBytes {
		_, err = f.Write(s.block[:min(left, blockBytes)])
	}
	return errors.Join(err, f.Close())
}
