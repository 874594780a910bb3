// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// maxGreeting bounds what a server sends beside its acknowledgements. Unit: bytes.
	maxGreeting = 256 << 10
	// maxPending bounds the events without acknowledgement of a connection, over all calls of Send.
	maxPending = 1024
)

var (
	errVerbose = errors.New("the server sent more than its protocol needs")
	errDropped = errors.New("the connection was closed")
)

// natsLink is a connection to a server. It is not repaired: who finds that it has failed opens another one.
type natsLink struct {
	conn   *nats.Conn
	raw    *boundedConn
	stream jetstream.JetStream
	once   sync.Once
	failed chan struct{} // closed when err is set
	err    error
}

// dialNATS connects to one of the servers. It ends with ctx. timeout is how long acknowledgements are awaited.
func dialNATS(ctx context.Context, options nats.Options, timeout time.Duration) (*natsLink, error) {
	l := &natsLink{failed: make(chan struct{})}
	dialer := &natsDialer{ctx: ctx, timeout: options.Timeout}
	options.CustomDialer = dialer
	options.AsyncErrorCB = func(_ *nats.Conn, _ *nats.Subscription, err error) { l.fail(err) }
	options.ClosedCB = func(c *nats.Conn) { l.fail(fmt.Errorf("%w: %w", errDropped, cmp.Or(c.LastError(), io.EOF))) }
	conn, err := options.Connect()
	if !dialer.finish() && err == nil {
		conn.Close()
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	l.conn, l.raw = conn, dialer.conn
	l.stream, err = jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(maxPending),
		jetstream.WithPublishAsyncTimeout(timeout+time.Second)) // Send ends before
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// fail makes the connection one that is not used again.
func (l *natsLink) fail(err error) {
	l.once.Do(func() {
		l.err = err
		close(l.failed)
	})
}

func (l *natsLink) hasFailed() bool {
	select {
	case <-l.failed:
		return true
	default:
		return l.conn.IsClosed() // which is before the client reports it
	}
}

// close closes the connection. It does not wait for the server.
func (l *natsLink) close() {
	l.fail(errDropped)
	l.raw.Close() // so that no write to a server that does not read is awaited
	l.conn.Close()
}

// allow lets the server send further bytes.
func (l *natsLink) allow(bytes int64) { l.raw.left.Add(bytes) }

// await returns nil when the event was acknowledged.
func (l *natsLink) await(ctx context.Context, future jetstream.PubAckFuture) error {
	select {
	case <-future.Ok():
		return nil
	case err := <-future.Err():
		return err
	case <-l.failed:
	case <-ctx.Done():
	}
	select {
	case <-future.Ok():
		return nil
	default:
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return l.err
}

// natsDialer opens connections to servers, one after the other, until ctx ends.
type natsDialer struct {
	ctx     context.Context //nolint:containedctx // nats.CustomDialer has none
	timeout time.Duration
	conn    *boundedConn
	stop    func() bool
}

// Dial is that of nats.CustomDialer.
func (d *natsDialer) Dial(network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: d.timeout}).DialContext(d.ctx, network, address)
	if err != nil {
		return nil, err
	}
	d.finish()
	d.conn = &boundedConn{Conn: conn, timeout: d.timeout}
	d.conn.left.Store(maxGreeting)
	d.stop = context.AfterFunc(d.ctx, func() { conn.Close() }) // it ends the handshake
	return d.conn, nil
}

// finish lets the last connection outlive ctx. It returns false if ctx has ended before.
func (d *natsDialer) finish() bool { return d.stop == nil || d.stop() }

// boundedConn is a connection whose other side can send a bounded number of bytes, and must read what it is sent.
type boundedConn struct {
	net.Conn
	left    atomic.Int64
	timeout time.Duration
}

// Read is that of net.Conn.
func (c *boundedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.left.Add(-int64(n)) < 0 {
		c.Conn.Close() // an error is returned anyway
		return 0, errVerbose
	}
	return n, err
}

// Write is that of net.Conn.
func (c *boundedConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
