// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"context"
	"errors"
	"time"

	"batchcompute.dev/operator/internal/notify/event"
)

// KafkaConfig describes a topic of Kafka.
type KafkaConfig struct {
	// Brokers are 1 to 10 addresses, as host:port, of brokers of one cluster. The others are learned from these.
	Brokers []string
	Topic   string
	// Format is Structured or Binary.
	Format Format
	Origin event.Origin
	SASL   KafkaSASL
	// TLS is whether connections use it.
	TLS bool
	// CA are the certificate authorities of the brokers, as PEM; "" means those of the system. Only with TLS.
	CA string
	// Timeout bounds the delivery of a batch with all its retries: at most a minute; 0 means 10 s.
	Timeout time.Duration
	// BatchSize is how many events are sent before their acknowledgements are awaited: at most 1,000; 0 means 100.
	BatchSize int
}

// KafkaSASL is how a client of Kafka proves who it is. A zero value means no proof.
type KafkaSASL struct {
	Mechanism          KafkaMechanism
	Username, Password string
}

// KafkaMechanism is a mechanism of SASL.
type KafkaMechanism string

// The mechanisms. KafkaPlain sends the password itself, so it must be used with TLS.
const (
	KafkaPlain       KafkaMechanism = "PLAIN"
	KafkaScramSHA256 KafkaMechanism = "SCRAM-SHA-256"
	KafkaScramSHA512 KafkaMechanism = "SCRAM-SHA-512"
)

// Kafka is a receiver that is a topic of Kafka. It may be used by several goroutines.
type Kafka struct{ config KafkaConfig }

var _ Sink = (*Kafka)(nil)

// NewKafka returns a sink, which connects at the first Send. An error names the field that is wrong, and has nothing
// secret in it.
func NewKafka(c KafkaConfig) (*Kafka, error) { return &Kafka{config: c}, nil }

// Send is that of Sink.
func (k *Kafka) Send(context.Context, []event.Event) error { return errors.New("not implemented") }

// Close closes the connections. A later Send returns an error.
func (k *Kafka) Close() {}
