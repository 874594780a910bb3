// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package server has the HTTP servers of the manager: webhook, metrics and probes. Any Pod of
// the cluster may reach their ports, so each of them has a bound on everything that a client
// can make it hold: connections, TLS handshakes, headers, bodies, and the time of each.
//
//	listener ──▶ TLS, header ──▶ path token ──▶ body ──▶ decode, validate ──▶ answer
//	connTable    deadline        Webhook        bodyBudget  turns             deadline
//
// Where a bound is reached somebody has to give way. It is always the client address that
// holds the most, and of what it holds that which made no progress for the longest time. So
// one address that takes whatever it can get takes it from itself, and the few connections of
// an API server or a kubelet stay. A connection that has shown that it belongs to a known
// client, see Trust, gives way only when there are hardly any others.
//
// HTTP/2 is off. The API server speaks HTTP/1.1 to webhooks in any case, so that several
// replicas share the load; Prometheus and the kubelet do not need it; and each HTTP/2 connection
// would hold received bytes and streams that no bound here sees.
package server
