// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/staging/attempt"
	"batchcompute.dev/operator/internal/staging/crc"
	"batchcompute.dev/operator/internal/staging/fault"
	"batchcompute.dev/operator/internal/testutil/s3test"
)

// quick is a policy for tests: little time is spent between attempts, and a slow machine makes no request twice.
var quick = attempt.Policy{Stall: 20 * time.Second, Slow: 20 * time.Second, NoProgress: 20 * time.Second, First: time.Millisecond, Most: 20 * time.Millisecond}

// shortStall is quick, but finds at once what stands still: for tests whose server hangs.
var shortStall = attempt.Policy{Stall: 200 * time.Millisecond, Slow: 200 * time.Millisecond, NoProgress: quick.NoProgress, First: quick.First, Most: quick.Most}

const bucket = "data"

// world is a server in memory behind faults, and a client.
type world struct {
	*s3test.Memory
	faults *s3test.Faults
	store  agentapi.Store
	client *Client
}

func newWorld(t *testing.T, plan func(n int, r *http.Request) s3test.Fault) *world {
	t.Helper()
	w := &world{Memory: s3test.NewMemory(bucket)}
	w.faults = &s3test.Faults{Next: w.Memory, Plan: plan}
	w.store = agentapi.Store{
		Endpoint: s3test.Serve(t, w.faults), Bucket: bucket, Region: "r", PathStyle: true,
		Credentials: s3test.Credentials(t, s3test.AccessKey, s3test.SecretKey, ""),
	}
	w.client = newClient(t, w.store, Options{Policy: quick})
	return w
}

func newClient(t *testing.T, s agentapi.Store, o Options) *Client {
	t.Helper()
	c, err := New(s, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// text returns n bytes that differ.
func text(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(i*7 + i/251)
	}
	return out
}

// first returns a plan that gives f to the first n requests that match, and nothing to the others.
func first(n int32, match func(*http.Request) bool, f s3test.Fault) func(int, *http.Request) s3test.Fault {
	var seen atomic.Int32
	return func(_ int, r *http.Request) s3test.Fault {
		if match != nil && !match(r) || seen.Add(1) > n {
			return s3test.Fault{}
		}
		return f
	}
}

func isPost(r *http.Request) bool { return r.Method == http.MethodPost }

// answers are the faults that end well, by name.
var answers = map[string]struct {
	n int32
	f s3test.Fault
}{
	"none":                 {0, s3test.Fault{}},
	"storm of SlowDown":    {12, s3test.Fault{Status: 503, Code: "SlowDown"}},
	"internal error":       {1, s3test.Fault{Status: 500, Code: "InternalError"}},
	"no code":              {1, s3test.Fault{Status: 502}},
	"hang before headers":  {1, s3test.Fault{Hang: true, After: -1}},
	"hang after headers":   {2, s3test.Fault{Hang: true}},
	"hang midway":          {2, s3test.Fault{Hang: true, After: 3000}},
	"reset before headers": {1, s3test.Fault{Reset: true, After: -1}},
	"reset midway":         {3, s3test.Fault{Reset: true, After: 3000}},
	"reset unread":         {1, s3test.Fault{Unread: true}},
	"truncated":            {3, s3test.Fault{Truncate: true, After: 2999}},
	"1 KiB at a time":      {1, s3test.Fault{Slow: 20 * time.Millisecond}},
}

func TestGetThroughFaults(t *testing.T) {
	want := text(20_000)
	for name, tc := range answers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, first(tc.n, nil, tc.f))
			w.client = newClient(t, w.store, Options{Policy: shortStall})
			w.Set("k", want, nil)
			o, _ := w.Memory.Get("k")
			for _, r := range []Range{
				{Key: "k", ETag: o.ETag, Size: 20_000, Length: 20_000},
				{Key: "k", ETag: o.ETag, Size: 20_000, Offset: 5000, Length: 11_111},
			} {
				var got bytes.Buffer
				if _, err := w.client.Get(t.Context(), r, &got, make([]byte, 4096)); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got.Bytes(), want[r.Offset:r.Offset+r.Length]) {
					t.Errorf("%d bytes differ from the %d of the range", got.Len(), r.Length)
				}
			}
		})
	}
}

func TestPutThroughFaults(t *testing.T) {
	want := text(20_000)
	for name, tc := range answers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, first(tc.n, nil, tc.f))
			w.client = newClient(t, w.store, Options{Policy: shortStall})
			sum, err := w.client.Put(t.Context(), "k", Source{File: bytes.NewReader(want), Size: int64(len(want))}, Meta{})
			if err != nil {
				t.Fatal(err)
			}
			if o, _ := w.Memory.Get("k"); !bytes.Equal(o.Data, want) || sum != crc.Update(0, want) {
				t.Errorf("%d bytes were stored, checksum %x", len(o.Data), sum)
			}
		})
	}
}

// TestUploadThroughFaults also says that no upload is left.
func TestUploadThroughFaults(t *testing.T) {
	want := text(20_000)
	for name, tc := range answers {
		for _, step := range []string{"begin", "part", "complete"} {
			match := map[string]func(*http.Request) bool{
				"begin":    func(r *http.Request) bool { return isPost(r) && r.URL.Query().Has("uploads") },
				"part":     func(r *http.Request) bool { return r.Method == http.MethodPut },
				"complete": func(r *http.Request) bool { return isPost(r) && r.URL.Query().Has("uploadId") },
			}[step]
			t.Run(name+" at "+step, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, first(tc.n, match, tc.f))
				w.client = newClient(t, w.store, Options{Policy: shortStall})
				c, ctx, s := w.client, t.Context(), Source{File: bytes.NewReader(want)}
				id, other, err := c.Begin(ctx, "k", Meta{PartBytes: 7000})
				if err != nil {
					t.Fatal(err)
				}
				if other {
					if err := c.AbortOthers(ctx, "k", id); err != nil {
						t.Fatal(err)
					}
				}
				var parts []Part
				for n := range 3 {
					s.Offset, s.Size = int64(n)*7000, min(7000, 20_000-int64(n)*7000)
					p, err := c.PutPart(ctx, "k", id, n+1, s)
					if err != nil {
						t.Fatal(err)
					}
					parts = append(parts, p)
				}
				if err := c.Complete(ctx, "k", id, parts, 20_000); err != nil {
					t.Fatal(err)
				}
				if o, _ := w.Memory.Get("k"); !bytes.Equal(o.Data, want) {
					t.Errorf("%d bytes were stored", len(o.Data))
				}
				if left := w.Memory.Uploads(); len(left) > 0 {
					t.Errorf("uploads are left: %s", left)
				}
			})
		}
	}
}

// TestCompleteAnswerLost loses the answer to the end of an upload, and then those to the question whether it worked.
func TestCompleteAnswerLost(t *testing.T) {
	for name, f := range map[string]s3test.Fault{
		"busy": {Status: 503, Code: "SlowDown"}, "reset": {Reset: true, After: -1}, "failed": {Status: 500, Code: "InternalError"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lost, asked := 0, 0
			w := newWorld(t, func(_ int, r *http.Request) s3test.Fault {
				switch {
				case isPost(r) && r.URL.Query().Has("uploadId"):
					if lost++; lost == 1 {
						return s3test.Fault{Reset: true, After: -1}
					}
				case r.Method == http.MethodHead:
					if asked++; asked <= 2 {
						return f
					}
				}
				return s3test.Fault{}
			})
			id, _, err := w.client.Begin(t.Context(), "k", Meta{PartBytes: 7000})
			if err != nil {
				t.Fatal(err)
			}
			p, err := w.client.PutPart(t.Context(), "k", id, 1, Source{File: bytes.NewReader(text(7000)), Size: 7000})
			if err != nil {
				t.Fatal(err)
			}
			if err := w.client.Complete(t.Context(), "k", id, []Part{p}, 7000); err != nil {
				t.Fatal(err)
			}
			if asked != 3 {
				t.Errorf("asked %d times", asked)
			}
		})
	}
}

func TestListThroughFaults(t *testing.T) {
	for name, tc := range answers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, first(tc.n, func(r *http.Request) bool { return r.URL.Query().Has("continuation-token") }, tc.f))
			w.client = newClient(t, w.store, Options{Policy: shortStall})
			w.PageSize = 10
			var want []string
			for i := range 45 {
				want = append(want, fmt.Sprintf("p/%02d +%%\n", i))
				w.Set(want[i], nil, nil)
			}
			w.Set("q", nil, nil)
			var got []string
			for o, err := range w.client.List(t.Context(), "p/") {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, o.Key)
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%q", got)
			}
			for _, err := range w.client.List(t.Context(), "p/") {
				if err != nil {
					t.Error(err)
				}
				break // the rest is not fetched
			}
		})
	}
}

// TestOutage is a store that is down for some time, and one that stays down.
func TestOutage(t *testing.T) {
	w := newWorld(t, nil)
	w.Set("k", text(10), nil)
	var calls atomic.Int32
	dial := func(down int32) func(ctx context.Context, network, address string) (net.Conn, error) {
		return func(ctx context.Context, network, address string) (net.Conn, error) {
			if calls.Add(1) <= down {
				return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
			}
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}
	}
	c := newClient(t, w.store, Options{Policy: quick, Dial: dial(30)})
	if _, err := c.Stat(t.Context(), "k"); err != nil || calls.Load() != 31 {
		t.Errorf("after %d connections: %v", calls.Load(), err)
	}
	short := quick
	short.NoProgress = 50 * time.Millisecond
	c = newClient(t, w.store, Options{Policy: short, Dial: dial(1 << 30)})
	_, err := c.Stat(t.Context(), "k")
	if e := fault.As(err); e.Kind != fault.Network || e.Class != agentapi.Transient || !strings.Contains(e.Reason, "without progress") {
		t.Errorf("error %v", err)
	}
}

// TestBusyAfterBody is a store that reads everything and refuses it: sending the same again is no progress.
func TestBusyAfterBody(t *testing.T) {
	w := newWorld(t, nil)
	w.faults.Next = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		rw.WriteHeader(http.StatusServiceUnavailable)
	})
	short := quick
	short.NoProgress = 100 * time.Millisecond
	c := newClient(t, w.store, Options{Policy: short})
	if _, err := c.Put(t.Context(), "k", Source{File: bytes.NewReader(text(9000)), Size: 9000}, Meta{}); !fault.Is(err, fault.Busy) {
		t.Errorf("error %v", err)
	}
}

func TestChanged(t *testing.T) {
	w := newWorld(t, nil)
	w.Set("k", text(9000), nil)
	o, _ := w.Memory.Get("k")
	r := Range{Key: "k", ETag: o.ETag, Size: 9000, Length: 9000}
	w.faults.Plan = first(1, nil, s3test.Fault{Truncate: true, After: 4000, Do: func() { w.Set("k", text(9001), nil) }})
	var got bytes.Buffer
	c := w.client
	if _, err := c.Get(t.Context(), r, &got, make([]byte, 1000)); !fault.Is(err, fault.Changed) {
		t.Errorf("error %v", err)
	}
	if _, err := c.Get(t.Context(), Range{Key: "k", Size: 9000, Length: 9000}, &got, make([]byte, 1000)); !fault.Is(err, fault.Changed) {
		t.Errorf("without an ETag: error %v", err)
	}
}

func TestFileErrors(t *testing.T) {
	w := newWorld(t, nil)
	w.Set("k", text(9000), nil)
	_, err := w.client.Get(t.Context(), Range{Key: "k", Size: 9000, Length: 9000}, full{}, make([]byte, 1000))
	if !fault.Is(err, fault.Disk) || w.Count(http.MethodGet) != 1 {
		t.Errorf("after %d requests: %v", w.Count(http.MethodGet), err)
	}
	_, err = w.client.Put(t.Context(), "p", Source{Name: "file", File: bytes.NewReader(text(10)), Size: 20}, Meta{})
	if e := fault.As(err); e.Kind != fault.Changed || e.Key != "file" {
		t.Errorf("a file that got shorter: %v", err)
	}
	if _, ok := w.Memory.Get("p"); ok {
		t.Error("a part of a file was stored")
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, fault.OfFile("f", syscall.ENOSPC) }

func TestMetadata(t *testing.T) {
	w := newWorld(t, nil)
	for _, when := range []time.Time{time.Unix(1700000000, 5), time.Unix(0, 0), time.Unix(-3, 999_999_999), time.Unix(-1, 5), time.Unix(1<<33, 0)} {
		m := Meta{Mode: 0o751, Time: when, CRC: 1 << 63, HasCRC: true, PartBytes: 5}
		if _, err := w.client.Put(t.Context(), "k", Source{File: bytes.NewReader(nil)}, m); err != nil {
			t.Fatal(err)
		}
		i, err := w.client.Stat(t.Context(), "k")
		if err != nil || !i.Time.Equal(when) || i.Mode != m.Mode || i.CRC != m.CRC || !i.HasCRC || i.PartBytes != 5 {
			t.Errorf("%+v, %v, want %+v", i, err, m)
		}
	}
	// What COS says is preferred, and what nobody understands is left out.
	w.Set("k", nil, http.Header{cosCRC: {"17"}, metaPrefix + metaCRC: {"18"}, metaPrefix + metaTime: {"today"}, metaPrefix + metaMode: {"rwx"}})
	if i, err := w.client.Stat(t.Context(), "k"); err != nil || i.CRC != 17 || !i.Time.IsZero() || i.Mode != 0 {
		t.Errorf("%+v, %v", i, err)
	}
}

func TestEndpoint(t *testing.T) {
	for _, e := range []string{"", "host", "ftp://host", "https://user:pw@host", "https://host/path", "http://%zz"} {
		if _, err := New(agentapi.Store{Endpoint: e, Bucket: bucket}, Options{}); !fault.Is(err, fault.Address) || strings.Contains(err.Error(), "pw") {
			t.Errorf("%s: %v", e, err)
		}
	}
}

func TestStopped(t *testing.T) {
	w := newWorld(t, func(int, *http.Request) s3test.Fault { return s3test.Fault{Status: 503} })
	ctx, cancel := context.WithCancel(t.Context())
	w.faults.Plan = func(n int, _ *http.Request) s3test.Fault {
		if n == 3 {
			cancel()
		}
		return s3test.Fault{Status: 503}
	}
	if _, err := w.client.Stat(ctx, "k"); !fault.Is(err, fault.Stopped) || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
