// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"batchcompute.dev/operator/internal/notify/event"
	"batchcompute.dev/operator/internal/retry"
)

var at = time.Date(2026, 11, 30, 8, 0, 0, 0, time.UTC)

func clock() time.Time { return at }

// events returns n events of task instances.
func events(n int) []event.Event {
	out := make([]event.Event, n)
	for i := range out {
		out[i] = event.Event{Name: event.TaskInstanceSucceed, Time: at,
			Subject: event.Subject{Namespace: "films", Object: "trailer", JobID: "job-1a2b3c4d", Task: "render", Index: int64(i)}}
	}
	return out
}

// serve starts a receiver, and returns a sink for it.
func serve(t *testing.T, c Config, handler http.HandlerFunc) *HTTP {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	c.URL = s.URL + c.URL
	return open(t, c)
}

func open(t *testing.T, c Config) *HTTP {
	t.Helper()
	h, err := NewHTTP(c, clock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// TestFormats has the SDK's receiver read what is sent.
func TestFormats(t *testing.T) {
	t.Parallel()
	for _, format := range []Format{Structured, Binary, Batch} {
		var ids []string
		requests := 0
		h := serve(t, Config{Format: format, BatchSize: 3, Origin: event.Origin{Cluster: "https://cluster.example"}}, func(_ http.ResponseWriter, r *http.Request) {
			requests++
			if cehttp.IsHTTPBatch(r.Header) {
				got, err := cehttp.NewEventsFromHTTPRequest(r)
				if err != nil {
					t.Error(err)
				}
				for _, e := range got {
					ids = append(ids, e.ID())
				}
				return
			}
			e, err := cehttp.NewEventFromHTTPRequest(r)
			if err != nil {
				t.Error(err)
				return
			}
			ids = append(ids, e.ID())
			if err := e.Validate(); err != nil || !json.Valid(e.Data()) || !e.Time().Equal(at) || e.Extensions()["partitionkey"] != "job-1a2b3c4d" {
				t.Errorf("%s: %v, %v", format, e, err)
			}
		})
		in := events(7)
		if err := h.Send(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		want := map[Format]int{Structured: 7, Binary: 7, Batch: 3}[format]
		if requests != want || len(ids) != 7 {
			t.Errorf("%s: %d requests, want %d; %d events", format, requests, want, len(ids))
		}
		for i := range ids {
			if ids[i] != in[i].ID() {
				t.Errorf("%s: event %d is %s", format, i, ids[i])
			}
		}
	}
}

func TestVendorFormat(t *testing.T) {
	t.Parallel()
	h := serve(t, Config{Format: Vendor}, func(_ http.ResponseWriter, r *http.Request) {
		var body struct{ Events []struct{ EventName string } }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || len(body.Events) != 2 || body.Events[1].EventName != "TASK_INSTANCE_SUCCEED" {
			t.Errorf("%v, %v", body, err)
		}
	})
	if err := h.Send(t.Context(), events(2)); err != nil {
		t.Fatal(err)
	}
}

func TestEscape(t *testing.T) {
	t.Parallel()
	if got, want := escape("a \"%é~"), "a%20%22%25%C3%A9~"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// verify is how a receiver checks a signature.
func verify(key []byte, r *http.Request, body []byte) bool {
	want := Sign(key, r.Header.Get(HeaderID), r.Header.Get(HeaderTimestamp), body)
	return hmac.Equal([]byte(want), []byte(r.Header.Get(HeaderSignature))) // takes the same time wherever they differ
}

func TestAuth(t *testing.T) {
	t.Parallel()
	key := []byte("0123456789abcdef")
	for name, tc := range map[string]struct {
		auth  Auth
		check func(*http.Request, []byte) bool
	}{
		"none":   {Auth{}, func(r *http.Request, _ []byte) bool { return r.Header.Get("Authorization") == "" }},
		"bearer": {Auth{Bearer: "tok"}, func(r *http.Request, _ []byte) bool { return r.Header.Get("Authorization") == "Bearer tok" }},
		"basic": {Auth{Username: "u", Password: "p:q"}, func(r *http.Request, _ []byte) bool {
			u, p, ok := r.BasicAuth()
			return ok && u == "u" && p == "p:q"
		}},
		"hmac": {Auth{HMACKey: key}, func(r *http.Request, body []byte) bool {
			return verify(key, r, body) && r.Header.Get(HeaderTimestamp) == "1796025600" &&
				!verify([]byte("another key 1234"), r, body) && !verify(key, r, append(body, ' '))
		}},
	} {
		h := serve(t, Config{Format: Batch, Auth: tc.auth}, func(_ http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if !tc.check(r, body) {
				t.Errorf("%s: %v", name, r.Header)
			}
		})
		if err := h.Send(t.Context(), events(2)); err != nil {
			t.Error(err)
		}
	}
}

// TestAnswers checks the classes of errors, and that nothing secret is in them.
func TestAnswers(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3tvalue"
	answer := func(status int, header, value, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if header != "" {
				w.Header().Set(header, value)
			}
			w.WriteHeader(status)
			io.WriteString(w, body+r.Header.Get("Authorization")+r.URL.RawQuery+r.URL.Path) //nolint:errcheck // a test
		}
	}
	for name, tc := range map[string]struct {
		handler http.HandlerFunc
		class   retry.Class
		delay   time.Duration
		want    string
	}{
		"refused":          {answer(400, "", "", "no\x1b[31m such field "), retry.Terminal, 0, "answered 400: no such field"},
		"gone":             {answer(410, "", "", ""), retry.Terminal, 0, "410"},
		"credentials":      {answer(401, "", "", ""), retry.Transient, 0, "401"},
		"not found":        {answer(404, "", "", ""), retry.Transient, 0, "404"},
		"broken":           {answer(500, "", "", ""), retry.Transient, 0, "500"},
		"seconds":          {answer(429, "Retry-After", "7", ""), retry.Wait, 7 * time.Second, "429"},
		"many seconds":     {answer(503, "Retry-After", "999999999999", ""), retry.Wait, time.Hour, "503"},
		"date":             {answer(503, "Retry-After", at.Add(time.Minute).Format(http.TimeFormat), ""), retry.Wait, time.Minute, "503"},
		"date in the past": {answer(503, "Retry-After", at.Add(-time.Minute).Format(http.TimeFormat), ""), retry.Wait, 0, "503"},
		"bad delay":        {answer(503, "Retry-After", "-3", ""), retry.Transient, 0, "503"},
		"redirect":         {answer(307, "Location", "https://other.example/x?t="+secret, ""), retry.Transient, 0, "a redirect to https://other.example, which"},
		"large answer": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			w.Write(bytes.Repeat([]byte("x "), 5<<20)) //nolint:errcheck // a test
		}, retry.Transient, 0, "500: x x"},
		"large headers":     {answer(200, "X-Large", strings.Repeat("x", 1<<20), ""), retry.Transient, 0, "headers exceeded"},
		"closes afterwards": {func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body); panic(http.ErrAbortHandler) }, retry.Transient, 0, "EOF"}, //nolint:errcheck // a test
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requests := atomic.Int64{}
			h := serve(t, Config{URL: "/" + secret + "?k=" + secret, Format: Structured, Auth: Auth{Bearer: secret}}, func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				tc.handler(w, r)
			})
			err := h.Send(t.Context(), events(2))
			if err == nil {
				t.Fatal("no error")
			}
			class, delay := retry.Of(err)
			if class != tc.class || delay != tc.delay || !strings.Contains(err.Error(), tc.want) || SentBefore(err) != 0 {
				t.Errorf("class %d, delay %s, %v", class, delay, err)
			}
			if strings.Contains(err.Error(), secret) || len(err.Error()) > 2*maxAnswer || requests.Load() != 1 {
				t.Errorf("%d requests, %d bytes: %v", requests.Load(), len(err.Error()), err)
			}
		})
	}
}

// TestLargeSuccess checks that the body of a success is not read to its end.
func TestLargeSuccess(t *testing.T) {
	t.Parallel()
	h := serve(t, Config{Format: Structured}, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil { // until the sink closes the connection
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	if err := h.Send(t.Context(), events(1)); err != nil {
		t.Error(err)
	}
}

// TestRefusedInBatch checks that the event that is refused is found, and that those before it arrive.
func TestRefusedInBatch(t *testing.T) {
	t.Parallel()
	requests := 0
	h := serve(t, Config{Format: Batch}, func(w http.ResponseWriter, r *http.Request) {
		requests++
		body, _ := io.ReadAll(r.Body)
		if bytes.Contains(body, []byte("/render/61/")) {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	err := h.Send(t.Context(), events(100))
	if class, _ := retry.Of(err); err == nil || class != retry.Terminal || SentBefore(fmt.Errorf("wrapped: %w", err)) != 61 || requests > 14 {
		t.Errorf("%d sent with %d requests: %v", SentBefore(err), requests, err)
	}
}

func TestHang(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	arrived := make(chan struct{}, 2)
	hang := func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) //nolint:errcheck // a test
		arrived <- struct{}{}
		<-done
	}
	slow, ended := serve(t, Config{Format: Structured, Timeout: 50 * time.Millisecond}, hang), serve(t, Config{Format: Structured}, hang)
	t.Cleanup(func() { close(done) })
	err := slow.Send(t.Context(), events(1))
	if class, _ := retry.Of(err); err == nil || class != retry.Transient || !strings.Contains(err.Error(), "no answer within 50ms") {
		t.Errorf("hangs: %v", err)
	}
	<-arrived
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	if err := ended.Send(ctx, events(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// certificate returns a certificate for 127.0.0.1 that signs itself.
func certificate(t *testing.T, until time.Time) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: at.AddDate(-20, 0, 0), NotAfter: until, IsCA: true,
		BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestTLS(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		until time.Time
		ca    bool
		guard *Guard
		want  string
	}{
		"own authority": {at.AddDate(100, 0, 0), true, nil, ""},
		"unknown":       {at.AddDate(100, 0, 0), false, nil, "unknown authority"},
		"expired":       {at.AddDate(-10, 0, 0), true, nil, "expired"},
		"guarded":       {at.AddDate(100, 0, 0), true, &Guard{}, "not public"},
	} {
		cert, ca := certificate(t, tc.until)
		requests := atomic.Int64{}
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
		s.Config.ErrorLog = nil
		s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
		s.StartTLS()
		t.Cleanup(s.Close)
		c := Config{URL: s.URL, Format: Structured, Guard: tc.guard}
		if tc.ca {
			c.CA = ca
		}
		err := open(t, c).Send(t.Context(), events(1))
		if (err == nil) != (tc.want == "") || err != nil && (!strings.Contains(err.Error(), tc.want) || requests.Load() != 0) {
			t.Errorf("%s: %v, %d requests", name, err, requests.Load())
		}
	}
}

func TestGuard(t *testing.T) {
	t.Parallel()
	g := &Guard{Also: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}}
	for _, a := range []string{
		"127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.100.100.200",
		"224.0.0.1", "255.255.255.255", "168.63.129.16", "203.0.113.7", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254",
		"ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:203.0.113.7", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001::1", "fec0::1",
	} {
		if err := g.Control("tcp", netip.AddrPortFrom(netip.MustParseAddr(a), 443).String(), nil); !errors.Is(err, errGuarded) {
			t.Errorf("%s: %v", a, err)
		}
	}
	for _, a := range []string{"8.8.8.8", "172.32.0.1", "::ffff:8.8.8.8", "2606:4700::1111"} {
		if err := g.Control("tcp", netip.AddrPortFrom(netip.MustParseAddr(a), 443).String(), nil); err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
	if g.Control("tcp", "nonsense", nil) == nil {
		t.Error("no error for an address that cannot be read")
	}
	// A name is checked after it was resolved.
	err := open(t, Config{URL: "https://localhost:9", Format: Structured, Guard: g}).Send(t.Context(), events(1))
	if err == nil || !strings.Contains(err.Error(), "not public") {
		t.Errorf("localhost: %v", err)
	}
}

// TestProxy checks that an administrator's sink uses the proxy of the environment, and a guarded one does not.
func TestProxy(t *testing.T) {
	asked := ""
	proxy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked += r.Host }))
	defer proxy.Close()
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("NO_PROXY", "")
	if err := open(t, Config{URL: "http://sink.example/", Format: Structured}).Send(t.Context(), events(1)); err != nil || asked != "sink.example" {
		t.Errorf("%q, %v", asked, err)
	}
	if h := open(t, Config{URL: "https://sink.example/", Format: Structured, Guard: &Guard{}}); h.client.Transport.(*http.Transport).Proxy != nil {
		t.Error("a guarded sink uses a proxy")
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	key := []byte("0123456789abcdef")
	for name, c := range map[string]Config{
		"no URL":           {Format: Batch},
		"scheme":           {URL: "ftp://h", Format: Batch},
		"user":             {URL: "https://u:hidden@h", Format: Batch},
		"broken URL":       {URL: "https://h/%zzhidden", Format: Batch},
		"guard, no https":  {URL: "http://h", Format: Batch, Guard: &Guard{}},
		"format":           {URL: "https://h", Format: "hidden"},
		"timeout":          {URL: "https://h", Format: Batch, Timeout: time.Hour},
		"batch size":       {URL: "https://h", Format: Batch, BatchSize: 1001},
		"CA":               {URL: "https://h", Format: Batch, CA: "hidden"},
		"origin":           {URL: "https://h", Format: Batch, Origin: event.Origin{Cluster: "hidden"}},
		"two proofs":       {URL: "https://h", Format: Batch, Auth: Auth{Bearer: "hidden", HMACKey: key}},
		"bearer":           {URL: "https://h", Format: Batch, Auth: Auth{Bearer: "hidden\n"}},
		"password alone":   {URL: "https://h", Format: Batch, Auth: Auth{Password: "hidden"}},
		"colon in user":    {URL: "https://h", Format: Batch, Auth: Auth{Username: "a:hidden"}},
		"short key":        {URL: "https://h", Format: Batch, Auth: Auth{HMACKey: []byte("hidden")}},
		"key, binary form": {URL: "https://h", Format: Binary, Auth: Auth{HMACKey: key}},
	} {
		if _, err := NewHTTP(c, clock); err == nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
