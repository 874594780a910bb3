// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/notify/event"
	"batchcompute.dev/operator/internal/notify/sink"
)

// fakeSink is a sink that notes how it was configured, and whether it was used after it was closed.
type fakeSink struct {
	config sink.Config
	closed atomic.Bool
}

func (s *fakeSink) Send(context.Context, []event.Event) error {
	if s.closed.Load() {
		return errors.New("it is closed")
	}
	return nil
}

func (s *fakeSink) Close() {
	if s.closed.Swap(true) {
		panic("it is closed twice")
	}
}

// fixture is Topics with a catalogue and a Secret that can be changed.
type fixture struct {
	*Topics
	t       *testing.T
	catalog atomic.Pointer[catalog.Catalog]
	dir     string
	version int
}

// newFixture returns one whose sinks for HTTP are fake.
func newFixture(t *testing.T, section string) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: t.TempDir()}
	f.configure(section)
	f.Topics = New(Options{Catalog: f.catalog.Load, SecretsDir: f.dir, Now: time.Now})
	f.newHTTP = func(c sink.Config) (openSink, error) {
		if _, err := sink.NewHTTP(c, time.Now); err != nil {
			return nil, err
		}
		return &fakeSink{config: c}, nil
	}
	return f
}

func (f *fixture) configure(section string) {
	f.t.Helper()
	c, err := catalog.Parse([]byte("apiVersion: config.batchcompute.dev/v1alpha1\nkind: Catalog\nnotifications:\n" + section))
	if err != nil {
		f.t.Fatal(err)
	}
	f.catalog.Store(c)
}

// secret replaces the Secret in the way of the kubelet: a new directory, to which a link is turned over.
func (f *fixture) secret(keys map[string]string) {
	f.t.Helper()
	f.version++
	name := fmt.Sprintf("..version_%d", f.version)
	err := os.Mkdir(filepath.Join(f.dir, name), 0o700)
	for key, value := range keys {
		err = errors.Join(err, os.WriteFile(filepath.Join(f.dir, name, key), []byte(value), 0o600))
	}
	link := filepath.Join(f.dir, "..data_new")
	if err := errors.Join(err, os.Symlink(name, link), os.Rename(link, filepath.Join(f.dir, "..data"))); err != nil {
		f.t.Fatal(err)
	}
}

// open opens a topic, which must work.
func (f *fixture) open(namespace, name, sinkURL string) *Topic {
	f.t.Helper()
	got, err := f.Open(namespace, name, sinkURL)
	if err != nil {
		f.t.Fatalf("%s in %s: %v", name, namespace, err)
	}
	return got
}

func configOf(t *Topic) sink.Config { return t.Sink.(*fakeSink).config }

const two = `
  cluster: https://prod.example
  region: r
  deliveryTimeout: 5h
  topics:
  - {name: done, namespaces: [films], http: {url: "https://films.example.com/x", bearerKey: films}}
  - {name: done, http: {url: "https://events.example.com:8443", format: batch, batchSize: 7, timeout: 3s, usernameKey: u, passwordKey: p}}
  - {name: also-done, http: {url: "https://events.example.com:8443", format: batch, batchSize: 7, timeout: 3s, usernameKey: u, passwordKey: p}}
  - {name: signed, http: {url: "https://events.example.com", hmacKey: standard}}
  userSinks: {allowedHosts: [hooks.example.com], refusedNetworks: [203.0.113.0/24]}
`

func TestOpen(t *testing.T) {
	f := newFixture(t, two)
	f.secret(map[string]string{"films": "token-1\n", "u": "me", "p": "pass\r\n", "standard": "whsec_c2l4dGVlbiBieXRlcyBvciBtb3Jl"})
	origin := event.Origin{Cluster: "https://prod.example", Region: "r"}
	films, other, also := f.open("films", "done", ""), f.open("games", "done", "https://hooks.example.com"), f.open("films", "also-done", "")
	if films.Origin != origin || films.DeliveryTimeout != 5*time.Hour || f.DeliveryTimeout() != 5*time.Hour {
		t.Errorf("origin %v, timeout %s", films.Origin, films.DeliveryTimeout)
	}
	if films.Receiver != "films.example.com" || other.Receiver != "events.example.com:8443" {
		t.Errorf("receivers %s, %s", films.Receiver, other.Receiver)
	}
	if films.Key == other.Key || films.Sink == other.Sink {
		t.Error("two receivers share a sink")
	}
	if also.Key != other.Key || also.Sink != other.Sink {
		t.Error("topics with the same receiver do not share a sink")
	}
	if again := f.open("films", "done", ""); again.Sink != films.Sink || again.Key != films.Key {
		t.Error("a topic has another sink when it is opened again")
	}
	for name, tc := range map[string]struct {
		topic *Topic
		want  sink.Config
	}{
		"bearer": {films, sink.Config{URL: "https://films.example.com/x", Format: sink.Structured, Origin: origin, Auth: sink.Auth{Bearer: "token-1"}}},
		"basic": {other, sink.Config{
			URL: "https://events.example.com:8443", Format: sink.Batch, Origin: origin, Auth: sink.Auth{Username: "me", Password: "pass"}, BatchSize: 7, Timeout: 3 * time.Second,
		}},
		"HMAC": {f.open("films", "signed", ""), sink.Config{
			URL: "https://events.example.com", Format: sink.Structured, Origin: origin, Auth: sink.Auth{HMACKey: []byte("sixteen bytes or more")},
		}},
	} {
		if diff := cmp.Diff(tc.want, configOf(tc.topic)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestOpenUserSink: the receiver of a user is guarded, and the catalogue's topic goes before it.
func TestOpenUserSink(t *testing.T) {
	f := newFixture(t, two)
	const secretURL = "https://hooks.example.com/hunter2?key=hunter2"
	mine := f.open("films", "mine", secretURL)
	c := configOf(mine)
	if c.URL != secretURL || c.Format != sink.Structured || c.Guard == nil || fmt.Sprint(c.Guard.Also) != "[203.0.113.0/24]" {
		t.Errorf("%+v", c)
	}
	if mine.Receiver != "hooks.example.com" || strings.Contains(mine.Key, "hunter2") {
		t.Errorf("receiver %s, key %s", mine.Receiver, mine.Key)
	}
	if also := f.open("games", "other", secretURL); also.Key != mine.Key || also.Sink != mine.Sink {
		t.Error("topics with the same receiver do not share a sink")
	}
	f.configure(strings.ReplaceAll(two, "203.0.113.0/24", "198.51.100.0/24"))
	if now := f.open("films", "mine", secretURL); now.Sink == mine.Sink || now.Key == mine.Key {
		t.Error("other refused networks need another sink")
	}
	f.configure(strings.ReplaceAll(two, "hooks.example.com", "other.example.com"))
	_, err := f.Open("films", "mine", secretURL)
	if err == nil || strings.Contains(err.Error(), "hunter2") || errors.Is(err, ErrUnknown) ||
		!strings.HasPrefix(err.Error(), "topic mine is not in the operator's catalogue, and the annotation batchcompute.dev/notification-sink must have a host that") {
		t.Errorf("a host that is no longer allowed: %v", err)
	}
}

func TestOpenErrors(t *testing.T) {
	f := newFixture(t, two)
	for name, tc := range map[string]struct {
		topic, want string
		secret      map[string]string
	}{
		"unknown":        {topic: "alerts", want: "topic alerts is unknown; known in this namespace: also-done, done, signed; ask an administrator to add it to notifications.topics of the operator's catalogue"},
		"mistyped":       {topic: "dome", want: "topic dome is unknown (did you mean done?); known in this namespace: also-done, done, signed; ask"},
		"no key":         {topic: "done", want: "topic done cannot be used: the Secret batchcompute-notifications in the operator's namespace has no key films: ask an administrator to add it"},
		"second missing": {topic: "also-done", secret: map[string]string{"u": "me"}, want: "topic also-done cannot be used: the Secret batchcompute-notifications in the operator's namespace has no key p"},
		"empty":          {topic: "done", secret: map[string]string{"films": "\n"}, want: "topic done cannot be used: the key films of the Secret batchcompute-notifications is empty: ask an administrator to set it"},
		"too large":      {topic: "done", secret: map[string]string{"films": strings.Repeat("hunter2", 10000)}, want: "topic done cannot be used: the key films of the Secret batchcompute-notifications cannot be read: it must have at most 65536 bytes"},
		"not usable":     {topic: "done", secret: map[string]string{"films": "hunter2 hunter2"}, want: "topic done cannot be used: the bearer token must be printable ASCII without spaces"},
		"no base64":      {topic: "signed", secret: map[string]string{"standard": "whsec_hunter2!"}, want: "topic signed cannot be used: the key standard of the Secret batchcompute-notifications must be base64 behind whsec_"},
		"short":          {topic: "signed", secret: map[string]string{"standard": "hunter2"}, want: "topic signed cannot be used: the HMAC key must have at least 16 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			f.secret(tc.secret)
			_, err := f.Open("films", tc.topic, "")
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v\nwant %s", err, tc.want)
			}
			if got, want := errors.Is(err, ErrUnknown), strings.Contains(tc.want, "is unknown"); got != want {
				t.Errorf("%v is ErrUnknown: %t, want %t", err, got, want)
			}
		})
	}
	f.secret(map[string]string{"films": "token"})
	f.open("films", "done", "") // whatever was wrong before
	for _, dir := range []string{"", filepath.Join(f.dir, "missing")} {
		none := New(Options{Catalog: f.catalog.Load, SecretsDir: dir, Now: time.Now})
		if _, err := none.Open("films", "done", ""); err == nil || !strings.Contains(err.Error(), "has no key films") {
			t.Errorf("directory %q: %v", dir, err)
		}
	}
	f.Close()
	if _, err := f.Open("films", "done", ""); !errors.Is(err, errClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestOpenChanged: a change of a secret, of a receiver or of the origin yields another sink, another change does not.
func TestOpenChanged(t *testing.T) {
	f := newFixture(t, two)
	keys := map[string]string{"films": "token-1", "u": "me", "p": "pass"}
	f.secret(keys)
	first, other := f.open("films", "done", ""), f.open("games", "done", "")
	expect := func(what string, sameKey, sameSink bool) {
		t.Helper()
		now := f.open("films", "done", "")
		defer now.Release()
		if (now.Key == first.Key) != sameKey || (now.Sink == first.Sink) != sameSink {
			t.Errorf("%s: the key is the same: %t, the sink is: %t", what, now.Key == first.Key, now.Sink == first.Sink)
		}
	}
	f.secret(keys)
	expect("a Secret with the same values", true, true)
	keys["films"] = "token-2"
	f.secret(keys)
	expect("another token", true, false)
	if now := f.open("games", "done", ""); now.Sink != other.Sink {
		t.Error("a topic without the changed key has another sink")
	}
	keys["films"] = "token-1"
	f.secret(keys)
	f.configure(strings.ReplaceAll(two, "5h", "6h"))
	expect("another timeout of the delivery", true, true)
	f.configure(strings.ReplaceAll(two, "films.example.com/x", "films.example.com/y"))
	expect("another URL", false, false)
	f.configure(strings.ReplaceAll(two, "region: r", "region: s"))
	expect("another region", false, false)
	f.configure(strings.ReplaceAll(two, "namespaces: [films]", "namespaces: [films, ops]"))
	expect("another namespace", true, true)
}

// TestOpenConcurrently: many goroutines send while the catalogue and the Secret change; none has a sink that is closed,
// and in the end all are.
func TestOpenConcurrently(t *testing.T) {
	f := newFixture(t, two)
	var mu sync.Mutex
	var made []*fakeSink
	newHTTP := f.newHTTP
	f.newHTTP = func(c sink.Config) (openSink, error) {
		s, err := newHTTP(c)
		if err == nil {
			mu.Lock()
			made = append(made, s.(*fakeSink))
			mu.Unlock()
		}
		return s, err
	}
	f.secret(map[string]string{"films": "token", "u": "me", "p": "pass"})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 300 {
				// So many receivers that sinks are closed as soon as they are released.
				topic, err := f.Open([]string{"films", "games"}[i%2], []string{"done", "mine"}[i/2%2], fmt.Sprintf("https://hooks.example.com/%d", (i*7+g)%(2*maxIdle)))
				if err != nil {
					t.Error(err)
					return
				}
				if err := topic.Sink.Send(t.Context(), nil); err != nil {
					t.Error(err)
				}
				topic.Release()
				topic.Release()
			}
		})
	}
	for i := range 50 {
		f.configure(strings.ReplaceAll(two, "region: r", fmt.Sprintf("region: r%d", i%3)))
		f.secret(map[string]string{"films": fmt.Sprintf("token-%d", i), "u": "me", "p": "pass"})
	}
	wg.Wait()
	last := f.open("films", "done", "")
	f.Close()
	if err := last.Sink.Send(t.Context(), nil); err != nil {
		t.Errorf("a sink in use was closed: %v", err)
	}
	last.Release()
	for _, s := range made {
		if !s.closed.Load() {
			t.Fatal("a sink was not closed")
		}
	}
	if len(f.cache.sinks) > 0 {
		t.Errorf("%d sinks are left", len(f.cache.sinks))
	}
}

// TestCatalogAndSinksAgree: what the catalogue accepts, the sinks accept too.
func TestCatalogAndSinksAgree(t *testing.T) {
	long := strings.Repeat("a", 200)
	for _, in := range []string{
		`http: {url: "http://[fd00::1]:8080/x?y=z", format: batchcompute, batchSize: 1000, timeout: 1m}`,
		`http: {url: "https://H_1.example.com", format: binary, timeout: 1s, bearerKey: k}`,
		`http: {url: "https://h/` + strings.Repeat(long, 10) + `", hmacKey: k}`,
		`nats: {servers: ["nats://n", "tls://[fd00::1]:4222/"], subject: "a.$b-_/~", tokenKey: k, timeout: 1m}`,
		`nats: {servers: ["nats://n"], subject: ` + long + `, usernameKey: k, passwordKey: k, timeout: 1s}`,
		`kafka: {brokers: ["[fd00::1]:65535", "k_1:1"], topic: ` + long + `, timeout: 1s, batchSize: 1000}`,
		`kafka: {brokers: ["k:1"], topic: ._-, timeout: 1m, tls: true, mechanism: PLAIN, usernameKey: k, passwordKey: k}`,
		`kafka: {brokers: ["k:1"], topic: a, format: binary, mechanism: SCRAM-SHA-256, usernameKey: k, passwordKey: k}`,
	} {
		f := newFixture(t, "  cluster: urn:x:"+strings.Repeat("é", 120)+"\n  region: "+strings.Repeat("r", 256)+"\n  topics: [{name: a, "+in+"}]\n")
		f.secret(map[string]string{"k": "0123456789abcdef"})
		f.open("films", "a", "").Release()
		f.Close()
	}
}
