// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// inYAML indents a text for a block of YAML.
func inYAML(text, indent string) string {
	return "|\n" + indent + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n"+indent) + "\n"
}

func TestNotifications(t *testing.T) {
	ca := certificate(t)
	c, err := Parse([]byte(head + `notifications:
  cluster: https://prod.example
  region: ap-guangzhou
  deliveryTimeout: 36h
  unknownTopics: refuse
  topics:
  - name: done
    namespaces: [films, games]
    http:
      url: http://events.films.svc:8080/done?x=y
      format: batch
      usernameKey: user
      passwordKey: films.password
      timeout: 1500ms
      batchSize: 500
  - name: done
    http: {url: "https://events.example.com", hmacKey: hmac, caKey: ca.crt}
  - name: alerts
    namespaces: [ops]
    http:
      url: https://alerts.example.com
      bearerKey: token
      ca: ` + inYAML(ca, "        ") + `  - name: Stream-1
    nats: {servers: ["tls://n-0:4222", "nats://n-1"], subject: batch.done_1, credentialsKey: nats.creds, timeout: 5s}
  - name: log
    kafka: {brokers: ["k-0:9093", "[fd00::1]:9093"], topic: batch.log, format: binary, mechanism: SCRAM-SHA-512, usernameKey: u, passwordKey: p, tls: true, caKey: ca.crt, batchSize: 1000}
  userSinks:
    allowedHosts: [hooks.example.com, "*.example.org", "*:8443"]
    refusedNetworks: [203.0.113.0/24, "2001:db8::/32"]
`))
	if err != nil {
		t.Fatal(err)
	}
	n := c.Notifications()
	want := Notifications{
		Cluster: "https://prod.example", Region: "ap-guangzhou", DeliveryTimeout: 36 * time.Hour, RefuseUnknown: true,
		RefusedNetworks: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8::/32")},
	}
	if diff := cmp.Diff(want, *n, cmpopts.IgnoreUnexported(Notifications{}), cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	films := &Topic{Name: "done", Namespaces: []string{"films", "games"}, HTTP: &HTTPReceiver{
		URL: "http://events.films.svc:8080/done?x=y", Format: "batch", UsernameKey: "user", PasswordKey: "films.password",
		Connection: Connection{Timeout: 1500 * time.Millisecond, BatchSize: 500},
	}}
	all := &Topic{Name: "done", HTTP: &HTTPReceiver{URL: "https://events.example.com", HMACKey: "hmac", Connection: Connection{CAKey: "ca.crt"}}}
	for _, tc := range []struct {
		namespace, name string
		want            *Topic
	}{
		{"films", "done", films}, {"games", "done", films}, {"ops", "done", all},
		{"ops", "alerts", &Topic{Name: "alerts", Namespaces: []string{"ops"}, HTTP: &HTTPReceiver{
			URL: "https://alerts.example.com", BearerKey: "token", Connection: Connection{CA: strings.TrimSpace(ca) + "\n"},
		}}},
		{"films", "alerts", nil}, {"films", "Done", nil}, {"films", "", nil},
		{"films", "Stream-1", &Topic{Name: "Stream-1", NATS: &NATSReceiver{
			Servers: []string{"tls://n-0:4222", "nats://n-1"}, Subject: "batch.done_1", CredentialsKey: "nats.creds", Connection: Connection{Timeout: 5 * time.Second},
		}}},
		{"films", "log", &Topic{Name: "log", Kafka: &KafkaReceiver{
			Brokers: []string{"k-0:9093", "[fd00::1]:9093"}, Topic: "batch.log", Format: "binary", Mechanism: "SCRAM-SHA-512", UsernameKey: "u", PasswordKey: "p",
			TLS: true, Connection: Connection{CAKey: "ca.crt", BatchSize: 1000},
		}}},
	} {
		if diff := cmp.Diff(tc.want, n.Topic(tc.namespace, tc.name)); diff != "" {
			t.Errorf("%s in %s (-want +got):\n%s", tc.name, tc.namespace, diff)
		}
	}
	if got := n.KnownTopics("ops", 100); got != "Stream-1, alerts, done, log" {
		t.Errorf("known: %s", got)
	}
	if got := n.KnownTopics("films", 0); got != "Stream-1 and 2 more" {
		t.Errorf("known: %s", got)
	}
}

// TestNoNotifications: the defaults hold without the section, and with one that is empty.
func TestNoNotifications(t *testing.T) {
	for _, in := range []string{"", "notifications:\n", "notifications: {}\n", "notifications: {cluster: , region: , deliveryTimeout: , unknownTopics: , topics: , userSinks: }\n", "notifications: {topics: [], userSinks: {allowedHosts: []}}\n"} {
		c, err := Parse([]byte(head + in))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []*Notifications{c.Notifications(), Default().Notifications()} {
			if n.DeliveryTimeout != 24*time.Hour || n.RefuseUnknown || n.Topic("a", "b") != nil || n.KnownTopics("a", 9) != "none" {
				t.Errorf("%q: %+v", in, n)
			}
			if err := n.CheckUserSink("https://hooks.example.com"); err == nil {
				t.Errorf("%q: users may name a receiver", in)
			}
		}
	}
}

func TestNotificationErrors(t *testing.T) {
	const url = `url: "https://h"`
	for in, want := range map[string]string{
		`cluster: prod`:                                         `cluster: must be an absolute URI such as https://prod.example.com, without a user and a / at its end, at most 256 bytes, got "prod"`,
		`cluster: https://u:hunter2@prod`:                       `cluster: must be an absolute URI`,
		`cluster: https://prod/`:                                `cluster: must be an absolute URI`,
		`region: "a b"`:                                         `region: must be a region such as ap-guangzhou, got "a b"`,
		`deliveryTimeout: 59s`:                                  `deliveryTimeout: must be a duration such as 1m, from 1m to 168h, got "59s"`,
		`deliveryTimeout: 169h`:                                 `deliveryTimeout: must be a duration`,
		`deliveryTimeout: 24`:                                   `deliveryTimeout: must be text, got 24; write it in quotes`,
		`deliveryTimeout: "24"`:                                 `deliveryTimeout: must be a duration`,
		`unknownTopics: drop`:                                   `unknownTopics: must be one of warn, refuse, got "drop"`,
		`topic: []`:                                             `topic: unknown field; must be one of cluster, region, deliveryTimeout, unknownTopics, topics, userSinks`,
		`topics: {}`:                                            `topics: must be a list, got a mapping`,
		`userSinks: {allowedHosts: ["https://h"]}`:              `userSinks.allowedHosts[0]: must be a host such as hooks.example.com, *.example.com or *, in lower case, with a port if that is not 443, got "https://h"`,
		`userSinks: {allowedHosts: ["a.*"]}`:                    `userSinks.allowedHosts[0]: must be a host`,
		`userSinks: {allowedHosts: ["*example.com"]}`:           `userSinks.allowedHosts[0]: must be a host`,
		`userSinks: {allowedHosts: [H.example.com]}`:            `userSinks.allowedHosts[0]: must be a host`,
		`userSinks: {allowedHosts: ["h:0"]}`:                    `userSinks.allowedHosts[0]: must be a host`,
		`userSinks: {allowedHosts: ["h:"]}`:                     `userSinks.allowedHosts[0]: must be a host`,
		`userSinks: {allowedHosts: [""]}`:                       `userSinks.allowedHosts[0]: must be a host`,
		`userSinks: {allowedHosts: h}`:                          `userSinks.allowedHosts: must be a list, got "h"`,
		`userSinks: {refusedNetworks: [203.0.113.1]}`:           `userSinks.refusedNetworks[0]: must be a network such as 203.0.113.0/24, got "203.0.113.1"`,
		`userSinks: {refusedNetworks: [203.0.113.1/24]}`:        `userSinks.refusedNetworks[0]: must be a network`,
		`userSinks: {refusedNetworks: ["::ffff:10.0.0.0/104"]}`: `userSinks.refusedNetworks[0]: must be a network`,
		`userSinks: {hosts: []}`:                                `userSinks.hosts: unknown field; must be one of allowedHosts, refusedNetworks`,

		`topics: [{http: {` + url + `}}]`:                                                                                  `topics[0].name: must be at most 64 letters, digits and '-', beginning with a letter, got ""`,
		`topics: [{name: 1-a, http: {` + url + `}}]`:                                                                       `topics[0].name: must be at most 64 letters`,
		`topics: [{name: ` + strings.Repeat("a", 65) + `, http: {` + url + `}}]`:                                           `topics[0].name: must be at most 64 letters`,
		`topics: [{name: a, namespace: x, http: {` + url + `}}]`:                                                           `topics[0].namespace: unknown field; must be one of name, namespaces, http, nats, kafka`,
		`topics: [{name: a, namespaces: [], http: {` + url + `}}]`:                                                         `topics[0].namespaces: must have at least one namespace; leave the field out for all`,
		`topics: [{name: a, namespaces: [B], http: {` + url + `}}]`:                                                        `topics[0].namespaces[0]: must be the name of a namespace, got "B"`,
		`topics: [{name: a}]`:                                                                                              `topics[0]: must have exactly one of http, nats, kafka, got none`,
		`topics: [{name: a, http: {` + url + `}, nats: {servers: ["nats://n"], subject: s}}]`:                              `topics[0]: must have exactly one of http, nats, kafka, got http and nats`,
		`topics: [{name: a, http: {` + url + `}}, {name: a, http: {` + url + `}}]`:                                         `topics[1]: must be the only entry of "a" for all namespaces; another is on line 4`,
		`topics: [{name: a, namespaces: [x, y], http: {` + url + `}}, {name: a, namespaces: [z, y], http: {` + url + `}}]`: `topics[1]: must be the only entry of "a" for the namespace "y"; another is on line 4`,
		`topics: [{name: a, namespaces: [x, x], http: {` + url + `}}]`:                                                     `topics[0]: must be the only entry of "a" for the namespace "x"`,
	} {
		checkNotificationError(t, in, want)
	}
}

func checkNotificationError(t *testing.T, in, want string) {
	t.Helper()
	want = "line 4: notifications." + want
	_, err := Parse([]byte(head + "notifications:\n  " + in + "\n"))
	if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%s:\n got %v\nwant %s", in, err, want)
	}
}

func TestReceiverErrors(t *testing.T) {
	const (
		http  = "http: {url: 'https://h', "
		nats  = "nats: {servers: ['nats://n'], subject: s, "
		kafka = "kafka: {brokers: ['k:9092'], topic: t, "
		sasl  = "usernameKey: u, passwordKey: p, "
	)
	for in, want := range map[string]string{
		`http: {}`:                            `http.url: must be an http or https URL without a user and a fragment, at most 2048 bytes, got ""`,
		`http: {url: "h/x"}`:                  `http.url: must be an http or https URL`,
		`http: {url: "ftp://h/x"}`:            `http.url: must be an http or https URL`,
		`http: {url: "https://u@h/x"}`:        `http.url: must be an http or https URL`,
		`http: {url: "https://h/x#y"}`:        `http.url: must be an http or https URL`,
		`http: {url: "https://:80/x"}`:        `http.url: must be an http or https URL`,
		http + `format: xml}`:                 `http.format: must be one of structured, binary, batch, batchcompute, got "xml"`,
		http + `token: t}`:                    `http.token: unknown field; must be one of url, format, bearerKey, usernameKey, passwordKey, hmacKey, ca, caKey, timeout, batchSize`,
		http + `bearerKey: a/b}`:              `http.bearerKey: must be a key of the Secret for notifications: letters, digits, '-', '_' and '.', got "a/b"`,
		http + `bearerKey: ..data}`:           `http.bearerKey: must be a key`,
		http + `bearerKey: ""}`:               `http.bearerKey: must be a key`,
		http + `bearerKey: a, hmacKey: b}`:    `http: must have at most one of bearerKey, usernameKey, hmacKey, got bearerKey and hmacKey`,
		http + `usernameKey: a}`:              `http: must have usernameKey and passwordKey together`,
		http + `passwordKey: a}`:              `http: must have usernameKey and passwordKey together`,
		http + `hmacKey: a, format: binary}`:  `http.hmacKey: must not be given with the format binary, which has a part of the event in headers: a signature does not cover these`,
		http + `ca: none}`:                    `http.ca: must be certificates in PEM form, at most 64 KiB`,
		`http: {url: "http://h", caKey: a}`:   `http.caKey: must be given only with an https URL`,
		http + `timeout: 61s}`:                `http.timeout: must be a duration such as 1s, from 1s to 1m, got "61s"`,
		http + `batchSize: 10}`:               `http.batchSize: must be given only with the format batch or batchcompute: the others send an event in each request`,
		http + `format: batch, batchSize: 0}`: `http.batchSize: must be a whole number from 1 to 1000, got 0`,

		`nats: {subject: s}`:                              `nats.servers: must have 1 to 10 values, each a URL such as tls://nats.example.com:4222, nats or tls, without a user`,
		`nats: {servers: [], subject: s}`:                 `nats.servers: must have 1 to 10 values`,
		`nats: {servers: [n], subject: s}`:                `nats.servers[0]: must be a URL such as tls://nats.example.com:4222, nats or tls, without a user, got "n"`,
		`nats: {servers: ["nats://u:p@n"], subject: s}`:   `nats.servers[0]: must be a URL`,
		`nats: {servers: ["nats://n"]}`:                   `nats.subject: must be a subject such as batch.events, without wildcards and a $ at its beginning, got ""`,
		`nats: {servers: ["nats://n"], subject: "a.*"}`:   `nats.subject: must be a subject`,
		`nats: {servers: ["nats://n"], subject: "$JS.a"}`: `nats.subject: must be a subject`,
		`nats: {servers: ["nats://n"], subject: "a..b"}`:  `nats.subject: must be a subject`,
		nats + `tokenKey: a, credentialsKey: b}`:          `nats: must have at most one of usernameKey, tokenKey, credentialsKey, got tokenKey and credentialsKey`,
		nats + `passwordKey: a}`:                          `nats: must have usernameKey and passwordKey together`,
		nats + `batchSize: 2}`:                            `nats.batchSize: unknown field; must be one of servers, subject, usernameKey, passwordKey, tokenKey, credentialsKey, ca, caKey, timeout`,

		`kafka: {topic: t}`:                        `kafka.brokers: must have 1 to 10 values, each an address such as kafka-0.example.com:9093`,
		`kafka: {brokers: [k], topic: t}`:          `kafka.brokers[0]: must be an address such as kafka-0.example.com:9093, got "k"`,
		`kafka: {brokers: ["k:70000"], topic: t}`:  `kafka.brokers[0]: must be an address`,
		`kafka: {brokers: ["k:1/x"], topic: t}`:    `kafka.brokers[0]: must be an address`,
		`kafka: {brokers: ["u@k:1"], topic: t}`:    `kafka.brokers[0]: must be an address`,
		`kafka: {brokers: ["k:1"]}`:                `kafka.topic: must be at most 249 letters, digits, '.', '_' and '-', got ""`,
		`kafka: {brokers: ["k:1"], topic: ".."}`:   `kafka.topic: must be at most 249 letters`,
		kafka + `format: batch}`:                   `kafka.format: must be one of structured, binary, got "batch"`,
		kafka + `mechanism: GSSAPI, ` + sasl + `}`: `kafka.mechanism: must be one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, got "GSSAPI"`,
		kafka + sasl + `tls: true}`:                `kafka: must have mechanism, usernameKey and passwordKey together`,
		kafka + `mechanism: PLAIN, tls: true}`:     `kafka: must have mechanism, usernameKey and passwordKey together`,
		kafka + `mechanism: PLAIN, ` + sasl + `}`:  `kafka.mechanism: must be given with tls: true, since PLAIN sends the password itself`,
		kafka + `caKey: a}`:                        `kafka.caKey: must be given with tls: true`,
		kafka + `tls: maybe}`:                      `kafka.tls: must be true or false, got "maybe"`,
	} {
		checkNotificationError(t, "topics: [{name: a, "+in+"}]", "topics[0]."+want)
	}
	both := http + "caKey: a, ca: " + inYAML(certificate(t), "      ")
	both = strings.NewReplacer("http: {", "http:\n      ", "'https://h', ", "'https://h'\n      ", "caKey: a, ", "caKey: a\n      ").Replace(strings.ReplaceAll(both, "\n      ", "\n        "))
	if _, err := Parse([]byte(head + "notifications:\n  topics:\n  - name: a\n    " + both)); err == nil || err.Error() != "line 8: notifications.topics[0].http.caKey: must not be given together with ca" {
		t.Errorf("ca and caKey: %v", err)
	}
}

func TestManyTopicsErrors(t *testing.T) {
	var many strings.Builder
	for i := range maxTopics + 1 {
		fmt.Fprintf(&many, "  - {name: t%d, http: {url: 'http://h'}}\n", i)
	}
	if _, err := Parse([]byte(head + "notifications:\n  topics:\n" + many.String())); err == nil || err.Error() != "line 4: notifications.topics: must have at most 1000 entries, got 1001" {
		t.Errorf("too many topics: %v", err)
	}
	hosts := strings.Repeat("h, ", maxAllowed+1)
	checkNotificationError(t, "userSinks: {allowedHosts: ["+hosts+"]}", "userSinks.allowedHosts: must have at most 256 values, got 257")
}
