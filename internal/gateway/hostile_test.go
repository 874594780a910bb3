// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/gateway/wire"
	"batchcompute.dev/operator/internal/params"
	"batchcompute.dev/operator/internal/server"
	"batchcompute.dev/operator/internal/testutil/signer"
)

// heap returns how many bytes are in use after a garbage collection.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// allocated returns how many bytes f allocates.
func allocated(f func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

// Bodies that are large, deep or full of keys have their codes, and take no more than the budget counts.
func TestHostileBodies(t *testing.T) {
	f := newFixture(t, nil)
	keys := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"k%d":{}`, i)
		}
		return "{" + b.String()[1:] + "}"
	}
	form := func(n int, key string) string {
		return strings.TrimPrefix(strings.Repeat("&"+key+"=", n), "&")
	}
	const most = 256 << 20
	for name, tc := range map[string]struct {
		json, form string
		want       errcode.Code
	}{
		"10 MiB of spaces":          {json: "{" + strings.Repeat(" ", wire.MaxJSON-2) + "}"},
		"more than 10 MiB":          {json: strings.Repeat(" ", wire.MaxJSON+1), want: errcode.RequestSizeLimitExceeded},
		"a text of 10 MiB":          {json: `{"JobIds":["` + strings.Repeat("x", wire.MaxJSON-20) + `"]}`},
		"100,000 unknown keys":      {json: keys(100_000), want: errcode.InvalidParameter},
		"49,000 unknown keys":       {json: keys(49_000), want: errcode.UnknownParameter},
		"5,000,000 items":           {json: `{"JobIds":[` + strings.Repeat(`1,`, 5_000_000) + `1]}`, want: errcode.InvalidParameter},
		"nested 5,000,000 deep":     {json: `{"JobIds":` + strings.Repeat("[", 5_000_000), want: errcode.InvalidParameter},
		"objects nested":            {json: strings.Repeat(`{"JobIds":`, 1_000_000), want: errcode.InvalidParameter},
		"nested below an unknown":   {json: `{"X":` + strings.Repeat("[", params.MaxDepth-1) + strings.Repeat("]", params.MaxDepth-1) + `}`, want: errcode.UnknownParameter},
		"commas in a text":          {json: `{"JobIds":["` + strings.Repeat("{,", 200_000) + `"]}`},
		"a form of 1 MiB":           {form: "JobIds.0=" + strings.Repeat("x", 1<<20-1024)},
		"a larger form":             {form: "JobIds.0=" + strings.Repeat("x", 1<<20), want: errcode.RequestSizeLimitExceeded},
		"100,000 keys of a form":    {form: form(100_000, "k"), want: errcode.InvalidParameter},
		"99,000 keys of a form":     {form: form(99_000, "JobIds.7"), want: errcode.InvalidParameter},
		"a position far away":       {form: form(1, "JobIds.2147483646"), want: errcode.InvalidParameter},
		"a path that is deep":       {form: form(1, "JobIds"+strings.Repeat(".0", 200_000)), want: errcode.InvalidParameter},
		"an unknown path, not deep": {form: form(20_000, strings.Repeat("a.", 20)+"b"), want: errcode.UnknownParameter},
	} {
		t.Run(name, func(t *testing.T) {
			f.now = f.now.Add(time.Second)
			s := f.signer("Echo")
			var r *http.Request
			if tc.json != "" {
				r = s.POST(target, tc.json)
			} else {
				r = signedForm(s, tc.form)
			}
			var a answer
			if n := allocated(func() { a = f.send(t, r) }); n > most {
				t.Errorf("%d MiB were allocated", n>>20)
			}
			if a.Response.Error.Code != tc.want {
				t.Errorf("%.300s, want %s", a.text, tc.want)
			}
			if f.budget.Used() != 0 {
				t.Errorf("%d bytes are still taken", f.budget.Used())
			}
		})
	}
}

// signedForm returns a request with signature v1 whose form has names twice, which url.Values cannot sign.
func signedForm(s signer.Signer, form string) *http.Request {
	body := fmt.Sprintf("Action=%s&Nonce=1&SecretId=%s&Timestamp=%d&Version=2017-03-12", s.Action, s.SecretID, s.At.Unix())
	// The names of the form sort behind those, or before, but not between: k and JobIds.
	list, err := params.ParseQuery(form)
	if err != nil {
		list = nil // nobody gets as far as the signature
	}
	sorted := strings.Split(body, "&")
	var before strings.Builder
	for _, p := range list {
		if p.Key > "Action" && p.Key < "Nonce" {
			before.WriteString(p.Key + "=" + p.Value + "&")
		} else {
			sorted = append(sorted, p.Key+"="+p.Value)
		}
	}
	text := sorted[0] + "&" + before.String() + strings.Join(sorted[1:], "&")
	signature := signer.SignText("POSTgateway.example:8080/?"+text, s.SecretKey)
	r := httptest.NewRequest(http.MethodPost, target+"/", strings.NewReader(form+"&"+body+"&Signature="+strings.NewReplacer("+", "%2B", "/", "%2F", "=", "%3D").Replace(signature)))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

// Nothing is kept for a secretId that does not exist, however many come.
func TestMillionSecretIDs(t *testing.T) {
	const n = 1_000_000
	count := n
	if testing.Short() {
		count = 20_000
	}
	f := newFixture(t, nil)
	r := f.signer("Echo").POST(target, "{}")
	r.RemoteAddr = "10.1.2.3:4"
	good := r.Header.Get("Authorization")
	w := &discard{header: http.Header{}}
	f.ServeHTTP(w, r)
	before := heap()
	for i := range count {
		r.Header.Set("Authorization", strings.Replace(good, "AKIDone", fmt.Sprintf("AKID%07d", i), 1))
		if f.ServeHTTP(w, r); w.n == 0 {
			t.Fatal("no answer")
		}
	}
	if grown := heap() - before; grown > 1<<20 {
		t.Errorf("%d bytes more are in use", grown)
	}
	if len(f.lines()) > 20 || f.rates.Len() > 1 || f.failures.Len() > 1 || len(f.flights.count) > 0 {
		t.Errorf("%d lines, %d rates, %d addresses", len(f.lines()), f.rates.Len(), f.failures.Len())
	}
}

// discard counts what is written.
type discard struct {
	header http.Header
	n      int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(p []byte) (int, error) { d.n += len(p); return len(p), nil }

// Without a key that exists nobody gets a body read.
func TestBodyOfUnknownKeyIsNotRead(t *testing.T) {
	f := newFixture(t, nil)
	s := f.signer("Echo")
	s.SecretID = "AKIDnone"
	r := s.POST(target, "{}")
	r.Body = io.NopCloser(unreadable{t})
	if a := f.send(t, r); a.Response.Error.Code != errcode.SecretIDNotFound {
		t.Error(a.text)
	}
}

type unreadable struct{ t *testing.T }

func (u unreadable) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

// Bodies that stop in the middle end with the server's deadline, hold hardly any memory until then and keep no other client from being answered.
func TestSlowBodies(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.MaxInFlight = 2 })
	f.Handler.o.Now = time.Now
	const deadline = 2 * time.Second
	s, err := server.Listen(server.Options{
		Name: "gateway", Addr: "127.0.0.1:0", Handler: f, MaxConns: 100, MaxPending: 100,
		HeaderTimeout: HeaderTimeout, ReadTimeout: deadline, WriteTimeout: WriteTimeout, IdleTimeout: IdleTimeout, MaxHeaderBytes: MaxHeaderBytes,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(logr.NewContext(t.Context(), logr.Discard()))
	stopped := make(chan error, 1)
	go func() { stopped <- s.Start(ctx) }()
	defer func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	}()
	url := "http://" + s.Addr().String()
	sign := f.signer("Free")
	sign.At = time.Now()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			conn, err := net.Dial("tcp", s.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			r := sign.POST(url, "{}")
			r.ContentLength = wire.MaxJSON // but only two bytes come
			r.Body = io.NopCloser(io.MultiReader(strings.NewReader("{}"), &stalled{ctx}))
			go func() { _ = r.Write(conn) }()
			resp, err := http.ReadResponse(bufio.NewReader(conn), r)
			if err != nil {
				return // closed without an answer, which is as good
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			if !strings.Contains(string(body), string(errcode.InvalidRequest)) && !strings.Contains(string(body), string(errcode.IPLimitExceeded)) {
				t.Errorf("%s", body)
			}
		})
	}
	resp, err := http.DefaultClient.Do(sign.POST(url, "{}"))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if strings.Contains(string(body), "Error") {
		t.Errorf("beside slow ones: %s", body)
	}
	if used := f.budget.Used(); used > 20*8<<10 {
		t.Errorf("%d bytes are taken by 20 bodies of 2 bytes", used)
	}
	wg.Wait()
	if f.budget.Used() != 0 {
		t.Errorf("%d bytes are still taken", f.budget.Used())
	}
}

// stalled has nothing to read until the test ends.
type stalled struct{ ctx context.Context }

func (s *stalled) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, io.EOF
}
