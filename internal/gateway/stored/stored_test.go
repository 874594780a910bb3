// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package stored

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/testutil/s3test"
)

var keys = Keys{ID: "test-id", Secret: "planted-secret", Token: "planted-token"}

// patient returns a reader whose timeout no test reaches.
func patient() *Reader {
	r := NewReader()
	r.timeout = time.Minute
	return r
}

// object is one of a server, in path style.
func object(endpoint, key string) Object {
	return Object{agentapi.Store{Endpoint: endpoint, Bucket: "bucket", Region: "ap-guangzhou", PathStyle: true}, key}
}

func TestEnd(t *testing.T) {
	m := s3test.NewMemory("bucket")
	m.SetKeys(keys.ID, keys.Token)
	server, r := s3test.Serve(t, m), patient()
	long := bytes.Repeat([]byte("0123456789\n"), 1000)
	for name, data := range map[string][]byte{"long": long, "short": []byte("end"), "exact": long[:agentapi.MaxTail], "empty": {}} {
		m.Set("logs/"+name, data, nil)
		got, err := r.End(t.Context(), "ns", object(server, "logs/"+name), keys)
		if err != nil || got == nil || !bytes.Equal(got, data[max(0, len(data)-agentapi.MaxTail):]) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if n := m.Count(http.MethodGet); n != 4 {
		t.Errorf("%d requests for 4 objects", n)
	}
	if _, err := r.End(t.Context(), "ns", object(server, "missing"), keys); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("of a missing object: %v", err)
	}
}

// TestHostileStore: of what a store sends only the end of a stream is read, and nothing gets into the error.
func TestHostileStore(t *testing.T) {
	var others atomic.Int32
	other := s3test.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { others.Add(1); fmt.Fprint(w, "planted") }))
	endless := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(bytes.Repeat([]byte("planted "), 1<<10)); err != nil {
				return
			}
		}
	}
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"redirects":       {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other, http.StatusTemporaryRedirect) }, "status 307"},
		"refuses":         {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "planted", http.StatusForbidden) }, "status 403"},
		"fails":           {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "planted", http.StatusInternalServerError) }, "status 500"},
		"knows no ranges": {endless, "more than the 2048 bytes"},
		"sends more": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-2047/2048")
			w.WriteHeader(http.StatusPartialContent)
			endless(w, r)
		}, "more than the 2048 bytes"},
		"sends another part": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-6/5000")
			w.WriteHeader(http.StatusPartialContent)
			fmt.Fprint(w, "planted")
		}, "another part"},
		"sends a long header": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("planted", 1<<16)) }, "the connection to the store failed"},
		"breaks off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "planted")
		}, "the connection to the store failed"},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int32
			server := s3test.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { requests.Add(1); tc.answer(w, r) }))
			got, err := patient().End(t.Context(), "ns", object(server, "k"), keys)
			if got != nil || err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "planted") {
				t.Errorf("%d bytes, %v, want %q", len(got), err, tc.want)
			}
			if requests.Load() != 1 || others.Load() != 0 {
				t.Errorf("%d requests, and %d of the address of the redirect", requests.Load(), others.Load())
			}
		})
	}
}

// TestSlowStore: a store that does not answer, or not all of it, keeps nobody longer than the timeout.
func TestSlowStore(t *testing.T) {
	for name, send := range map[string]string{"nothing": "", "a part": "begin"} {
		server := s3test.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if send != "" {
				fmt.Fprint(w, send)
				_ = http.NewResponseController(w).Flush() // the client may have gone
			}
			<-r.Context().Done()
		}))
		r := NewReader()
		r.timeout = 50 * time.Millisecond
		if got, err := r.End(t.Context(), "ns", object(server, "k"), keys); got != nil || err == nil || err.Error() != "the store did not answer in time" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestNoRequest: what is no object of a named store is not asked for.
func TestNoRequest(t *testing.T) {
	asked := false
	server := s3test.Serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	with := func(change func(*Object, *Keys)) error {
		o, k := object(server, "k"), keys
		change(&o, &k)
		_, err := patient().End(t.Context(), "ns", o, k)
		return err
	}
	for name, change := range map[string]func(*Object, *Keys){
		"no key":           func(_ *Object, k *Keys) { k.Secret = "" },
		"no identifier":    func(_ *Object, k *Keys) { k.ID = "" },
		"dots":             func(o *Object, _ *Keys) { o.Key = "a/../../other/k" },
		"no name":          func(o *Object, _ *Keys) { o.Key = "" },
		"bucket is a host": func(o *Object, _ *Keys) { o.Store.Bucket = "evil.example.com:80/" },
		"user":             func(o *Object, _ *Keys) { o.Store.Endpoint = strings.Replace(server, "://", "://u:planted@", 1) },
		"other scheme":     func(o *Object, _ *Keys) { o.Store.Endpoint = "file://host" },
		"no authority":     func(o *Object, _ *Keys) { o.Store.CA = "none" },
	} {
		if err := with(change); err == nil || strings.Contains(err.Error(), "planted") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if asked {
		t.Error("the store was asked")
	}
}

// TestVirtualStyle: the bucket is the first label of the host.
func TestVirtualStyle(t *testing.T) {
	o := object("https://cos.ap-guangzhou.myqcloud.com", "a b/ü+%")
	o.Store.PathStyle = false
	r, err := newRequest(o, keys)
	if err != nil {
		t.Fatal(err)
	}
	if want := "https://bucket.cos.ap-guangzhou.myqcloud.com/a%20b/%C3%BC%2B%25"; r.URL.String() != want {
		t.Errorf("the URL is %s, want %s", r.URL, want)
	}
}

// TestTurns: a namespace that uses all of its turns keeps no other one waiting, and nothing is kept of it.
func TestTurns(t *testing.T) {
	var all turns
	var ends []func()
	for range maxAtOnce {
		done, err := all.start(t.Context(), "busy")
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, done)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := all.start(ended, "busy"); err == nil {
		t.Error("a namespace has one turn more than it may")
	}
	done, err := all.start(t.Context(), "other")
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range append(ends, done) {
		end()
	}
	if len(all.of) != 0 {
		t.Errorf("%d namespaces are kept", len(all.of))
	}
}

// TestSignature: a server that checks signatures takes them, with all characters that names have.
func TestSignature(t *testing.T) {
	s := s3test.Versitygw(t, "bucket")
	u, err := url.Parse(s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	api, err := minio.New(u.Host, &minio.Options{Creds: credentials.NewStaticV4(s3test.AccessKey, s3test.SecretKey, ""), Region: s.Region, BucketLookup: minio.BucketLookupPath})
	if err != nil {
		t.Fatal(err)
	}
	long := bytes.Repeat([]byte("0123456789\n"), 1000)
	for _, key := range []string{"plain", "a b/ü+%~(1)'&=.log"} {
		if _, err := api.PutObject(t.Context(), s.Bucket, key, bytes.NewReader(long), int64(len(long)), minio.PutObjectOptions{}); err != nil {
			t.Fatal(err)
		}
		got, err := patient().End(t.Context(), "ns", Object{s, key}, Keys{ID: s3test.AccessKey, Secret: s3test.SecretKey})
		if err != nil || !bytes.Equal(got, long[len(long)-agentapi.MaxTail:]) {
			t.Errorf("%s: %d bytes, %v", key, len(got), err)
		}
	}
	if _, err := patient().End(t.Context(), "ns", Object{s, "plain"}, Keys{ID: s3test.AccessKey, Secret: "wrong"}); err == nil || !strings.Contains(err.Error(), "status 403") {
		t.Errorf("with a wrong key: %v", err)
	}
}
