// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"
)

// from is a connection whose other end has an address.
type from struct {
	net.Conn
	addr net.TCPAddr
}

func (f from) RemoteAddr() net.Addr { return &f.addr }

// dialTable enters a connection from an address that made progress at a time.
func dialTable(t *testing.T, table *connTable, addr string, progress int64) (c *conn, other net.Conn) {
	t.Helper()
	a, b := net.Pipe()
	t.Cleanup(func() { _ = b.Close() })
	c = table.add(from{a, net.TCPAddr{IP: net.ParseIP(addr), Port: 1}})
	c.progress.Store(progress)
	return c, b
}

func isClosed(other net.Conn) bool {
	_ = other.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := other.Read(make([]byte, 1))
	return errors.Is(err, io.EOF)
}

func TestConnTableEvictsTheLargest(t *testing.T) {
	table := newConnTable(5, 5)
	_, few := dialTable(t, table, "10.0.0.1", 1) // stalled longest, but there is only one
	var many []net.Conn
	for i := range 4 {
		_, b := dialTable(t, table, "10.0.0.2", int64(20-i))
		many = append(many, b)
	}
	_, next := dialTable(t, table, "10.0.0.3", 100)
	if isClosed(few) || isClosed(next) {
		t.Error("an address with one connection gave way")
	}
	for i, c := range many {
		if got, want := isClosed(c), i == 3; got != want {
			t.Errorf("connection %d is closed: %v, want %v: the one that is stalled longest gives way", i, got, want)
		}
	}
	if n := table.count[pending]; n != 5 {
		t.Errorf("%d connections, want 5", n)
	}
}

func TestConnTableSparesTheTrusted(t *testing.T) {
	table := newConnTable(4, 4)
	var known []net.Conn
	for range 3 {
		c, b := dialTable(t, table, "10.0.0.1", 1)
		table.promote(c, open)
		table.promote(c, trusted)
		known = append(known, b)
	}
	for i := range 100 {
		dialTable(t, table, netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}).String(), int64(1000+i))
	}
	for _, c := range known {
		if isClosed(c) {
			t.Error("a known client gave way")
		}
	}
	// When all are known, they give way to each other.
	c, b := dialTable(t, table, "10.0.0.2", 5000)
	table.promote(c, trusted)
	_, last := dialTable(t, table, "10.0.0.3", 6000)
	if isClosed(b) || isClosed(last) {
		t.Error("the wrong one gave way")
	}
	closed := 0
	for _, c := range known {
		if isClosed(c) {
			closed++
		}
	}
	if closed != 1 {
		t.Errorf("%d of the largest client's connections were closed, want 1", closed)
	}
}

func TestConnTableBoundsHandshakes(t *testing.T) {
	table := newConnTable(100, 3)
	c, b := dialTable(t, table, "10.0.0.1", 1)
	table.promote(c, open)
	for i := range 50 {
		dialTable(t, table, "10.0.0.2", int64(i))
	}
	if table.count[pending] != 3 || table.count[open] != 1 || isClosed(b) {
		t.Errorf("%v connections, closed %v", table.count, isClosed(b))
	}
	if table.evicted != 47 {
		t.Errorf("%d gave way, want 47", table.evicted)
	}
	_ = c.Close()
	_ = c.Close()
	table.promote(c, trusted) // too late
	if table.count != [classes]int{3, 0, 0} || len(table.sources) != 1 {
		t.Errorf("%v connections of %d addresses", table.count, len(table.sources))
	}
}

// TestConnTableTakesABurst opens what three API servers open when each of their requests in flight
// needs a connection of its own: none of them gives way.
func TestConnTableTakesABurst(t *testing.T) {
	table := newConnTable(webhookConns, webhookPending)
	for server := range 3 {
		for i := range 200 {
			dialTable(t, table, netip.AddrFrom4([4]byte{10, 0, 0, byte(server)}).String(), int64(i))
		}
	}
	if table.evicted != 0 {
		t.Errorf("%d of 600 connections gave way", table.evicted)
	}
}

func TestSource(t *testing.T) {
	for addr, want := range map[string]string{
		"10.0.0.1:5": "10.0.0.1", "[::ffff:10.0.0.1]:5": "10.0.0.1", "[2001:db8:1:2:3:4:5:6]:5": "2001:db8:1:2::", "[::1]:5": "::1",
		"[fe80::1%eth0]:5": "fe80::", "nonsense": "invalid IP",
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = addr
		if got := Source(r).String(); got != want {
			t.Errorf("%s is counted as %s, want %s", addr, got, want)
		}
	}
	Trust(httptest.NewRequest(http.MethodGet, "/", nil)) // of no server of ours
}
