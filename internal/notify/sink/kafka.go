// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"

	"batchcompute.dev/operator/internal/notify/event"
	"batchcompute.dev/operator/internal/retry"
)

// Kafka is a receiver that is a topic of Kafka. It may be used by several goroutines.
//
// Events are written as version 1.0.2 of the Kafka Protocol Binding of CloudEvents says. Their key is the JobId or the
// EnvId, so events with one owner are in one partition, in their order. The producer is idempotent and awaits all
// replicas that are in sync.
type Kafka struct {
	config  KafkaConfig
	options []kgo.Opt
	secrets secrets
	// ctx ends with Close.
	ctx   context.Context
	close context.CancelFunc

	mu     sync.Mutex
	client *kgo.Client // nil before the first Send, and after Close
	// healthy is whether a broker has answered since the last failure.
	healthy bool
}

var _ Sink = (*Kafka)(nil)

// NewKafka returns a sink, which connects at the first Send. An error names the field that is wrong, and has nothing
// secret in it.
func NewKafka(c KafkaConfig) (*Kafka, error) {
	options, hidden, err := c.options()
	if err != nil {
		return nil, err
	}
	k := &Kafka{config: c, options: options, secrets: hidden}
	k.ctx, k.close = context.WithCancel(context.Background())
	return k, nil
}

// Close closes the connections. A Send that has not returned, and later ones, return an error.
func (k *Kafka) Close() {
	k.close()
	k.mu.Lock()
	client := k.client
	k.client = nil
	k.mu.Unlock()
	if client != nil {
		client.Close()
	}
}

// Send is that of Sink. A batch that the brokers refuse is sent again in halves.
func (k *Kafka) Send(ctx context.Context, events []event.Event) error {
	for sent := 0; sent < len(events); {
		n := min(k.config.BatchSize, len(events)-sent)
		accepted, err := inHalves(events[sent:sent+n], func(events []event.Event) (int, error) { return k.sendBatch(ctx, events) })
		sent += accepted
		if err != nil {
			return &sendError{error: err, sent: sent}
		}
	}
	return nil
}

// sendBatch sends as many of the first events as a batch may have bytes, and at least one. It returns how many of the
// first were acknowledged.
func (k *Kafka) sendBatch(ctx context.Context, events []event.Event) (int, error) {
	bounded, cancel := context.WithTimeout(ctx, k.config.Timeout)
	defer cancel()
	defer context.AfterFunc(k.ctx, cancel)()
	client, err := k.connect(bounded)
	if err != nil {
		return 0, k.explain(ctx, bounded, err)
	}
	records, refused := k.encode(events)
	n, err := produce(bounded, client, records)
	if err == nil {
		err = refused
	}
	if err != nil {
		return n, k.explain(ctx, bounded, err)
	}
	return n, nil
}

// connect returns the client, which opens and repairs connections by itself. After a failure it has a broker answer
// first, as an error of that says more than one of a record that was not delivered.
func (k *Kafka) connect(ctx context.Context) (*kgo.Client, error) {
	k.mu.Lock()
	if k.ctx.Err() != nil {
		k.mu.Unlock()
		return nil, errClosed
	}
	if k.client == nil {
		client, err := kgo.NewClient(k.options...)
		if err != nil {
			k.mu.Unlock()
			return nil, err
		}
		k.client = client
	}
	client, healthy := k.client, k.healthy
	k.mu.Unlock()
	if healthy {
		return client, nil
	}
	if err := client.Ping(ctx); err != nil {
		return nil, err
	}
	k.setHealthy(true)
	return client, nil
}

func (k *Kafka) setHealthy(healthy bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.healthy = healthy
}

// encode returns the records of the first events: as many as a batch may have bytes, and at least one, unless that is
// refused.
func (k *Kafka) encode(events []event.Event) ([]*kgo.Record, error) {
	records := make([]*kgo.Record, 0, len(events))
	size := 0
	for i := range events {
		r, err := k.record(&events[i])
		if err != nil {
			return records, retry.AsTerminal(err)
		}
		if size += sizeOf(r); size > maxKafkaBatch && i > 0 {
			break
		}
		records = append(records, r)
	}
	return records, nil
}

// record returns the record of an event.
func (k *Kafka) record(e *event.Event) (*kgo.Record, error) {
	ce, err := e.CloudEvent(k.config.Origin)
	if err != nil {
		return nil, err
	}
	r := &kgo.Record{Topic: k.config.Topic, Key: []byte(e.Owner())}
	if k.config.Format == Structured {
		r.Headers = []kgo.RecordHeader{{Key: "content-type", Value: []byte(cloudevents.ApplicationCloudEventsJSON)}}
		r.Value, err = json.Marshal(ce)
		if err != nil {
			return nil, fmt.Errorf("encoding %s: %w", e.ID(), err)
		}
		return r, nil
	}
	r.Headers = []kgo.RecordHeader{{Key: "content-type", Value: []byte(ce.DataContentType())}}
	for name, value := range attributes(&ce) {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: "ce_" + name, Value: []byte(value)})
	}
	r.Value = ce.Data()
	return r, nil
}

// sizeOf returns about how many bytes a record takes.
func sizeOf(r *kgo.Record) int {
	size := 64 + len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		size += 8 + len(h.Key) + len(h.Value)
	}
	return size
}

// produce sends records and awaits their acknowledgements. It returns how many of the first were acknowledged, and
// the error of the one behind them.
func produce(ctx context.Context, client *kgo.Client, records []*kgo.Record) (int, error) {
	type outcome struct {
		index int
		err   error
	}
	outcomes := make(chan outcome, len(records)) // never blocks the client
	for i, r := range records {
		client.Produce(ctx, r, func(_ *kgo.Record, err error) { outcomes <- outcome{i, err} })
	}
	results := make([]error, len(records))
	for i := range results {
		results[i] = context.DeadlineExceeded
	}
wait:
	for range records {
		select {
		case o := <-outcomes:
			results[o.index] = o.err
		case <-ctx.Done():
			break wait
		}
	}
	for i, err := range results {
		if err != nil {
			return i, err
		}
	}
	return len(records), nil
}

// explain returns an error of Send. ctx is that of Send, and bounded is it with the timeout.
func (k *Kafka) explain(ctx, bounded context.Context, err error) error {
	class, _ := retry.Of(err)
	final := class == retry.Terminal || refusesRecord(err)
	if !final {
		k.setHealthy(false)
	}
	doing := "delivering to topic " + k.config.Topic
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", doing, ctx.Err())
	case k.ctx.Err() != nil:
		return errClosed
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID):
		return fmt.Errorf("%s: the topic does not exist, or this user may not see it: create it, or correct its name", doing)
	case bounded.Err() != nil, isTimeout(err):
		return fmt.Errorf("%s: no acknowledgement within %s", doing, k.config.Timeout)
	case errors.Is(err, context.Canceled): // the client fails all records of a partition together
		return fmt.Errorf("%s: the delivery of other events was cancelled, and this one with it", doing)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%s: a broker closed the connection: see its log, and compare TLS and SASL with its configuration", doing)
	}
	out := fmt.Errorf("%s: %s", doing, k.secrets.clean(err.Error()))
	if final {
		return retry.AsTerminal(out)
	}
	return out
}

// refusesRecord reports whether an error refuses a record, or a batch of records, by itself.
func refusesRecord(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge) || errors.Is(err, kerr.InvalidRecord)
}
