// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/notify/event"
	"batchcompute.dev/operator/internal/retry"
)

const topic = "batch-events"

// startKafka starts kfake, a cluster of Kafka brokers in this process that comes with the client: it speaks Kafka's
// protocol on real connections, checks sequence numbers of producers, SASL and TLS, and can store its records.
func startKafka(t *testing.T, o ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, o...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func openKafka(t *testing.T, c KafkaConfig, cluster *kfake.Cluster) *Kafka {
	t.Helper()
	if cluster != nil {
		c.Brokers = cluster.ListenAddrs()
	}
	if c.Format == "" {
		c.Format = Structured
	}
	c.Topic = topic
	k, err := NewKafka(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

// consume returns the first n records of the topic, by partition.
func consume(t *testing.T, c *kfake.Cluster, n int, o ...kgo.Opt) map[int32][]*kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(append(o, kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics(topic))...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	out := map[int32][]*kgo.Record{}
	for n > 0 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		fetched := client.PollFetches(ctx)
		cancel()
		if err := fetched.Err(); err != nil {
			t.Fatal(err)
		}
		fetched.EachRecord(func(r *kgo.Record) {
			out[r.Partition] = append(out[r.Partition], r)
			n--
		})
	}
	return out
}

// arrived returns the ids of the records of one job, in their order, without repeats, after a check of each.
func arrived(t *testing.T, records map[int32][]*kgo.Record, job string) (ids []string, repeats int) {
	t.Helper()
	had, partition := map[string]bool{}, int32(-1)
	for p, list := range records {
		for _, r := range list {
			if string(r.Key) != job {
				continue
			}
			var ce cloudevents.Event
			if err := json.Unmarshal(r.Value, &ce); err != nil || ce.Validate() != nil || header(r, "content-type") != "application/cloudevents+json" ||
				ce.Extensions()["partitionkey"] != job || partition >= 0 && p != partition {
				t.Fatalf("%v, partition %d: %v", r, p, err)
			}
			partition = p
			if had[ce.ID()] {
				repeats++
				continue
			}
			had[ce.ID()] = true
			ids = append(ids, ce.ID())
		}
	}
	return ids, repeats
}

func header(r *kgo.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// of returns the events of one job.
func of(job string, events []event.Event) []event.Event {
	var out []event.Event
	for _, e := range events {
		if e.Owner() == job {
			out = append(out, e)
		}
	}
	return out
}

// wantDelivered fails the test unless all events of three jobs are in the topic, in the order of each job, and at most
// once more than once.
func wantDelivered(t *testing.T, records map[int32][]*kgo.Record, in []event.Event, maxRepeats int) {
	t.Helper()
	for i := range 3 {
		job := fmt.Sprintf("job-%d", i)
		ids, repeats := arrived(t, records, job)
		wantIDs(t, ids, of(job, in))
		if repeats > maxRepeats {
			t.Errorf("%d repeats", repeats)
		}
	}
}

func TestKafkaOrder(t *testing.T) {
	t.Parallel()
	c := startKafka(t, kfake.NumBrokers(3), kfake.SeedTopics(5, topic))
	k := openKafka(t, KafkaConfig{BatchSize: 70, Origin: event.Origin{Cluster: "https://cluster.example"}}, c)
	in := mixed(1000)
	if err := k.Send(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	wantDelivered(t, consume(t, c, len(in)), in, 0)
}

func TestKafkaBinary(t *testing.T) {
	t.Parallel()
	c := startKafka(t, kfake.SeedTopics(1, topic))
	e := events(1)
	e[0].Subject.Task = "größe"
	if err := openKafka(t, KafkaConfig{Format: Binary}, c).Send(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	r := consume(t, c, 1)[0][0]
	for name, want := range map[string]string{
		"content-type": "application/json", "ce_specversion": "1.0", "ce_id": e[0].ID(), "ce_type": "dev.batchcompute.TASK_INSTANCE_SUCCEED",
		"ce_source": "/namespaces/films/batchjobs/trailer", "ce_subject": "job-1a2b3c4d/größe/0", "ce_time": "2026-11-30T08:00:00Z",
		"ce_dataschema": event.DataSchema, "ce_partitionkey": "job-1a2b3c4d",
	} {
		if got := header(r, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if !json.Valid(r.Value) || string(r.Key) != "job-1a2b3c4d" || len(r.Headers) != 9 {
		t.Errorf("%v", r)
	}
}

// TestKafkaRestart stops the brokers between two calls of Send, and starts them again.
func TestKafkaRestart(t *testing.T) {
	t.Parallel()
	dir, in := t.TempDir(), mixed(30)
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, topic), kfake.DataDir(dir))
	if err != nil {
		t.Fatal(err)
	}
	k := openKafka(t, KafkaConfig{Timeout: time.Second}, c)
	if err := k.Send(t.Context(), in[:10]); err != nil {
		t.Fatal(err)
	}
	_, text, _ := net.SplitHostPort(c.ListenAddrs()[0])
	var port int
	fmt.Sscan(text, &port) //nolint:errcheck // a test
	c.Close()
	wantTransient(t, k.Send(t.Context(), in[10:]), "delivering to topic batch-events: ")
	wantTransient(t, k.Send(t.Context(), in[10:]), "connection refused")
	k.config.Timeout = time.Minute
	c = startKafka(t, kfake.Ports(port), kfake.DataDir(dir))
	sendAll(t, k, in[10:])
	wantDelivered(t, consume(t, c, len(in)), in, 30)
}

// TestKafkaBrokenConnections sends through connections that break in the middle of answers.
func TestKafkaBrokenConnections(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// The brokers announce their own address, so the connections themselves are made to break.
	c := startKafka(t, kfake.SeedTopics(2, topic), kfake.ListenFn(func(string, string) (net.Listener, error) { return breaking{l}, nil }))
	k := openKafka(t, KafkaConfig{BatchSize: 10}, c)
	in := mixed(300)
	sendAll(t, k, in)
	wantDelivered(t, consume(t, c, len(in)), in, len(in))
}

// sendAll sends events as their sender does: after a failure it continues with the first that was not acknowledged.
func sendAll(t *testing.T, s Sink, in []event.Event) {
	t.Helper()
	for range 100 {
		err := s.Send(t.Context(), in)
		if err == nil {
			return
		}
		wantTransient(t, err, "")
		in = in[SentBefore(err):]
	}
	t.Fatalf("%d events are left", len(in))
}

// breaking is a listener whose connections write 1,500 bytes before they break.
type breaking struct{ net.Listener }

func (b breaking) Accept() (net.Conn, error) {
	c, err := b.Listener.Accept()
	return &breakingConn{Conn: c, left: 1500}, err
}

type breakingConn struct {
	net.Conn
	left int
}

func (c *breakingConn) Write(p []byte) (int, error) {
	if c.left -= len(p); c.left < 0 && len(p) < 1000 { // what a consumer reads is larger
		c.Close()
		return 0, io.ErrClosedPipe
	}
	return c.Conn.Write(p)
}

// incompressible returns n letters.
func incompressible(n int) string {
	b := make([]byte, n)
	for i, x := 0, uint32(1); i < n; i++ {
		x = x*1664525 + 1013904223
		b[i] = 'A' + byte(x>>24)%58
	}
	return string(b)
}

func TestKafkaRefusals(t *testing.T) {
	t.Parallel()
	large := events(20)
	large[13].Vars = []v1alpha1.EventVar{{Name: "x", Value: incompressible(3000)}}
	for name, tc := range map[string]struct {
		options []kfake.Opt
		fault   *kfake.Fault
		config  KafkaConfig
		class   retry.Class
		sent    int
		want    string
	}{
		"unknown topic": {class: retry.Transient, want: "the topic does not exist"},
		"large event": {options: []kfake.Opt{kfake.SeedTopics(1, topic), kfake.BrokerConfigs(map[string]string{"message.max.bytes": "2000"})},
			class: retry.Terminal, sent: 13, want: "MESSAGE_TOO_LARGE"},
		"not leader": {options: []kfake.Opt{kfake.SeedTopics(1, topic)}, fault: &kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotLeaderForPartition, Count: -1},
			config: KafkaConfig{Timeout: time.Minute}, class: retry.Transient, want: "NOT_LEADER"},
		"too few replicas": {options: []kfake.Opt{kfake.SeedTopics(1, topic)}, fault: &kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas, Count: -1},
			config: KafkaConfig{Timeout: time.Minute}, class: retry.Transient, want: "NOT_ENOUGH_REPLICAS"},
		"no permission": {options: []kfake.Opt{kfake.SeedTopics(1, topic)}, fault: &kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed, Count: -1},
			class: retry.Transient, want: "TOPIC_AUTHORIZATION_FAILED"},
		"invalid record": {options: []kfake.Opt{kfake.SeedTopics(1, topic)}, fault: &kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.InvalidRecord, Count: -1},
			class: retry.Terminal, want: "INVALID_RECORD"},
		"wrong password": {options: []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", "right")},
			config: KafkaConfig{SASL: KafkaSASL{KafkaPlain, "u", "s3cr3tvalue"}}, class: retry.Transient, want: "closed the connection: see its log"},
		"no proof": {options: []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "u", "right")}, class: retry.Transient, want: "closed the connection: see its log"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := startKafka(t, tc.options...)
			if tc.fault != nil {
				c.Fault(*tc.fault)
			}
			err := openKafka(t, tc.config, c).Send(t.Context(), large)
			if class, _ := retry.Of(err); err == nil || class != tc.class || SentBefore(err) != tc.sent || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("class %d, %d sent, %v", class, SentBefore(err), err)
			}
		})
	}
}

// TestKafkaPassingFailures has brokers that refuse a few times.
func TestKafkaPassingFailures(t *testing.T) {
	t.Parallel()
	c := startKafka(t, kfake.SeedTopics(1, topic))
	for _, err := range []*kerr.Error{kerr.NotLeaderForPartition, kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend} {
		c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: err})
	}
	if err := openKafka(t, KafkaConfig{Timeout: time.Minute}, c).Send(t.Context(), mixed(20)); err != nil {
		t.Fatal(err)
	}
	wantDelivered(t, consume(t, c, 20), mixed(20), 0)
}

func TestKafkaSASL(t *testing.T) {
	t.Parallel()
	for _, m := range []KafkaMechanism{KafkaPlain, KafkaScramSHA256, KafkaScramSHA512} {
		c := startKafka(t, kfake.SeedTopics(1, topic), kfake.EnableSASL(), kfake.Superuser(string(m), "u", "password"))
		if err := openKafka(t, KafkaConfig{SASL: KafkaSASL{m, "u", "password"}}, c).Send(t.Context(), events(2)); err != nil {
			t.Errorf("%s: %v", m, err)
		}
	}
}

// TestKafkaHostileText has a broker that refuses a password with a text that repeats it.
func TestKafkaHostileText(t *testing.T) {
	t.Parallel()
	c := startKafka(t, kfake.EnableSASL())
	c.ControlKey(int16(kmsg.SASLAuthenticate), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		out := r.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		out.ErrorCode, out.ErrorMessage = kerr.SaslAuthenticationFailed.Code, new("no \x1b[31m s3cr3tvalue "+strings.Repeat("y ", 1<<10))
		return out, nil, true
	})
	err := openKafka(t, KafkaConfig{SASL: KafkaSASL{KafkaPlain, "u", "s3cr3tvalue"}}, c).Send(t.Context(), events(1))
	wantTransient(t, err, "SASL_AUTHENTICATION_FAILED")
	if s := err.Error(); strings.Contains(s, "s3cr3t") || strings.Contains(s, "\x1b") {
		t.Errorf("%q", s)
	}
}

func TestKafkaTLS(t *testing.T) {
	t.Parallel()
	cert, ca := certificate(t, at.AddDate(100, 0, 0))
	_, other := certificate(t, at.AddDate(100, 0, 0))
	c := startKafka(t, kfake.SeedTopics(1, topic), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}))
	for name, tc := range map[string]struct {
		tls      bool
		ca, want string
	}{
		"own authority":     {true, ca, ""},
		"unknown authority": {true, "", "unknown authority"},
		"other authority":   {true, other, "certificate"},
		"without TLS":       {false, "", "delivering to topic"},
	} {
		err := openKafka(t, KafkaConfig{TLS: tc.tls, CA: tc.ca, Timeout: 5 * time.Second}, c).Send(t.Context(), events(1))
		if tc.want == "" && err != nil {
			t.Errorf("%s: %v", name, err)
		} else if tc.want != "" {
			wantTransient(t, err, tc.want)
		}
	}
}

// TestKafkaNoAcknowledgement has brokers that do not answer when events are written, and then do.
func TestKafkaNoAcknowledgement(t *testing.T) {
	t.Parallel()
	c := startKafka(t, kfake.SeedTopics(1, topic))
	hang := make(chan struct{})
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.SleepControl(func() { <-hang })
		return nil, nil, false
	})
	k := openKafka(t, KafkaConfig{Timeout: 300 * time.Millisecond}, c)
	wantTransient(t, k.Send(t.Context(), mixed(6)), "no acknowledgement within 300ms")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := k.Send(ctx, mixed(6)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(hang)
	k.config.Timeout = time.Minute
	in := mixed(30)
	sendAll(t, k, in)
	wantDelivered(t, consume(t, c, len(in)), in, len(in))
}

// TestKafkaHostile has servers that do not follow the protocol.
func TestKafkaHostile(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		handle func(net.Conn)
		want   string
	}{
		"silent":         {func(c net.Conn) { io.Copy(io.Discard, c) }, "no acknowledgement within 300ms"}, //nolint:errcheck // a test
		"closes":         {func(net.Conn) {}, "delivering to topic"},
		"large answer":   {func(c net.Conn) { c.Write([]byte{0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0}); io.Copy(io.Discard, c) }, "exceeds BrokerMaxReadBytes"}, //nolint:errcheck // a test
		"other protocol": {func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }, "delivering to topic"},                              //nolint:errcheck // a test
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := time.Minute
			if strings.Contains(tc.want, "300ms") {
				timeout = 300 * time.Millisecond
			}
			wantTransient(t, openKafka(t, KafkaConfig{Brokers: []string{listen(t, tc.handle)}, Timeout: timeout}, nil).Send(t.Context(), events(2)), tc.want)
		})
	}
}

// TestKafkaClose closes a sink while it waits for an answer, and one that is idle. It is not parallel, so that no other
// test has goroutines of the client.
func TestKafkaClose(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topic))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	idle := openKafka(t, KafkaConfig{}, c)
	if err := idle.Send(t.Context(), events(3)); err != nil {
		t.Fatal(err)
	}
	if !hasGoroutine("franz-go/pkg/kgo.") {
		t.Error("a sink that is open has no goroutine: this test finds nothing")
	}
	accepted, done := make(chan struct{}, 100), make(chan error)
	waiting := openKafka(t, KafkaConfig{Brokers: []string{listen(t, func(c net.Conn) { accepted <- struct{}{}; io.Copy(io.Discard, c) })}}, nil) //nolint:errcheck // a test
	go func() { done <- waiting.Send(context.Background(), events(1)) }()
	<-accepted
	idle.Close()
	waiting.Close()
	if err := <-done; !errors.Is(err, errClosed) {
		t.Error(err)
	}
	if err := idle.Send(t.Context(), events(1)); !errors.Is(err, errClosed) {
		t.Error(err)
	}
	idle.Close()
	wantNoGoroutine(t, "franz-go/pkg/kgo.")
}

func TestKafkaConfig(t *testing.T) {
	t.Parallel()
	valid := KafkaConfig{Brokers: []string{"h:9092"}, Topic: "t", Format: Binary}
	if _, err := NewKafka(valid); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(*KafkaConfig)
		want   string
	}{
		"no broker":       {func(c *KafkaConfig) { c.Brokers = nil }, "brokers"},
		"many brokers":    {func(c *KafkaConfig) { c.Brokers = make([]string, 11) }, "brokers"},
		"no port":         {func(c *KafkaConfig) { c.Brokers = []string{"hidden"} }, "brokers"},
		"large port":      {func(c *KafkaConfig) { c.Brokers = []string{"hidden:65536"} }, "brokers"},
		"no host":         {func(c *KafkaConfig) { c.Brokers = []string{":9092"} }, "brokers"},
		"URL":             {func(c *KafkaConfig) { c.Brokers = []string{"https://u:hidden@h:9092"} }, "brokers"},
		"no topic":        {func(c *KafkaConfig) { c.Topic = "" }, "topic"},
		"topic":           {func(c *KafkaConfig) { c.Topic = "hid den" }, "topic"},
		"dots":            {func(c *KafkaConfig) { c.Topic = ".." }, "topic"},
		"format":          {func(c *KafkaConfig) { c.Format = Batch }, "format"},
		"timeout":         {func(c *KafkaConfig) { c.Timeout = -1 }, "timeout"},
		"batch size":      {func(c *KafkaConfig) { c.BatchSize = 1001 }, "batch size"},
		"CA":              {func(c *KafkaConfig) { c.TLS, c.CA = true, "hidden" }, "certificate authorities"},
		"CA, no TLS":      {func(c *KafkaConfig) { _, c.CA = certificate(t, at) }, "certificate authorities"},
		"origin":          {func(c *KafkaConfig) { c.Origin.Cluster = "hidden" }, "cluster"},
		"mechanism":       {func(c *KafkaConfig) { c.SASL = KafkaSASL{"hidden", "u", "hidden"} }, "SASL mechanism"},
		"no mechanism":    {func(c *KafkaConfig) { c.SASL = KafkaSASL{"", "u", "hidden"} }, "SASL mechanism"},
		"no password":     {func(c *KafkaConfig) { c.SASL = KafkaSASL{KafkaPlain, "u", ""} }, "SASL"},
		"only a password": {func(c *KafkaConfig) { c.SASL = KafkaSASL{"", "", "hidden"} }, "SASL"},
	} {
		c := valid
		tc.change(&c)
		if _, err := NewKafka(c); err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
