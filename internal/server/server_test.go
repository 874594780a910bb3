// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
)

// quietLog takes what net/http has to say about connections.
var quietLog = log.New(io.Discard, "", 0)

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// run starts a server until the test ends.
func run(t *testing.T, s *Server, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
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
	return s.Addr().String()
}

func get(t *testing.T, hc *http.Client, u string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := hc.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

func TestProbes(t *testing.T) {
	p := NewProbes()
	srv, err := p.Serve("127.0.0.1:0")
	at := "http://" + run(t, srv, err)
	fails := healthz.Checker(func(*http.Request) error { return errors.New("it is away") })
	check := func(path string, status int, text string) {
		t.Helper()
		if s, body := get(t, http.DefaultClient, at+path); s != status || strings.TrimSpace(body) != text {
			t.Errorf("%s: %d %q, want %d %q", path, s, body, status, text)
		}
	}
	check("/healthz", 200, "ok")
	check("/readyz", 200, "ok")
	for _, err := range []error{p.AddHealthzCheck("ping", healthz.Ping), p.AddReadyzCheck("api", fails), p.AddReadyzCheck("ping", healthz.Ping)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	check("/healthz", 200, "ok")
	check("/healthz/ping", 200, "ok")
	check("/healthz?verbose", 200, "[+]ping ok")
	check("/readyz", 500, "[-]api failed: it is away\n[+]ping ok")
	check("/readyz/api", 500, "[-]api failed: it is away")
	check("/readyz/", 500, "[-]api failed: it is away\n[+]ping ok")
	check("/readyz?exclude=api", 200, "ok")
	check("/readyz/other", 404, "404 page not found")
	check("/metrics", 404, "404 page not found")
	if err := p.AddReadyzCheck("a/b", fails); err == nil {
		t.Error("a name with a slash")
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "a_gauge", Help: "h"}))
	plain, err := ListenMetrics("127.0.0.1:0", reg, nil)
	at := run(t, plain, err)
	if status, text := get(t, http.DefaultClient, "http://"+at+MetricsPath); status != 200 || !strings.Contains(text, "a_gauge 0") {
		t.Errorf("%d %s", status, text)
	}
	if status, _ := get(t, http.DefaultClient, "http://"+at+"/debug/pprof/"); status != 404 {
		t.Errorf("another path: %d", status)
	}
	secure, err := ListenMetrics("127.0.0.1:0", reg, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	})
	at = run(t, secure, err)
	hc := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer hc.CloseIdleConnections()
	if status, _ := get(t, hc, "https://"+at+MetricsPath); status != 403 {
		t.Errorf("past the filter: %d", status)
	}
}

// TestServerStops ends while a client stalls.
func TestServerStops(t *testing.T) {
	s, err := Listen(Options{
		Name: "test", Addr: "127.0.0.1:0", Handler: http.NotFoundHandler(), MaxConns: 10, MaxPending: 10,
		HeaderTimeout: time.Hour, ReadTimeout: time.Hour, WriteTimeout: time.Hour, IdleTimeout: time.Hour, MaxHeaderBytes: 1 << 10,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(Options{Name: "second", Addr: s.Addr().String(), MaxConns: 1, MaxPending: 1}); err == nil || !strings.Contains(err.Error(), "second") {
		t.Errorf("two on one port: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Start(ctx) }()
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET / HTTP/1.1\r\nHost")); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestErrorLogIsBounded(t *testing.T) {
	lines := 0
	l := &errorLog{limit: rate.NewLimiter(0, 3), logger: funcr.New(func(_, text string) {
		lines++
		if strings.Contains(text, "goroutine") {
			t.Errorf("a stack: %s", text)
		}
	}, funcr.Options{})}
	for range 1000 {
		_, _ = l.Write([]byte("http: TLS handshake error\ngoroutine 1\n"))
	}
	if lines != 3 || l.dropped.Load() != 997 {
		t.Errorf("%d lines, %d dropped", lines, l.dropped.Load())
	}
}

func TestClientCA(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "ca.crt")
	write := func(cert *tls.Certificate) {
		t.Helper()
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	made := func(usage x509.ExtKeyUsage) *tls.Certificate {
		t.Helper()
		cert, err := selfSigned("client", usage)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	if _, err := NewClientCA(file); err == nil {
		t.Error("no file")
	}
	first, second, serves := made(x509.ExtKeyUsageClientAuth), made(x509.ExtKeyUsageClientAuth), made(x509.ExtKeyUsageServerAuth)
	write(first)
	ca, err := NewClientCA(file)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	srv.TLS = &tls.Config{}
	ca.Require(srv.TLS)
	srv.Config.ErrorLog = quietLog
	srv.StartTLS()
	defer srv.Close()
	connect := func(certs ...*tls.Certificate) error {
		conf := &tls.Config{InsecureSkipVerify: true}
		for _, c := range certs {
			conf.Certificates = append(conf.Certificates, *c)
		}
		hc := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
		resp, err := hc.Get(srv.URL)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	for name, tc := range map[string]struct {
		certs []*tls.Certificate
		ok    bool
	}{
		"none": {nil, false}, "of the authority": {[]*tls.Certificate{first}, true}, "of another": {[]*tls.Certificate{second}, false},
		"for servers": {[]*tls.Certificate{serves}, false}, "its own": {[]*tls.Certificate{ca.Self()}, true},
	} {
		if err := connect(tc.certs...); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The file changes; a bad one leaves the last good one in use.
	old := func() {
		ca.mu.Lock()
		ca.read = time.Time{}
		ca.mu.Unlock()
	}
	write(second)
	old()
	if err := connect(second); err != nil {
		t.Error("the new authority:", err)
	}
	if err := os.WriteFile(file, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	old()
	if err := connect(second); err != nil {
		t.Error("with a bad file:", err)
	}
	if err := connect(first); err == nil {
		t.Error("the authority that was taken out is still believed")
	}
}
