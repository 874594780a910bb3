// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"batchcompute.dev/operator/internal/notify/event"
	"batchcompute.dev/operator/internal/retry"
)

// maxRun is how many events of different owners are published before their acknowledgements are awaited.
const maxRun = 64

// The codes of JetStream's errors that refuse one event.
const (
	natsMessageTooLarge jetstream.ErrorCode = 10054
	natsHeaderTooLarge  jetstream.ErrorCode = 10097
)

// NATS is a receiver that is reached by NATS JetStream. It may be used by several goroutines.
//
// An event is a structured CloudEvent, as version 1.0.2 of the NATS Protocol Binding knows no other form; later
// drafts recognise it by its Content-Type. Its header Nats-Msg-Id is the event's id, so a stream drops an event that
// it has had within its duplicate window.
type NATS struct {
	config  NATSConfig
	options nats.Options
	secrets secrets
	// ctx ends with Close.
	ctx   context.Context
	close context.CancelFunc
	// lock has one element while a goroutine uses link, which may take as long as a connection attempt.
	lock chan struct{}
	link *natsLink
}

var _ Sink = (*NATS)(nil)

// NewNATS returns a sink, which connects at the first Send. An error names the field that is wrong, and has nothing
// secret in it.
func NewNATS(c NATSConfig) (*NATS, error) {
	options, hidden, err := c.options()
	if err != nil {
		return nil, err
	}
	n := &NATS{config: c, options: options, secrets: hidden, lock: make(chan struct{}, 1)}
	n.ctx, n.close = context.WithCancel(context.Background())
	return n, nil
}

// Close closes the connection. A Send that has not returned, and later ones, return an error.
func (n *NATS) Close() {
	n.close()
	n.lock <- struct{}{}
	defer func() { <-n.lock }()
	if n.link != nil {
		n.link.close()
		n.link = nil
	}
}

// Send is that of Sink. An event is published when the events before it that have its owner were acknowledged: else a
// stream whose leader changes could lose one and store the next.
func (n *NATS) Send(ctx context.Context, events []event.Event) error {
	for sent := 0; sent < len(events); {
		acknowledged, err := n.publish(ctx, events[sent:sent+runOf(events[sent:])])
		sent += acknowledged
		if err != nil {
			return &sendError{error: err, sent: sent}
		}
	}
	return nil
}

// runOf returns how many of the first events have different owners: at least 1, at most maxRun.
func runOf(events []event.Event) int {
	owners := make(map[string]bool, maxRun)
	for i := range events {
		owner := events[i].Owner()
		if i == maxRun || owners[owner] {
			return i
		}
		owners[owner] = true
	}
	return len(events)
}

// publish publishes events of different owners. It returns how many of the first were acknowledged.
func (n *NATS) publish(ctx context.Context, events []event.Event) (int, error) {
	bounded, cancel := context.WithTimeout(ctx, n.config.Timeout)
	defer cancel()
	defer context.AfterFunc(n.ctx, cancel)()
	link, err := n.connect(bounded)
	if err != nil {
		return 0, n.explain(ctx, bounded, "connecting to "+strings.Join(n.config.Servers, ", "), err)
	}
	futures := make([]jetstream.PubAckFuture, 0, len(events))
	var refused error
	for i := range events {
		future, err := n.start(link, &events[i])
		if err != nil {
			refused = err
			break
		}
		futures = append(futures, future)
	}
	doing := "publishing to subject " + n.config.Subject
	for i, future := range futures {
		if err := link.await(bounded, future); err != nil {
			if bounded.Err() != nil && ctx.Err() == nil {
				link.fail(err) // another server may answer
			}
			return i, n.explain(ctx, bounded, doing, err)
		}
	}
	if refused != nil {
		return len(futures), n.explain(ctx, bounded, doing, refused)
	}
	return len(futures), nil
}

// start publishes an event and returns what its acknowledgement will be.
func (n *NATS) start(link *natsLink, e *event.Event) (jetstream.PubAckFuture, error) {
	header, body, err := Structured.encode(n.config.Origin, []event.Event{*e})
	if err != nil {
		return nil, retry.AsTerminal(err)
	}
	m := &nats.Msg{Subject: n.config.Subject, Header: nats.Header(header), Data: body}
	link.allow(maxAnswer)
	// A retry of the client would hold up Send; the caller has its own.
	return link.stream.PublishMsgAsync(m, jetstream.WithMsgID(e.ID()), jetstream.WithRetryAttempts(0))
}

// connect returns a connection: the one that there is, unless it has failed.
func (n *NATS) connect(ctx context.Context) (*natsLink, error) {
	select {
	case n.lock <- struct{}{}:
		defer func() { <-n.lock }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if n.link != nil && !n.link.hasFailed() {
		return n.link, nil
	}
	if n.link != nil {
		n.link.close()
		n.link = nil
	}
	link, err := dialNATS(ctx, n.options, n.config.Timeout)
	if err != nil {
		return nil, err
	}
	n.link = link
	return link, nil
}

// explain returns an error of Send. ctx is that of Send, and bounded is it with the timeout.
func (n *NATS) explain(ctx, bounded context.Context, doing string, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", doing, ctx.Err())
	case n.ctx.Err() != nil:
		return errClosed
	case bounded.Err() != nil, isTimeout(err):
		return fmt.Errorf("%s: no answer within %s", doing, n.config.Timeout)
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%s: no JetStream stream captures this subject, or the stream has no leader: create a stream with this "+
			"subject in the account of this user, or correct the subject", doing)
	}
	out := fmt.Errorf("%s: %s", doing, n.secrets.clean(err.Error()))
	if refusesEvent(err) {
		return retry.AsTerminal(out)
	}
	return out
}

// refusesEvent reports whether an error refuses an event by itself.
func refusesEvent(err error) bool {
	if api := (*jetstream.APIError)(nil); errors.As(err, &api) {
		return api.ErrorCode == natsMessageTooLarge || api.ErrorCode == natsHeaderTooLarge
	}
	class, _ := retry.Of(err)
	return class == retry.Terminal || errors.Is(err, nats.ErrMaxPayload)
}

// isTimeout reports whether an answer did not come in time.
func isTimeout(err error) bool {
	timeout := net.Error(nil)
	return errors.As(err, &timeout) && timeout.Timeout()
}
