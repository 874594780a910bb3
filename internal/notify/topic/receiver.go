// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"

	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/notify/event"
	"batchcompute.dev/operator/internal/notify/sink"
)

// receiver is what a sink is opened from.
type receiver struct {
	// key and name are those of Topic.
	key, name string
	// identity is key with a sum of the secrets.
	identity string
	open     func() (openSink, error)
}

// keyOf returns the key of a receiver: its kind, and a sum of all that its configuration has but the values of secrets.
// config has no pointers.
func keyOf(kind string, o event.Origin, config any) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%#v %#v", o, config))
	return kind + "-" + hex.EncodeToString(sum[:12])
}

// ofCatalog returns the receiver of a topic of the catalogue. Without its secrets, see secrets.err, it cannot be used.
func (t *Topics) ofCatalog(n *catalog.Notifications, c *catalog.Topic, s *secrets) receiver {
	o := originOf(n)
	var r receiver
	switch {
	case c.HTTP != nil:
		config := httpConfig(o, c.HTTP, s)
		r = receiver{key: keyOf("http", o, *c.HTTP), name: hostOf(config.URL), open: func() (openSink, error) { return t.newHTTP(config) }}
	case c.NATS != nil:
		config := natsConfig(o, c.NATS, s)
		r = receiver{key: keyOf("nats", o, *c.NATS), name: "NATS subject " + config.Subject, open: func() (openSink, error) { return sink.NewNATS(config) }}
	default:
		config := kafkaConfig(o, c.Kafka, s)
		r = receiver{key: keyOf("kafka", o, *c.Kafka), name: "Kafka topic " + config.Topic, open: func() (openSink, error) { return sink.NewKafka(config) }}
	}
	r.identity = r.key + "-" + s.sum()
	return r
}

// ofUser returns the receiver of a user, whose URL was checked.
func (t *Topics) ofUser(n *catalog.Notifications, rawURL string) receiver {
	o := originOf(n)
	key := keyOf("user", o, []string{rawURL, fmt.Sprint(n.RefusedNetworks)})
	config := sink.Config{URL: rawURL, Format: sink.Structured, Origin: o, Guard: &sink.Guard{Also: n.RefusedNetworks}}
	return receiver{key: key, name: hostOf(rawURL), identity: key, open: func() (openSink, error) { return t.newHTTP(config) }}
}

func httpConfig(o event.Origin, h *catalog.HTTPReceiver, s *secrets) sink.Config {
	return sink.Config{
		URL: h.URL, Format: cmp.Or(sink.Format(h.Format), sink.Structured), Origin: o,
		Auth: sink.Auth{
			Bearer: s.text(h.BearerKey), Username: s.text(h.UsernameKey), Password: s.text(h.PasswordKey), HMACKey: s.hmacKey(h.HMACKey),
		},
		CA: authorities(&h.Connection, s), Timeout: h.Timeout, BatchSize: h.BatchSize,
	}
}

func natsConfig(o event.Origin, n *catalog.NATSReceiver, s *secrets) sink.NATSConfig {
	return sink.NATSConfig{
		Servers: n.Servers, Subject: n.Subject, Origin: o,
		Auth: sink.NATSAuth{
			Username: s.text(n.UsernameKey), Password: s.text(n.PasswordKey), Token: s.text(n.TokenKey), Credentials: s.text(n.CredentialsKey),
		},
		CA: authorities(&n.Connection, s), Timeout: n.Timeout,
	}
}

func kafkaConfig(o event.Origin, k *catalog.KafkaReceiver, s *secrets) sink.KafkaConfig {
	return sink.KafkaConfig{
		Brokers: k.Brokers, Topic: k.Topic, Format: cmp.Or(sink.Format(k.Format), sink.Structured), Origin: o,
		SASL: sink.KafkaSASL{Mechanism: sink.KafkaMechanism(k.Mechanism), Username: s.text(k.UsernameKey), Password: s.text(k.PasswordKey)},
		TLS:  k.TLS, CA: authorities(&k.Connection, s), Timeout: k.Timeout, BatchSize: k.BatchSize,
	}
}

func authorities(c *catalog.Connection, s *secrets) string { return cmp.Or(c.CA, s.text(c.CAKey)) }

// hostOf returns the host of a URL that was checked.
func hostOf(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Host)
}
