// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package s3test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"
)

// Fault is what happens to one request.
type Fault struct {
	// Status answers with this status and Code, without asking the server.
	Status int
	Code   string
	// Hang answers nothing until the client has gone. After says how much of the answer is sent before.
	Hang bool
	// Reset breaks the connection; the server has answered. After says how much of the answer is sent before.
	Reset bool
	// Truncate ends the connection in order; After says how much of the answer is sent before.
	Truncate bool
	// After is the number of bytes of the body; -1 means that not even the headers are sent.
	After int
	// Slow sends the body in pieces of 1 KiB, with this pause in between.
	Slow time.Duration
	// Do is called after the server has answered, and before the client gets the answer.
	Do func()
	// Unread does not read the request, before Reset.
	Unread bool
}

// Faults are put in front of a server.
type Faults struct {
	Next http.Handler
	// Plan says what happens to the request n, counted from 0; nil and the zero value mean nothing.
	Plan func(n int, r *http.Request) Fault

	mu sync.Mutex
	n  int
}

// ServeHTTP answers a request, or not.
func (f *Faults) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	var fault Fault
	if f.Plan != nil {
		fault = f.Plan(f.n, r)
	}
	f.n++
	f.mu.Unlock()
	if fault.Status != 0 {
		refuse(w, r, fault.Status, fault.Code)
		return
	}
	if fault.Unread {
		abort(w)
		return
	}
	if !fault.Hang && !fault.Reset && !fault.Truncate && fault.Slow == 0 && fault.Do == nil {
		f.Next.ServeHTTP(w, r)
		return
	}
	answer := httptest.NewRecorder()
	f.Next.ServeHTTP(answer, r)
	if fault.Do != nil {
		fault.Do()
	}
	f.send(w, answer, fault)
}

// send sends an answer, or a part of it.
func (f *Faults) send(w http.ResponseWriter, answer *httptest.ResponseRecorder, fault Fault) {
	data := answer.Body.Bytes()
	broken := fault.Hang || fault.Reset || fault.Truncate
	if !broken || fault.After >= 0 {
		for k, v := range answer.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(answer.Code)
		if broken {
			data = data[:min(fault.After, len(data))]
		}
		for len(data) > 0 {
			n := len(data)
			if fault.Slow > 0 {
				n = min(n, 1024)
				time.Sleep(fault.Slow)
			}
			if _, err := w.Write(data[:n]); err != nil {
				return
			}
			data = data[n:]
			_ = http.NewResponseController(w).Flush() // the client has gone
		}
		_ = http.NewResponseController(w).Flush()
	}
	switch {
	case fault.Hang:
		hang(w)
	case fault.Reset:
		abort(w)
	case fault.Truncate:
		panic(http.ErrAbortHandler)
	}
}

// hang waits until the client has closed the connection.
func hang(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	_, _ = io.Copy(io.Discard, conn)
	_ = conn.Close()
}

// abort breaks the connection so that the client gets RST.
func abort(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// Proxy returns a handler that asks the server at target. It keeps the Host header, which is signed.
func Proxy(t testing.TB, target string) http.Handler {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(u)
			r.Out.Host = r.In.Host
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
}
