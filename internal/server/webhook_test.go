// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// hookAt is a running webhook server.
type hookAt struct {
	*Webhook
	addr string
	hc   *http.Client
}

// serve starts a webhook server that allows everything under /validate.
func serve(t *testing.T, tokens func() []string, edits ...func(*tls.Config)) *hookAt {
	t.Helper()
	cert, err := selfSigned("localhost", x509.ExtKeyUsageServerAuth)
	if err != nil {
		t.Fatal(err)
	}
	conf := &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12}
	for _, edit := range edits {
		edit(conf)
	}
	s := NewWebhook(WebhookOptions{Addr: "127.0.0.1:0", TLS: conf, PathTokens: tokens})
	s.Register("/validate", &admission.Webhook{Handler: admission.HandlerFunc(func(_ context.Context, req admission.Request) admission.Response {
		return admission.Allowed(fmt.Sprint(len(req.Object.Raw)))
	})})
	if err := s.StartedChecker()(nil); err == nil {
		t.Error("started before Start")
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for s.StartedChecker()(nil) != nil {
		time.Sleep(time.Millisecond)
	}
	h := &hookAt{Webhook: s, addr: s.server.Addr().String()}
	h.hc = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
	t.Cleanup(h.hc.CloseIdleConnections)
	return h
}

// review is an AdmissionReview whose object is about n bytes long.
func review(t *testing.T, n int) []byte {
	t.Helper()
	raw, err := json.Marshal(map[string]string{"a": strings.Repeat("x", n)})
	if err != nil {
		t.Fatal(err)
	}
	ar := admissionv1.AdmissionReview{Request: &admissionv1.AdmissionRequest{UID: "u", Object: runtime.RawExtension{Raw: raw}}}
	ar.APIVersion, ar.Kind = "admission.k8s.io/v1", "AdmissionReview"
	data, err := json.Marshal(ar)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// ask posts a body and returns the status and what was answered.
func (h *hookAt) ask(t *testing.T, method, path string, body []byte) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "https://"+h.addr+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.hc.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != 1 {
		t.Errorf("%s is spoken", resp.Proto)
	}
	data, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data)
}

func TestWebhookPaths(t *testing.T) {
	tokens := []string{"new", "old"}
	with := serve(t, func() []string { return tokens })
	bare := serve(t, nil)
	for name, tc := range map[string]struct {
		h            *hookAt
		method, path string
		want         int
	}{
		"newest":              {with, "POST", "/validate/new", 200},
		"the one before":      {with, "POST", "/validate/old", 200},
		"none":                {with, "POST", "/validate", 404},
		"empty":               {with, "POST", "/validate/", 404},
		"another":             {with, "POST", "/validate/other", 404},
		"a part":              {with, "POST", "/validate/ne", 404},
		"another path":        {with, "POST", "/mutate/new", 404},
		"no path":             {with, "POST", "/new", 404},
		"root":                {with, "POST", "/", 404},
		"more behind it":      {with, "POST", "/validate/new/x", 404},
		"the readiness check": {with, "GET", "/validate/new", 405},
		"another method":      {with, "PUT", "/validate/new", 405},
		"GET of another":      {with, "GET", "/validate/other", 404},
		"without tokens":      {bare, "POST", "/validate", 200},
		"a token too many":    {bare, "POST", "/validate/new", 404},
		"a slash too many":    {bare, "POST", "/validate/", 404},
	} {
		t.Run(name, func(t *testing.T) {
			status, text := tc.h.ask(t, tc.method, tc.path, review(t, 10))
			if status != tc.want || (status == 200) != strings.Contains(text, `"allowed":true`) {
				t.Errorf("status %d, want %d: %s", status, tc.want, text)
			}
		})
	}
	tokens = nil // before the Secret was read
	if status, _ := with.ask(t, "POST", "/validate/", nil); status != 404 {
		t.Errorf("status %d without any token", status)
	}
	tokens = []string{"", "next"}
	if status, _ := with.ask(t, "POST", "/validate", review(t, 10)); status != 200 {
		t.Errorf("status %d while the path without a token is valid", status)
	}
}

// TestWebhookSizes sends the largest legal review, and larger ones.
func TestWebhookSizes(t *testing.T) {
	h := serve(t, nil)
	for n, want := range map[int]int{0: 200, 3 << 20: 200, maxReview: 413, 2 * maxReview: 413} {
		if status, text := h.ask(t, "POST", "/validate", review(t, n)); status != want {
			t.Errorf("%d bytes: status %d, want %d: %s", n, status, want, text)
		}
	}
	if status, text := h.ask(t, "POST", "/validate", []byte("["+strings.Repeat("{},", maxElements+1))); status != 413 || !strings.Contains(text, "larger than any legal") {
		t.Errorf("status %d: %s", status, text)
	}
	if h.bodies.used != 0 || h.small.free != smallBytes || h.large.free != largeBytes {
		t.Errorf("%d bytes are held, %d and %d are free", h.bodies.used, h.small.free, h.large.free)
	}
}

// TestWebhookRefusesBeforeTheBody promises a body without sending it.
func TestWebhookRefusesBeforeTheBody(t *testing.T) {
	h := serve(t, func() []string { return []string{"token"} })
	for _, path := range []string{"/validate/guess", "/validate", "/"} {
		conn, err := tls.Dial("tcp", h.addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", path)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound || !resp.Close {
			t.Errorf("%s: %s, closes %v", path, resp.Status, resp.Close)
		}
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("%s: the connection stays open: %v", path, err)
		}
	}
	if h.bodies.peak != 0 {
		t.Errorf("%d bytes were held", h.bodies.peak)
	}
}

// TestWebhookStalls leaves bodies unfinished for ever: the budget holds, they are dropped in the
// end, and reviews are answered meanwhile.
func TestWebhookStalls(t *testing.T) {
	h := serve(t, nil)
	var conns []net.Conn
	for range 40 {
		conn, err := tls.DialWithDialer(&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}, "tcp", h.addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Skip("there is no 127.0.0.2 here:", err)
		}
		defer conn.Close()
		conns = append(conns, conn)
		go func() {
			fmt.Fprintf(conn, "POST /validate HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", maxReview)
			_, _ = conn.Write(make([]byte, maxReview-64))
		}()
	}
	for range 20 {
		if status, text := h.ask(t, "POST", "/validate", review(t, 10)); status != 200 {
			t.Errorf("status %d: %s", status, text)
		}
	}
	for _, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, context.DeadlineExceeded) {
			t.Error("a stalled connection stays open")
		}
	}
	h.bodies.mu.Lock()
	defer h.bodies.mu.Unlock()
	t.Logf("%d MiB were held at most", h.bodies.peak>>20)
	if h.bodies.peak > bodyBytes || h.bodies.used != 0 {
		t.Errorf("%d bytes were held at most, %d are now", h.bodies.peak, h.bodies.used)
	}
}

func TestWebhookMux(t *testing.T) {
	s := NewWebhook(WebhookOptions{})
	s.Register("/a", http.NotFoundHandler())
	if _, pattern := s.WebhookMux().Handler(&http.Request{Method: http.MethodPost, URL: mustURL(t, "https://x/a")}); pattern != "/a" {
		t.Errorf("pattern %q", pattern)
	}
	defer func() {
		if recover() == nil {
			t.Error("two handlers of one path")
		}
	}()
	s.Register("/a", http.NotFoundHandler())
}
