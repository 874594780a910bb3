// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// class is how far a connection has come.
type class int

const (
	pending class = iota // no byte of a request yet: in its TLS handshake, or before
	open                 // has sent a request
	trusted              // has shown that it belongs to a known client
	classes
)

// connTable bounds the connections of a listener. The zero value is not valid.
type connTable struct {
	maxConns   int // of all classes
	maxPending int

	mu      sync.Mutex
	count   [classes]int
	sources map[netip.Addr]*connSource
	evicted uint64 // how many gave way, for tests
}

// connSource is what one client address has open.
type connSource struct {
	conns [classes]map[*conn]struct{}
}

func newConnTable(maxConns, maxPending int) *connTable {
	return &connTable{maxConns: maxConns, maxPending: maxPending, sources: map[netip.Addr]*connSource{}}
}

// conn is a connection that the table knows of until it is closed.
type conn struct {
	net.Conn
	table    *connTable
	source   netip.Addr
	progress atomic.Int64 // when the last byte came or went, Unix time in nanoseconds
	class    class        // guarded by table.mu
	closed   bool         // guarded by table.mu
}

// connListener hands out connections that its table knows of.
type connListener struct {
	net.Listener
	table *connTable
}

// Accept never fails for want of room: a connection too many closes another.
func (l *connListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.table.add(c), nil
}

// add enters a new connection and closes those that have to give way to it.
func (t *connTable) add(raw net.Conn) *conn {
	c := &conn{Conn: raw, table: t, source: sourceOf(raw.RemoteAddr())}
	c.progress.Store(time.Now().UnixNano())
	t.mu.Lock()
	t.insert(c, pending)
	var victims []*conn
	if t.count[pending] > t.maxPending {
		victims = append(victims, t.evict(pending))
	}
	if t.count[pending]+t.count[open]+t.count[trusted] > t.maxConns {
		// Known clients may take most connections, but one that is not known yet gets through.
		if t.count[pending]+t.count[open] > max(1, t.maxConns/10) {
			victims = append(victims, t.evict(pending, open))
		} else {
			victims = append(victims, t.evict(trusted))
		}
	}
	t.mu.Unlock()
	for _, v := range victims {
		v.abort()
	}
	return c
}

// insert enters a connection under a class. The caller holds the lock.
func (t *connTable) insert(c *conn, k class) {
	s := t.sources[c.source]
	if s == nil {
		s = &connSource{}
		t.sources[c.source] = s
	}
	if s.conns[k] == nil {
		s.conns[k] = map[*conn]struct{}{}
	}
	s.conns[k][c] = struct{}{}
	c.class = k
	t.count[k]++
}

// remove takes a connection out. The caller holds the lock.
func (t *connTable) remove(c *conn) {
	s := t.sources[c.source]
	delete(s.conns[c.class], c)
	t.count[c.class]--
	if len(s.conns[pending])+len(s.conns[open])+len(s.conns[trusted]) == 0 {
		delete(t.sources, c.source)
	}
}

// evict takes out, of the address with most connections of these classes, the one without
// progress for the longest time. nil if there is none. The caller holds the lock, and closes it.
func (t *connTable) evict(kinds ...class) *conn {
	var largest *connSource
	most := 0
	var victim *conn
	for _, s := range t.sources {
		n := 0
		for _, k := range kinds {
			n += len(s.conns[k])
		}
		// Between addresses with as many, the one with the connection that is stalled longest.
		if n > most || n > 0 && n == most && s.stalled(kinds).before(victim) {
			most, largest = n, s
			victim = largest.stalled(kinds)
		}
	}
	if victim != nil {
		t.remove(victim)
		victim.closed = true
		t.evicted++
	}
	return victim
}

// stalled returns the connection of these classes without progress for the longest time.
func (s *connSource) stalled(kinds []class) *conn {
	var first *conn
	for _, k := range kinds {
		for c := range s.conns[k] {
			if first == nil || c.before(first) {
				first = c
			}
		}
	}
	return first
}

// before reports whether c made its last progress before other did.
func (c *conn) before(other *conn) bool { return c.progress.Load() < other.progress.Load() }

// promote moves a connection to a higher class.
func (t *connTable) promote(c *conn, k class) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.closed || c.class >= k {
		return
	}
	t.remove(c)
	t.insert(c, k)
}

// abort closes a connection that was taken out, without waiting for what is still to be sent.
func (c *conn) abort() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Conn.Close()
}

// Close closes the connection and takes it out of the table.
func (c *conn) Close() error {
	c.table.mu.Lock()
	if !c.closed {
		c.table.remove(c)
		c.closed = true
	}
	c.table.mu.Unlock()
	return c.Conn.Close()
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.progress.Store(time.Now().UnixNano())
	}
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if n > 0 {
		c.progress.Store(time.Now().UnixNano())
	}
	return n, err
}

// connOf returns the table's connection below what http.Server has in hand; nil if there is none.
func connOf(nc net.Conn) *conn {
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	c, _ := nc.(*conn)
	return c
}

// connState is for http.Server.
func connState(nc net.Conn, state http.ConnState) {
	if c := connOf(nc); c != nil && state == http.StateActive {
		c.table.promote(c, open)
	}
}

// connKey is the key of a request's connection in its context.
type connKey struct{}

// connContext is for http.Server.
func connContext(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, connOf(nc))
}

// Trust says that the request's connection belongs to a known client: it gives way to others
// only when nine tenths of all are of known clients. It does nothing for a request of another
// server.
func Trust(r *http.Request) {
	if c, _ := r.Context().Value(connKey{}).(*conn); c != nil {
		c.table.promote(c, trusted)
	}
}

// Source returns the client's address by which a request is counted: an IPv6 client is counted
// by its /64, since a host has them all. The zero value stands for an address that is none.
func Source(r *http.Request) netip.Addr {
	if c, _ := r.Context().Value(connKey{}).(*conn); c != nil {
		return c.source
	}
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return grouped(ap.Addr())
}

func sourceOf(addr net.Addr) netip.Addr {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return grouped(tcp.AddrPort().Addr())
}

func grouped(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is4() || a.IsLoopback() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}
