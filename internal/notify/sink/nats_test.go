// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/notify/event"
	"batchcompute.dev/operator/internal/retry"
)

const subject = "batch.events"

// startNATS starts a NATS server with JetStream. The zero options are enough; with the port and the directory of one
// that was stopped it continues with that one's streams.
func startNATS(t *testing.T, o server.Options) *server.Server {
	t.Helper()
	o.Host, o.JetStream, o.NoLog, o.NoSigs = "127.0.0.1", true, true, true
	if o.Port == 0 {
		o.Port = server.RANDOM_PORT
	}
	if o.StoreDir == "" {
		o.StoreDir = t.TempDir()
	}
	s, err := server.NewServer(&o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { stopNATS(s) })
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the server does not start")
	}
	return s
}

func stopNATS(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

// administer returns a client of JetStream.
func administer(t *testing.T, s *server.Server, o ...nats.Option) jetstream.JetStream {
	t.Helper()
	conn, err := nats.Connect(s.ClientURL(), o...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func createStream(t *testing.T, js jetstream.JetStream, c jetstream.StreamConfig) {
	t.Helper()
	c.Name, c.Subjects = "events", []string{"batch.>"}
	if _, err := js.CreateStream(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

// stored returns the ids of the events in the stream, in its order.
func stored(t *testing.T, js jetstream.JetStream) []string {
	t.Helper()
	s, err := js.Stream(t.Context(), "events")
	if err != nil {
		t.Fatal(err)
	}
	ids := []string{}
	for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		var ce cloudevents.Event
		if err := json.Unmarshal(m.Data, &ce); err != nil {
			t.Fatal(err)
		}
		if m.Header.Get("Content-Type") != "application/cloudevents+json" || m.Header.Get("Nats-Msg-Id") != ce.ID() || ce.Validate() != nil || m.Subject != subject {
			t.Errorf("%s: %v, %v", m.Subject, m.Header, ce)
		}
		ids = append(ids, ce.ID())
	}
	return ids
}

// wantIDs fails the test unless the ids are those of the events, in their order.
func wantIDs(t *testing.T, got []string, want []event.Event) {
	t.Helper()
	for i := range want {
		if i >= len(got) || got[i] != want[i].ID() {
			t.Fatalf("event %d of %d is not %s: %d arrived", i, len(want), want[i].ID(), len(got))
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d events arrived instead of %d", len(got), len(want))
	}
}

func openNATS(t *testing.T, c NATSConfig, s *server.Server) *NATS {
	t.Helper()
	if s != nil {
		c.Servers = []string{s.ClientURL()}
	}
	c.Subject = subject
	n, err := NewNATS(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// mixed returns n events of three jobs by turns.
func mixed(n int) []event.Event {
	out := events(n)
	for i := range out {
		out[i].Subject.JobID = fmt.Sprintf("job-%d", i%3)
	}
	return out
}

func TestNATSOrder(t *testing.T) {
	t.Parallel()
	s := startNATS(t, server.Options{})
	js := administer(t, s)
	createStream(t, js, jetstream.StreamConfig{})
	n := openNATS(t, NATSConfig{Origin: event.Origin{Cluster: "https://cluster.example"}}, s)
	in := append(mixed(200), events(50)...)
	for range 2 { // the second time all are duplicates
		if err := n.Send(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	wantIDs(t, stored(t, js), in)
}

func TestRunOf(t *testing.T) {
	t.Parallel()
	many := events(2 * maxRun)
	for i := range many {
		many[i].Subject.JobID = fmt.Sprintf("job-%d", i)
	}
	for name, tc := range map[string]struct {
		in   []event.Event
		want int
	}{"none": {nil, 0}, "one owner": {events(5), 1}, "three owners": {mixed(9), 3}, "other owners": {many, maxRun}, "two": {many[:2], 2}} {
		if got := runOf(tc.in); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

// TestNATSRestart stops the server between two calls of Send, and starts it again.
func TestNATSRestart(t *testing.T) {
	t.Parallel()
	dir, in := t.TempDir(), mixed(30)
	s := startNATS(t, server.Options{StoreDir: dir})
	createStream(t, administer(t, s), jetstream.StreamConfig{})
	n := openNATS(t, NATSConfig{}, s)
	if err := n.Send(t.Context(), in[:10]); err != nil {
		t.Fatal(err)
	}
	port := s.Addr().(*net.TCPAddr).Port
	stopNATS(s)
	for range 3 {
		wantTransient(t, n.Send(t.Context(), in[10:]), "to ")
	}
	wantTransient(t, n.Send(t.Context(), in[10:]), "connecting to nats://127.0.0.1:")
	s = startNATS(t, server.Options{StoreDir: dir, Port: port})
	if err := n.Send(t.Context(), in[10:]); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, stored(t, administer(t, s)), in)
}

// wantTransient fails the test unless the error is Transient and contains the text.
func wantTransient(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if class, _ := retry.Of(err); class != retry.Transient || !strings.Contains(err.Error(), want) || len(err.Error()) > 2*maxAnswer {
		t.Errorf("class %d, %v; want Transient with %q", class, err, want)
	}
}

// proxy passes connections on to an address, and closes each one when it has passed bytes towards the client.
func proxy(t *testing.T, to string, bytes int64) string {
	t.Helper()
	return listen(t, func(client net.Conn) {
		upstream, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer upstream.Close()
		go io.Copy(upstream, client)      //nolint:errcheck // a test
		io.CopyN(client, upstream, bytes) //nolint:errcheck // a test
	})
}

// listen serves connections until the test ends.
func listen(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				handle(c)
			}()
		}
	}()
	return l.Addr().String()
}

// TestNATSBrokenConnections sends through connections that break in the middle of acknowledgements.
func TestNATSBrokenConnections(t *testing.T) {
	t.Parallel()
	s := startNATS(t, server.Options{})
	js := administer(t, s)
	createStream(t, js, jetstream.StreamConfig{})
	n := openNATS(t, NATSConfig{Servers: []string{"nats://" + proxy(t, s.Addr().String(), 2000)}}, nil)
	in, sent, failures := mixed(300), 0, 0
	for sent < len(in) {
		err := n.Send(t.Context(), in[sent:])
		if err == nil {
			break
		}
		if class, _ := retry.Of(err); class != retry.Transient {
			t.Fatal(err)
		}
		sent += SentBefore(err)
		failures++
		if failures > len(in) {
			t.Fatal(err)
		}
	}
	wantIDs(t, stored(t, js), in)
	if failures == 0 {
		t.Error("no connection broke")
	}
}

func TestNATSRefusals(t *testing.T) {
	t.Parallel()
	large := events(3)
	large[1].Vars = []v1alpha1.EventVar{{Name: "x", Value: strings.Repeat("x", 900)}}
	for name, tc := range map[string]struct {
		server server.Options
		stream *jetstream.StreamConfig
		auth   NATSAuth
		class  retry.Class
		sent   int
		want   string
	}{
		"no stream":        {class: retry.Transient, want: "no JetStream stream captures this subject"},
		"full":             {stream: &jetstream.StreamConfig{MaxMsgs: 2, Discard: jetstream.DiscardNew}, class: retry.Transient, sent: 2, want: "maximum messages exceeded"},
		"large for stream": {stream: &jetstream.StreamConfig{MaxMsgSize: 1100}, class: retry.Terminal, sent: 1, want: "message size exceeds maximum allowed"},
		"large for server": {server: server.Options{MaxPayload: 1100}, stream: &jetstream.StreamConfig{}, class: retry.Terminal, sent: 1, want: "maximum payload exceeded"},
		"wrong password":   {server: server.Options{Username: "u", Password: "right"}, auth: NATSAuth{Username: "u", Password: "s3cr3tvalue"}, class: retry.Transient, want: "Authorization Violation"},
		"wrong token":      {server: server.Options{Authorization: "right"}, auth: NATSAuth{Token: "s3cr3tvalue"}, class: retry.Transient, want: "Authorization Violation"},
		"no permission": {server: server.Options{Users: []*server.User{{Username: "u", Password: "s3cr3tvalue", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Deny: []string{"batch.>"}}}}}}, auth: NATSAuth{Username: "u", Password: "s3cr3tvalue"},
			class: retry.Transient, want: "permissions violation"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startNATS(t, tc.server)
			if tc.stream != nil {
				createStream(t, administer(t, s), *tc.stream)
			}
			err := openNATS(t, NATSConfig{Auth: tc.auth}, s).Send(t.Context(), large)
			if class, _ := retry.Of(err); err == nil || class != tc.class || SentBefore(err) != tc.sent || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(tc.want)) || strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("class %d, %d sent, %v", class, SentBefore(err), err)
			}
		})
	}
}

// TestNATSStreamCreatedLater checks that a missing stream is no lasting failure.
func TestNATSStreamCreatedLater(t *testing.T) {
	t.Parallel()
	s := startNATS(t, server.Options{})
	n, js := openNATS(t, NATSConfig{}, s), administer(t, s)
	wantTransient(t, n.Send(t.Context(), events(2)), "publishing to subject batch.events: no JetStream stream")
	createStream(t, js, jetstream.StreamConfig{})
	if err := n.Send(t.Context(), events(2)); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, stored(t, js), events(2))
}

func TestNATSAuth(t *testing.T) {
	t.Parallel()
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, _ := key.PublicKey()
	seed, _ := key.Seed()
	for name, tc := range map[string]struct {
		server server.Options
		auth   NATSAuth
		admin  nats.Option
	}{
		"password": {server.Options{Username: "u", Password: "p"}, NATSAuth{Username: "u", Password: "p"}, nats.UserInfo("u", "p")},
		"token":    {server.Options{Authorization: "tok"}, NATSAuth{Token: "tok"}, nats.Token("tok")},
		"nkey":     {server.Options{Nkeys: []*server.NkeyUser{{Nkey: public}}}, NATSAuth{Credentials: string(seed) + "\n"}, nats.Nkey(public, key.Sign)},
	} {
		s := startNATS(t, tc.server)
		createStream(t, administer(t, s, tc.admin), jetstream.StreamConfig{})
		if err := openNATS(t, NATSConfig{Auth: tc.auth}, s).Send(t.Context(), events(1)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNATSTLS(t *testing.T) {
	t.Parallel()
	cert, ca := certificate(t, at.AddDate(100, 0, 0))
	_, other := certificate(t, at.AddDate(100, 0, 0))
	s := startNATS(t, server.Options{TLS: true, TLSTimeout: 60, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}})
	security, err := tlsConfig(ca)
	if err != nil {
		t.Fatal(err)
	}
	createStream(t, administer(t, s, nats.Secure(security)), jetstream.StreamConfig{})
	plain := startNATS(t, server.Options{})
	address := s.Addr().String()
	for name, tc := range map[string]struct{ server, ca, want string }{
		"own authority":     {"tls://" + address, ca, ""},
		"asked for":         {"nats://" + address, ca, ""},
		"unknown authority": {"tls://" + address, "", "unknown authority"},
		"not asked for":     {"nats://" + address, "", "unknown authority"},
		"other authority":   {"tls://" + address, other, "certificate"},
		"without TLS":       {"tls://" + plain.Addr().String(), "", "secure connection not available"},
		"without TLS, CA":   {"nats://" + plain.Addr().String(), ca, "secure connection not available"},
	} {
		err := openNATS(t, NATSConfig{Servers: []string{tc.server}, CA: tc.ca}, nil).Send(t.Context(), events(1))
		if tc.want == "" && err != nil {
			t.Errorf("%s: %v", name, err)
		} else if tc.want != "" {
			wantTransient(t, err, tc.want)
		}
	}
}

// TestNATSHostile has servers that do not follow the protocol.
func TestNATSHostile(t *testing.T) {
	t.Parallel()
	info := `INFO {"server_id":"x","version":"2.15.0","proto":1,"headers":true,"max_payload":1048576,"connect_urls":["127.0.0.1:1"]}` + "\r\n"
	// greet answers until something is published.
	greet := func(c net.Conn) *bufio.Reader {
		io.WriteString(c, info) //nolint:errcheck // a test
		r := bufio.NewReader(c)
		for {
			line, err := r.ReadString('\n')
			switch {
			case err != nil, strings.HasPrefix(line, "HPUB"):
				return r
			case strings.HasPrefix(line, "PING"):
				io.WriteString(c, "PONG\r\n") //nolint:errcheck // a test
			}
		}
	}
	read := func(r io.Reader) { io.Copy(io.Discard, r) } //nolint:errcheck // a test
	var passed atomic.Int64
	endless := func(c net.Conn) {
		for {
			n, err := c.Write([]byte(strings.Repeat("x", 1<<12)))
			passed.Add(int64(n))
			if err != nil {
				return
			}
		}
	}
	for name, tc := range map[string]struct {
		handle func(net.Conn)
		want   string
	}{
		"silent":             {func(c net.Conn) { read(c) }, "no answer within 300ms"},
		"no acknowledgement": {func(c net.Conn) { read(greet(c)) }, "publishing to subject batch.events: no answer within 300ms"},
		"closes":             {func(c net.Conn) { greet(c) }, "publishing to subject batch.events: "},
		"endless greeting":   {endless, "more than its protocol needs"},
		"endless later":      {func(c net.Conn) { greet(c); endless(c) }, "publishing to subject batch.events: "},
		"text": {func(c net.Conn) {
			r := greet(c)
			io.WriteString(c, "-ERR 'no \x1b[31m s3cr3tvalue "+strings.Repeat("y ", 1<<10)+"'\r\n") //nolint:errcheck // a test
			read(r)
		}, "no  REDACTED y y"},
		"other protocol": {func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }, "connecting to nats://127.0.0.1"}, //nolint:errcheck // a test
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := time.Minute
			if strings.Contains(tc.want, "300ms") {
				timeout = 300 * time.Millisecond
			}
			n := openNATS(t, NATSConfig{Servers: []string{"nats://" + listen(t, tc.handle)}, Timeout: timeout, Auth: NATSAuth{Token: "s3cr3tvalue"}}, nil)
			err := n.Send(t.Context(), events(2))
			wantTransient(t, err, tc.want)
			if s := err.Error(); strings.Contains(s, "s3cr3t") || strings.Contains(s, "\x1b") {
				t.Errorf("%q", s)
			}
		})
	}
	t.Cleanup(func() {
		if passed.Load() > 64<<20 { // what fits into the buffers of the system
			t.Errorf("%d bytes were accepted", passed.Load())
		}
	})
}

func TestNATSContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	n := openNATS(t, NATSConfig{Servers: []string{"nats://" + listen(t, func(c net.Conn) { cancel(); io.Copy(io.Discard, c) })}}, nil) //nolint:errcheck // a test
	if err := n.Send(ctx, events(1)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	n.Close()
	n.Close()
	if err := n.Send(t.Context(), events(1)); !errors.Is(err, errClosed) {
		t.Error(err)
	}
}

// TestNATSClose closes a sink while it waits for an answer, and one that is idle. It is not parallel, so that no other
// test has goroutines of the client.
func TestNATSClose(t *testing.T) {
	s := startNATS(t, server.Options{})
	conn, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	createStream(t, js, jetstream.StreamConfig{})
	conn.Close()
	idle := openNATS(t, NATSConfig{}, s)
	if err := idle.Send(t.Context(), events(3)); err != nil {
		t.Fatal(err)
	}
	if !hasGoroutine("nats-io/nats.go") {
		t.Error("a sink that is open has no goroutine: this test finds nothing")
	}
	accepted, done := make(chan struct{}), make(chan error)
	waiting := openNATS(t, NATSConfig{Servers: []string{"nats://" + listen(t, func(c net.Conn) { close(accepted); io.Copy(io.Discard, c) })}}, nil) //nolint:errcheck // a test
	go func() { done <- waiting.Send(context.Background(), events(1)) }()
	<-accepted
	idle.Close()
	waiting.Close()
	if err := <-done; !errors.Is(err, errClosed) {
		t.Error(err)
	}
	wantNoGoroutine(t, "nats-io/nats.go")
}

// hasGoroutine reports whether a goroutine has a function of the package on its stack.
func hasGoroutine(pkg string) bool {
	stacks := make([]byte, 1<<20)
	return strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), pkg)
}

// wantNoGoroutine waits until no goroutine has a function of the package on its stack.
func wantNoGoroutine(t *testing.T, pkg string) {
	t.Helper()
	for range 1000 {
		if !hasGoroutine(pkg) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	stacks := make([]byte, 1<<20)
	t.Errorf("goroutines of %s are left:\n%s", pkg, stacks[:runtime.Stack(stacks, true)])
}

func TestNATSConfig(t *testing.T) {
	t.Parallel()
	one := []string{"nats://h"}
	for name, tc := range map[string]struct {
		config NATSConfig
		want   string
	}{
		"no server":        {NATSConfig{Subject: "s"}, "servers"},
		"many servers":     {NATSConfig{Servers: make([]string, 11), Subject: "s"}, "servers"},
		"scheme":           {NATSConfig{Servers: []string{"ws://hidden"}, Subject: "s"}, "servers"},
		"no host":          {NATSConfig{Servers: []string{"nats://:4222"}, Subject: "s"}, "servers"},
		"user":             {NATSConfig{Servers: []string{"nats://u:hidden@h"}, Subject: "s"}, "servers"},
		"path":             {NATSConfig{Servers: []string{"nats://h/hidden"}, Subject: "s"}, "servers"},
		"broken":           {NATSConfig{Servers: []string{"nats://h%zz"}, Subject: "s"}, "servers"},
		"no subject":       {NATSConfig{Servers: one}, "subject"},
		"wildcard":         {NATSConfig{Servers: one, Subject: "a.*"}, "subject"},
		"rest":             {NATSConfig{Servers: one, Subject: "a.>"}, "subject"},
		"empty part":       {NATSConfig{Servers: one, Subject: "a..b"}, "subject"},
		"space":            {NATSConfig{Servers: one, Subject: "a b"}, "subject"},
		"line":             {NATSConfig{Servers: one, Subject: "a\r\nPUB"}, "subject"},
		"of the server":    {NATSConfig{Servers: one, Subject: "$JS.API"}, "subject"},
		"long":             {NATSConfig{Servers: one, Subject: strings.Repeat("a", 256)}, "subject"},
		"timeout":          {NATSConfig{Servers: one, Subject: "s", Timeout: time.Hour}, "timeout"},
		"CA":               {NATSConfig{Servers: one, Subject: "s", CA: "hidden"}, "certificate authorities"},
		"origin":           {NATSConfig{Servers: one, Subject: "s", Origin: event.Origin{Cluster: "hidden"}}, "cluster"},
		"two proofs":       {NATSConfig{Servers: one, Subject: "s", Auth: NATSAuth{Username: "u", Token: "hidden"}}, "at most one"},
		"password alone":   {NATSConfig{Servers: one, Subject: "s", Auth: NATSAuth{Password: "hidden"}}, "password"},
		"credentials":      {NATSConfig{Servers: one, Subject: "s", Auth: NATSAuth{Credentials: "hidden"}}, "credentials"},
		"JWT without seed": {NATSConfig{Servers: one, Subject: "s", Auth: NATSAuth{Credentials: "-----BEGIN NATS USER JWT-----\nhidden\n------END NATS USER JWT------\n"}}, "credentials"},
	} {
		if _, err := NewNATS(tc.config); err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
