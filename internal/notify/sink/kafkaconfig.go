// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"batchcompute.dev/operator/internal/notify/event"
)

const (
	// maxKafkaBatch bounds the events that are sent before their acknowledgements are awaited. It is less than what
	// the client puts into one record batch. Unit: bytes.
	maxKafkaBatch = 512 << 10
	// maxKafkaBuffer bounds the events of all calls of Send that were not acknowledged. Unit: bytes.
	maxKafkaBuffer = 4 << 20
	// maxKafkaAnswer bounds an answer of a broker. Unit: bytes.
	maxKafkaAnswer = 1 << 20
	// kafkaLinger is how long the client waits for further events of a partition. It is there so that the events of a
	// batch go into one request.
	kafkaLinger = 2 * time.Millisecond
	// kafkaRetries is how often the client itself tries a record again, within some seconds. The caller has longer delays.
	kafkaRetries = 5
	// minKafkaTimeout is the least that the client allows. Send itself ends earlier if it is configured so.
	minKafkaTimeout = time.Second
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

// The mechanisms. KafkaPlain sends the password itself, so it should be used with TLS.
const (
	KafkaPlain       KafkaMechanism = "PLAIN"
	KafkaScramSHA256 KafkaMechanism = "SCRAM-SHA-256"
	KafkaScramSHA512 KafkaMechanism = "SCRAM-SHA-512"
)

// topicName matches the names that Kafka allows, and also . and .., which it does not.
var topicName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`)

// options sets the default timeout and batch size, and returns the client's options and what must not be in an error.
func (c *KafkaConfig) options() ([]kgo.Opt, secrets, error) {
	var badTimeout, badSize error
	c.Timeout, badTimeout = timeoutOf(c.Timeout)
	c.BatchSize, badSize = batchSizeOf(c.BatchSize)
	security, badCA := tlsConfig(c.CA)
	proof, badProof := c.SASL.mechanism()
	if err := errors.Join(c.validate(), c.Origin.Validate(), badTimeout, badSize, badCA, badProof); err != nil {
		return nil, nil, err
	}
	o := []kgo.Opt{
		kgo.ClientID(clientName), kgo.SeedBrokers(c.Brokers...), kgo.DisableClientMetrics(),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		// A record whose outcome is not known fails too, so that Send ends in time. It is then sent again.
		kgo.AllowIdempotentProduceCancellation(),
		// The error of a record that was tried often is that of the broker; that of one that timed out says nothing.
		kgo.RecordRetries(kafkaRetries), kgo.RetryBackoffFn(kafkaBackoff),
		kgo.RecordDeliveryTimeout(max(c.Timeout*3/4, minKafkaTimeout)), kgo.UnknownTopicRetries(1),
		kgo.DialTimeout(c.Timeout), kgo.ProduceRequestTimeout(max(c.Timeout, minKafkaTimeout)), kgo.RequestTimeoutOverhead(max(c.Timeout, minKafkaTimeout)),
		kgo.MetadataMinAge(100 * time.Millisecond), // else an unknown topic is found only after seconds
		kgo.MaxBufferedRecords(maxBatch), kgo.MaxBufferedBytes(maxKafkaBuffer), kgo.ProducerLinger(kafkaLinger),
		kgo.FetchMaxBytes(maxKafkaAnswer / 2), kgo.BrokerMaxReadBytes(maxKafkaAnswer), // nothing is fetched
	}
	if c.TLS {
		o = append(o, kgo.DialTLSConfig(security))
	}
	if proof != nil {
		o = append(o, kgo.SASL(proof))
	}
	return o, secrets{c.SASL.Password}, kgo.ValidateOpts(o...)
}

// kafkaBackoff returns the delay before the client tries again for the nth time, from 1.
func kafkaBackoff(n int) time.Duration { return min(100*time.Millisecond<<min(n-1, 10), time.Second) }

func (c *KafkaConfig) validate() error {
	if len(c.Brokers) == 0 || len(c.Brokers) > maxAddresses {
		return fmt.Errorf("brokers must have 1 to %d addresses", maxAddresses)
	}
	for _, b := range c.Brokers {
		host, port, err := net.SplitHostPort(b)
		n, notNumber := strconv.ParseUint(port, 10, 16)
		if err != nil || notNumber != nil || n == 0 || host == "" || strings.ContainsAny(host, "/@ ") {
			return errors.New("brokers must be addresses as host:port")
		}
	}
	switch {
	case !topicName.MatchString(c.Topic) || c.Topic == "." || c.Topic == "..":
		return errors.New("topic must be 1 to 249 letters, digits, dots, underscores and hyphens")
	case c.Format != Structured && c.Format != Binary:
		return errors.New("the format must be structured or binary")
	case c.CA != "" && !c.TLS:
		return errors.New("certificate authorities must have TLS")
	}
	return nil
}

// mechanism returns the proof; nil if there is none.
func (s *KafkaSASL) mechanism() (sasl.Mechanism, error) {
	if *s == (KafkaSASL{}) {
		return nil, nil
	}
	if s.Username == "" || s.Password == "" {
		return nil, errors.New("SASL must have a user name and a password")
	}
	proof := scram.Auth{User: s.Username, Pass: s.Password}
	switch s.Mechanism {
	case KafkaPlain:
		return plain.Auth{User: s.Username, Pass: s.Password}.AsMechanism(), nil
	case KafkaScramSHA256:
		return proof.AsSha256Mechanism(), nil
	case KafkaScramSHA512:
		return proof.AsSha512Mechanism(), nil
	}
	return nil, errors.New("the SASL mechanism must be PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
}
