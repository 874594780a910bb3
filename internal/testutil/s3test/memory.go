// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package s3test has S3 servers for tests: one in memory, faults to be put in front of a server, and
// versitygw as a process.
package s3test

import (
	"bufio"
	"cmp"
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Memory is an S3 server with one bucket in memory. It knows both styles of URLs, and checks names of keys
// and tokens, but no signature.
type Memory struct {
	Bucket string
	// Key is the only key that is accepted, and Token the session token; empty means any.
	Key, Token string

	mu      sync.Mutex
	objects map[string]Object
	uploads map[string]*upload
	serial  int
	// PageSize is that of listings; 0 means 1000.
	PageSize int
	// WholeKeys says that uploads are listed only for a prefix that is the whole key, as MinIO does.
	WholeKeys bool
	// Requests counts requests by method.
	Requests map[string]int
}

// Object is an object of Memory.
type Object struct {
	Data   []byte
	ETag   string
	Header http.Header
}

type upload struct {
	key    string
	header http.Header
	parts  map[int][]byte
}

// NewMemory returns a server with an empty bucket.
func NewMemory(bucket string) *Memory {
	return &Memory{Bucket: bucket, objects: map[string]Object{}, uploads: map[string]*upload{}, Requests: map[string]int{}}
}

// Serve serves h until the test ends, and returns the URL.
func Serve(t testing.TB, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL
}

// Set stores an object.
func (m *Memory) Set(key string, data []byte, header http.Header) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.set(key, data, header)
}

func (m *Memory) set(key string, data []byte, header http.Header) {
	sum := md5.Sum(data)
	m.objects[key] = Object{Data: data, ETag: hex.EncodeToString(sum[:]), Header: header}
}

// Get returns an object.
func (m *Memory) Get(key string) (Object, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[key]
	return o, ok
}

// Keys returns all keys, sorted.
func (m *Memory) Keys() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.objects))
}

// Uploads returns the keys of uploads that were started and not ended.
func (m *Memory) Uploads() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []string
	for _, u := range m.uploads {
		keys = append(keys, u.key)
	}
	slices.Sort(keys)
	return keys
}

// SetKeys changes the key and the token that are accepted.
func (m *Memory) SetKeys(key, token string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Key, m.Token = key, token
}

// Count returns how many requests of a method there were.
func (m *Memory) Count(method string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Requests[method]
}

// ServeHTTP answers a request.
func (m *Memory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	data, err := payload(r)
	if err != nil {
		return // the client has gone
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Requests[r.Method]++
	bucket, key := m.address(r)
	if !m.admit(w, r) {
		return
	}
	if bucket != m.Bucket {
		refuse(w, r, http.StatusNotFound, "NoSuchBucket")
		return
	}
	q := r.URL.Query()
	switch {
	case key == "" && q.Has("uploads"):
		m.listUploads(w, q)
	case key == "":
		m.list(w, q)
	case q.Has("uploads"):
		m.begin(w, r, key)
	case q.Has("uploadId"):
		m.part(w, r, key, q, data)
	case r.Method == http.MethodPut:
		m.set(key, data, keep(r.Header))
		w.Header().Set("ETag", strconv.Quote(m.objects[key].ETag))
	default:
		m.read(w, r, key)
	}
}

// address returns bucket and key of a request.
func (m *Memory) address(r *http.Request) (bucket, key string) {
	if rest, ok := strings.CutPrefix(r.Host, m.Bucket+"."); ok && rest != "" {
		return m.Bucket, strings.TrimPrefix(r.URL.Path, "/")
	}
	bucket, key, _ = strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	return bucket, key
}

// admit checks key and token.
func (m *Memory) admit(w http.ResponseWriter, r *http.Request) bool {
	switch {
	case m.Key != "" && !strings.Contains(r.Header.Get("Authorization"), "Credential="+m.Key+"/"):
		refuse(w, r, http.StatusForbidden, "InvalidAccessKeyId")
	case m.Token != "" && r.Header.Get("X-Amz-Security-Token") != m.Token:
		refuse(w, r, http.StatusBadRequest, "ExpiredToken")
	default:
		return true
	}
	return false
}

// read answers GET and HEAD.
func (m *Memory) read(w http.ResponseWriter, r *http.Request, key string) {
	o, ok := m.objects[key]
	if !ok {
		refuse(w, r, http.StatusNotFound, "NoSuchKey")
		return
	}
	if match := strings.Trim(r.Header.Get("If-Match"), `"`); match != "" && match != o.ETag {
		refuse(w, r, http.StatusPreconditionFailed, "PreconditionFailed")
		return
	}
	maps.Copy(w.Header(), o.Header)
	w.Header().Set("ETag", strconv.Quote(o.ETag))
	w.Header().Set("Last-Modified", time.Unix(1700000000, 0).UTC().Format(http.TimeFormat))
	http.ServeContent(w, noPrecondition(r), "", time.Time{}, strings.NewReader(string(o.Data)))
}

// noPrecondition returns r without a header that is answered already.
func noPrecondition(r *http.Request) *http.Request {
	r = r.Clone(r.Context())
	r.Header.Del("If-Match")
	return r
}

type listedObject struct {
	Key, ETag, LastModified string
	Size                    int
}

// list answers ListObjectsV2.
func (m *Memory) list(w http.ResponseWriter, q url.Values) {
	var answer struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		IsTruncated           bool
		NextContinuationToken string
		EncodingType          string
		Contents              []listedObject
	}
	answer.EncodingType = "url"
	after := cmp.Or(q.Get("continuation-token"), q.Get("start-after"))
	size := cmp.Or(m.PageSize, 1000)
	for _, key := range slices.Sorted(maps.Keys(m.objects)) {
		if !strings.HasPrefix(key, q.Get("prefix")) || key <= after {
			continue
		}
		if len(answer.Contents) == size {
			answer.IsTruncated = true
			break
		}
		o := m.objects[key]
		answer.NextContinuationToken = key
		answer.Contents = append(answer.Contents, listedObject{
			Key: url.QueryEscape(key), ETag: strconv.Quote(o.ETag), LastModified: "2023-11-14T22:13:20.000Z", Size: len(o.Data),
		})
	}
	if !answer.IsTruncated {
		answer.NextContinuationToken = ""
	}
	write(w, answer)
}

type listedUpload struct {
	Key      string
	UploadID string `xml:"UploadId"`
}

// listUploads answers ListMultipartUploads.
func (m *Memory) listUploads(w http.ResponseWriter, q url.Values) {
	var answer struct {
		XMLName      xml.Name `xml:"ListMultipartUploadsResult"`
		EncodingType string
		Upload       []listedUpload
	}
	answer.EncodingType = "url"
	for id, u := range m.uploads {
		if prefix := q.Get("prefix"); strings.HasPrefix(u.key, prefix) && (u.key == prefix || !m.WholeKeys) {
			answer.Upload = append(answer.Upload, listedUpload{Key: url.QueryEscape(u.key), UploadID: id})
		}
	}
	slices.SortFunc(answer.Upload, func(a, b listedUpload) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.UploadID, b.UploadID))
	})
	write(w, answer)
}

// begin answers CreateMultipartUpload.
func (m *Memory) begin(w http.ResponseWriter, r *http.Request, key string) {
	m.serial++
	id := fmt.Sprintf("upload-%06d", m.serial)
	m.uploads[id] = &upload{key: key, header: keep(r.Header), parts: map[int][]byte{}}
	write(w, struct {
		XMLName     xml.Name `xml:"InitiateMultipartUploadResult"`
		Bucket, Key string
		UploadID    string `xml:"UploadId"`
	}{Bucket: m.Bucket, Key: key, UploadID: id})
}

// part answers what concerns one upload.
func (m *Memory) part(w http.ResponseWriter, r *http.Request, key string, q url.Values, data []byte) {
	id := q.Get("uploadId")
	u := m.uploads[id]
	if u == nil || u.key != key {
		refuse(w, r, http.StatusNotFound, "NoSuchUpload")
		return
	}
	switch r.Method {
	case http.MethodDelete:
		delete(m.uploads, id)
		w.WriteHeader(http.StatusNoContent)
	case http.MethodPut:
		n, _ := strconv.Atoi(q.Get("partNumber"))
		u.parts[n] = data
		sum := md5.Sum(data)
		w.Header().Set("ETag", strconv.Quote(hex.EncodeToString(sum[:])))
	case http.MethodPost:
		var sums, all []byte
		for _, n := range slices.Sorted(maps.Keys(u.parts)) {
			sum := md5.Sum(u.parts[n])
			sums, all = append(sums, sum[:]...), append(all, u.parts[n]...)
		}
		sum := md5.Sum(sums)
		etag := fmt.Sprintf("%s-%d", hex.EncodeToString(sum[:]), len(u.parts))
		m.objects[key] = Object{Data: all, ETag: etag, Header: u.header}
		delete(m.uploads, id)
		write(w, struct {
			XMLName           xml.Name `xml:"CompleteMultipartUploadResult"`
			Bucket, Key, ETag string
		}{Bucket: m.Bucket, Key: key, ETag: strconv.Quote(etag)})
	}
}

// keep returns the headers that are stored with an object.
func keep(h http.Header) http.Header {
	out := http.Header{}
	for k, v := range h {
		if strings.HasPrefix(k, "X-Amz-Meta-") {
			out[k] = v
		}
	}
	return out
}

// payload reads the body, and removes the signatures of its chunks.
func payload(r *http.Request) ([]byte, error) {
	if !strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		return io.ReadAll(r.Body)
	}
	in, out := bufio.NewReader(r.Body), []byte{}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		size, _, _ := strings.Cut(line, ";")
		n, err := strconv.ParseInt(strings.TrimSpace(size), 16, 64)
		if err != nil {
			return nil, err
		}
		chunk := make([]byte, n+2)
		if _, err := io.ReadFull(in, chunk); err != nil {
			return nil, err
		}
		out = append(out, chunk[:n]...)
		if n == 0 {
			// Only then does the server see that the client has gone.
			_, err := io.Copy(io.Discard, in)
			return out, err
		}
	}
}

// write answers with XML.
func write(w http.ResponseWriter, answer any) {
	w.Header().Set("Content-Type", "application/xml")
	_ = xml.NewEncoder(w).Encode(answer) // the client has gone
}

// refuse answers with an error; that of a HEAD request has no body.
func refuse(w http.ResponseWriter, r *http.Request, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>planted-secret</Message></Error>", code)
	}
}
