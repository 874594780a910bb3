// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"crypto/x509"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

// HTTPReceiver is a receiver that is reached by HTTP. In all receivers zero values stand for the defaults of package
// sink, and the fields that end with Key name keys of the Secret for notifications.
type HTTPReceiver struct {
	URL string
	// Format is structured, binary, batch or batchcompute; "" means structured.
	Format string
	// At most one of BearerKey, UsernameKey and HMACKey is set; PasswordKey is set together with UsernameKey.
	BearerKey, UsernameKey, PasswordKey, HMACKey string
	Connection
}

// NATSReceiver is a subject that a stream of NATS JetStream captures.
type NATSReceiver struct {
	Servers []string
	Subject string
	// At most one of UsernameKey, TokenKey and CredentialsKey is set; PasswordKey is set together with UsernameKey.
	UsernameKey, PasswordKey, TokenKey, CredentialsKey string
	Connection
}

// KafkaReceiver is a topic of Kafka.
type KafkaReceiver struct {
	Brokers []string
	Topic   string
	// Format is structured or binary; "" means structured.
	Format string
	// Mechanism is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, with UsernameKey and PasswordKey; "" without them.
	Mechanism, UsernameKey, PasswordKey string
	TLS                                 bool
	Connection
}

// Connection is what all receivers have.
type Connection struct {
	// CA are certificates in PEM form, or CAKey names a key with them. Neither means those of the system.
	CA, CAKey string
	Timeout   time.Duration
	// BatchSize is how many events are sent at once. NATS has none.
	BatchSize int
}

// Bounds of receivers.
const (
	maxServers   = 10
	maxBatchSize = 1000
	maxInlineCA  = 64 << 10 // bytes
	maxSubject   = 255      // bytes
)

// The words of receivers.
var (
	httpFormats  = []string{"structured", "binary", "batch", "batchcompute"}
	kafkaFormats = []string{"structured", "binary"}
	mechanisms   = []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}
)

// kafkaTopic is the form of Kafka's topics.
var kafkaTopic = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`)

// fields are those of a mapping, by name.
type fields map[string]field

// given returns which of these fields are given, in this order.
func (f fields) given(names ...string) (out []string) {
	for _, name := range names {
		if f[name].given() {
			out = append(out, name)
		}
	}
	return out
}

// knownFields returns the fields of a mapping, and notes those that it must not have.
func (r *reader) knownFields(f field, names ...string) fields {
	out := fields{}
	for _, e := range r.entries(f) {
		if r.known(e, names) {
			out[e.name] = e
		}
	}
	return out
}

// httpReceiver reads a receiver that is reached by HTTP.
func (r *reader) httpReceiver(f field) *HTTPReceiver {
	got := r.knownFields(f, "url", "format", "bearerKey", "usernameKey", "passwordKey", "hmacKey", "ca", "caKey", "timeout", "batchSize")
	h := &HTTPReceiver{
		URL:       r.required(orMissing(got["url"], f, "url"), "an http or https URL without a user and a fragment, at most 2048 bytes", isReceiverURL),
		Format:    r.oneOf(got["format"], httpFormats),
		BearerKey: r.secretKey(got["bearerKey"]), UsernameKey: r.secretKey(got["usernameKey"]),
		PasswordKey: r.secretKey(got["passwordKey"]), HMACKey: r.secretKey(got["hmacKey"]),
		Connection: r.connection(got),
	}
	r.oneProof(f, got, "bearerKey", "usernameKey", "hmacKey")
	if h.HMACKey != "" && h.Format == "binary" {
		r.fail(got["hmacKey"], "must not be given with the format binary, which has a part of the event in headers: a signature does not cover these")
	}
	if h.BatchSize > 0 && h.Format != "batch" && h.Format != "batchcompute" {
		r.fail(got["batchSize"], "must be given only with the format batch or batchcompute: the others send an event in each request")
	}
	if given := got.given("ca", "caKey"); len(given) > 0 && !strings.HasPrefix(h.URL, "https:") {
		r.fail(got[given[0]], "must be given only with an https URL")
	}
	return h
}

// natsReceiver reads a subject of NATS.
func (r *reader) natsReceiver(f field) *NATSReceiver {
	got := r.knownFields(f, "servers", "subject", "usernameKey", "passwordKey", "tokenKey", "credentialsKey", "ca", "caKey", "timeout")
	n := &NATSReceiver{
		Servers:     r.servers(orMissing(got["servers"], f, "servers"), "a URL such as tls://nats.example.com:4222, nats or tls, without a user", isNATSServer),
		Subject:     r.required(orMissing(got["subject"], f, "subject"), "a subject such as batch.events, without wildcards and a $ at its beginning", isSubject),
		UsernameKey: r.secretKey(got["usernameKey"]), PasswordKey: r.secretKey(got["passwordKey"]),
		TokenKey: r.secretKey(got["tokenKey"]), CredentialsKey: r.secretKey(got["credentialsKey"]),
		Connection: r.connection(got),
	}
	r.oneProof(f, got, "usernameKey", "tokenKey", "credentialsKey")
	return n
}

// kafkaReceiver reads a topic of Kafka.
func (r *reader) kafkaReceiver(f field) *KafkaReceiver {
	got := r.knownFields(f, "brokers", "topic", "format", "mechanism", "usernameKey", "passwordKey", "tls", "ca", "caKey", "timeout", "batchSize")
	k := &KafkaReceiver{
		Brokers:     r.servers(orMissing(got["brokers"], f, "brokers"), "an address such as kafka-0.example.com:9093", isAddress),
		Topic:       r.required(orMissing(got["topic"], f, "topic"), "at most 249 letters, digits, '.', '_' and '-'", isKafkaTopic),
		Format:      r.oneOf(got["format"], kafkaFormats),
		Mechanism:   r.oneOf(got["mechanism"], mechanisms),
		UsernameKey: r.secretKey(got["usernameKey"]), PasswordKey: r.secretKey(got["passwordKey"]),
		TLS: r.toggle(got["tls"]), Connection: r.connection(got),
	}
	if n := len(got.given("mechanism", "usernameKey", "passwordKey")); n != 0 && n != 3 {
		r.fail(f, "must have mechanism, usernameKey and passwordKey together")
	}
	if k.Mechanism == "PLAIN" && !k.TLS {
		r.fail(got["mechanism"], "must be given with tls: true, since PLAIN sends the password itself")
	}
	if given := got.given("ca", "caKey"); len(given) > 0 && !k.TLS {
		r.fail(got[given[0]], "must be given with tls: true")
	}
	return k
}

// connection reads the fields that all receivers have.
func (r *reader) connection(got fields) Connection {
	var c Connection
	if f := got["ca"]; f.given() {
		c.CA = r.required(f, "certificates in PEM form, at most 64 KiB", isAuthorities)
	}
	c.CAKey = r.secretKey(got["caKey"])
	if len(got.given("ca", "caKey")) == 2 {
		r.fail(got["caKey"], "must not be given together with ca")
	}
	if f := got["timeout"]; f.given() {
		c.Timeout = r.duration(f, time.Second, time.Minute)
	}
	if f := got["batchSize"]; f.given() {
		n, _ := r.integer(f, 1, maxBatchSize)
		c.BatchSize = int(n)
	}
	return c
}

// oneProof checks that at most one of some keys is given, and usernameKey together with passwordKey.
func (r *reader) oneProof(f field, got fields, names ...string) {
	if given := got.given(names...); len(given) > 1 {
		r.fail(f, "must have at most one of %s, got %s", strings.Join(names, ", "), strings.Join(given, " and "))
	}
	if len(got.given("usernameKey", "passwordKey")) == 1 {
		r.fail(f, "must have usernameKey and passwordKey together")
	}
}

// secretKey returns a key of a Secret; "" when it is not given.
func (r *reader) secretKey(f field) string {
	if !f.given() {
		return ""
	}
	return r.required(f, "a key of the Secret for notifications: letters, digits, '-', '_' and '.'", isSecretKey)
}

func (r *reader) servers(f field, what string, is func(string) bool) []string {
	out := r.texts(f, maxServers, what, is)
	if len(out) == 0 && len(r.items(f)) == 0 {
		r.fail(f, "must have 1 to %d values, each %s", maxServers, what)
	}
	return out
}

func isSecretKey(s string) bool { return len(validation.IsConfigMapKey(s)) == 0 }

func isAuthorities(s string) bool {
	return len(s) <= maxInlineCA && x509.NewCertPool().AppendCertsFromPEM([]byte(s))
}

// isReceiverURL reports whether s is a URL that events can be posted to.
func isReceiverURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.User == nil && u.Fragment == "" && len(s) <= maxSinkURL
}

func isNATSServer(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "nats" || u.Scheme == "tls") && u.Hostname() != "" && u.User == nil &&
		(u.Path == "" || u.Path == "/") && u.RawQuery == "" && u.Fragment == "" && len(s) <= maxOrigin
}

// isAddress reports whether s is a host with a port.
func isAddress(s string) bool {
	u, err := url.Parse("kafka://" + s)
	if err != nil || u.Host != s || u.Hostname() == "" || len(s) > maxOrigin {
		return false
	}
	return isPort(u.Port())
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// isSubject reports whether s is a subject that events can be published to: tokens with dots between them, without
// wildcards, and not one of the server's own.
func isSubject(s string) bool {
	if len(s) > maxSubject || strings.HasPrefix(s, "$") {
		return false
	}
	for token := range strings.SplitSeq(s, ".") {
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' || r == '*' || r == '>' }) {
			return false
		}
	}
	return true
}

func isKafkaTopic(s string) bool { return kafkaTopic.MatchString(s) && s != "." && s != ".." }
