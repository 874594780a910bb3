// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"context"
	"errors"
	"time"

	"batchcompute.dev/operator/internal/notify/event"
)

// NATSConfig describes a subject of NATS that a JetStream stream captures.
type NATSConfig struct {
	// Servers are 1 to 10 URLs of servers of one cluster: nats or tls, with a host and maybe a port, without a user.
	// Those with tls refuse to talk without TLS; with nats the server decides, unless CA is set.
	Servers []string
	// Subject is where events are published. It must have no wildcard.
	Subject string
	Origin  event.Origin
	Auth    NATSAuth
	// CA are the certificate authorities of the servers, as PEM; "" means those of the system. If it is set, TLS is
	// used with all servers.
	CA string
	// Timeout bounds a connection attempt, and a round of publishing with its acknowledgements: at most a minute; 0
	// means 10 s.
	Timeout time.Duration
}

// NATSAuth is how a client of NATS proves who it is. At most one of Username, Token and Credentials is set; none means
// no proof.
type NATSAuth struct {
	Username, Password string
	Token              string
	// Credentials is the content of a file with a JWT and its NKey seed (".creds"), or of one with an NKey seed (".nk").
	Credentials string
}

// NATS is a receiver that is reached by NATS JetStream. It may be used by several goroutines.
type NATS struct{ config NATSConfig }

var _ Sink = (*NATS)(nil)

// NewNATS returns a sink, which connects at the first Send. An error names the field that is wrong, and has nothing
// secret in it.
func NewNATS(c NATSConfig) (*NATS, error) { return &NATS{config: c}, nil }

// Send is that of Sink.
func (n *NATS) Send(context.Context, []event.Event) error { return errors.New("not implemented") }

// Close closes the connection. A later Send returns an error.
func (n *NATS) Close() {}
