// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"context"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"batchcompute.dev/operator/internal/notify/event"
	"batchcompute.dev/operator/internal/notify/sink"
)

// resolveTo has the tests of this package resolve names by a DNS server with these addresses. It changes the process, so
// no test of the package may run in parallel.
func resolveTo(t *testing.T, addresses map[string][]string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	before := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	t.Cleanup(func() {
		net.DefaultResolver = before
		_ = conn.Close()
	})
	go func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			if answer := answerDNS(buffer[:n], addresses); answer != nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	}()
}

// answerDNS returns the answer to a query.
func answerDNS(query []byte, addresses map[string][]string) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	found := addresses[strings.TrimSuffix(q.Name.String(), ".")]
	m.Response, m.Additionals = true, nil
	if found == nil {
		m.RCode = dnsmessage.RCodeNameError
	}
	header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
	for _, text := range found {
		switch a := netip.MustParseAddr(text); {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: a.As4()}})
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	out, err := m.Pack()
	if err != nil {
		return nil
	}
	return out
}

// server is a receiver with TLS that counts requests, and whose certificate is for the names below example.com.
func server(t *testing.T, answer http.HandlerFunc) (port, ca string, requests *atomic.Int32) {
	t.Helper()
	requests = new(atomic.Int32)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		answer(w, r)
	}))
	s.StartTLS()
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port(), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})), requests
}

var oneEvent = []event.Event{{
	Name: event.JobSucceed, Subject: event.Subject{Namespace: "films", Object: "job", JobID: "job-1a2b3c4d"}, Time: time.Unix(1e9, 0),
}}

// userTopics are Topics whose users may send to the names below example.com at a port. They trust a CA, and, if guarded
// is false, connect to addresses that are not public.
func userTopics(t *testing.T, port, ca string, guarded bool) *fixture {
	t.Helper()
	f := newFixture(t, fmt.Sprintf("  userSinks: {allowedHosts: ['*.example.com:%s'], refusedNetworks: [203.0.113.0/24, '2001:db8:1::/48']}\n", port))
	f.newHTTP = func(c sink.Config) (openSink, error) {
		if c.Guard == nil {
			t.Error("the receiver of a user is not guarded")
		}
		c.CA, c.Timeout = ca, 5*time.Second
		if !guarded {
			c.Guard = nil
		}
		return sink.NewHTTP(c, time.Now)
	}
	return f
}

// TestUserSinkOfCluster: whatever addresses a name has, no request goes to one that is not public. Names are resolved when
// the sink connects, so a name that has another address later is no way around it.
func TestUserSinkOfCluster(t *testing.T) {
	port, ca, requests := server(t, func(http.ResponseWriter, *http.Request) {})
	hosts := map[string][]string{
		"loopback.example.com":    {"127.0.0.1"},
		"loopback6.example.com":   {"::1"},
		"mapped.example.com":      {"::ffff:127.0.0.1"},
		"private.example.com":     {"::ffff:10.0.0.1"},
		"metadata.example.com":    {"169.254.169.254"},
		"metadata6.example.com":   {"fd00:ec2::254"},
		"service.example.com":     {"10.96.0.1"},
		"service6.example.com":    {"fd12:3456::1"},
		"pod.example.com":         {"192.168.7.8", "172.16.0.9"},
		"nat64.example.com":       {"64:ff9b::a00:1"},
		"carrier.example.com":     {"100.64.0.1"},
		"this.example.com":        {"0.0.0.0"},
		"unspecified.example.com": {"::"},
		"linklocal.example.com":   {"fe80::1"},
		"refused.example.com":     {"203.0.113.7"},
		"refused6.example.com":    {"2001:db8:1::7"},
		"several.example.com":     {"10.0.0.1", "127.0.0.1", "::1"},
	}
	resolveTo(t, hosts)
	f := userTopics(t, port, ca, true)
	for host := range hosts {
		topic := f.open("films", "mine", "https://"+host+":"+port+"/secret")
		err := topic.Sink.Send(t.Context(), oneEvent)
		if err == nil || !strings.Contains(err.Error(), "the address is not public") || strings.Contains(err.Error(), "/secret") {
			t.Errorf("%s: %v", host, err)
		}
		topic.Release()
	}
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests arrived", n)
	}
	// The same without the guard, so that it is the guard that refuses.
	open := userTopics(t, port, ca, false).open("films", "mine", "https://loopback.example.com:"+port+"/secret")
	defer open.Release()
	if err := open.Sink.Send(t.Context(), oneEvent); err != nil || requests.Load() != 1 {
		t.Errorf("without a guard: %v, %d requests", err, requests.Load())
	}
}

// TestUserSinkRedirects: an answer cannot send the request on to somebody else.
func TestUserSinkRedirects(t *testing.T) {
	otherPort, _, others := server(t, func(http.ResponseWriter, *http.Request) {})
	var status atomic.Int32
	port, ca, requests := server(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "https://127.0.0.1:"+otherPort+"/metadata")
		w.WriteHeader(int(status.Load()))
	})
	resolveTo(t, map[string][]string{"hooks.example.com": {"127.0.0.1"}})
	topic := userTopics(t, port, ca, false).open("films", "mine", "https://hooks.example.com:"+port)
	defer topic.Release()
	for _, code := range []int32{301, 302, 303, 307, 308} {
		status.Store(code)
		err := topic.Sink.Send(t.Context(), oneEvent)
		if err == nil || !strings.Contains(err.Error(), "a redirect to https://127.0.0.1:"+otherPort+", which is not followed") {
			t.Errorf("%d: %v", code, err)
		}
	}
	if requests.Load() != 5 || others.Load() != 0 {
		t.Errorf("%d requests, and %d after a redirect", requests.Load(), others.Load())
	}
}
