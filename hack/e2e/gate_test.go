//go:build e2e

// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

// gate is a network path to the store beside the cluster that a test can close and slow down.
type gate struct {
	listener net.Listener
	closed   atomic.Bool
	// refused counts the connections that the gate was closed for.
	refused atomic.Int64
	// delay is how long each 16 KiB on their way to the store wait.
	delay atomic.Int64
}

// gates are those that the catalogue knows, by the first label of their hosts: cos://BUCKET.NAME.gate.test/ goes
// through the gate NAME.
var gates = map[string]*gate{"down": nil, "slow": nil, "staged": nil, "disks": nil, "long": nil, "node": nil, "ended": nil}

// openGates opens the gates and adds them to the catalogue of the cluster, and a store that nobody answers for.
func openGates() error {
	s := cluster.Store
	if s == nil {
		return nil
	}
	for name := range gates {
		l, err := net.Listen("tcp", net.JoinHostPort(cluster.HostIP, "0"))
		if err != nil {
			return fmt.Errorf("opening gate %s: %w", name, err)
		}
		g := &gate{listener: l}
		gates[name] = g
		s.Rules = append(s.Rules, s.Rule("*."+name+".gate.test", "http://"+l.Addr().String()))
		go g.serve(strings.TrimPrefix(s.Endpoint, "http://"))
	}
	return nil
}

func (g *gate) serve(to string) {
	for {
		from, err := g.listener.Accept()
		if err != nil {
			return
		}
		go g.pass(from, to)
	}
}

// shut closes the gate, also for the connections that there are.
func (g *gate) shut() {
	g.refused.Store(0)
	g.closed.Store(true)
}

// open opens it again.
func (g *gate) open() { g.closed.Store(false) }

// knocked fails while the closed gate has not refused several connections.
func (g *gate) knocked() error {
	if n := g.refused.Load(); n < 3 {
		return fmt.Errorf("%d attempts", n)
	}
	return nil
}

// pass copies both ways until one end, or the gate, is closed.
func (g *gate) pass(from net.Conn, to string) {
	defer from.Close()
	if g.closed.Load() {
		g.refused.Add(1)
		return
	}
	store, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer store.Close()
	done := make(chan struct{}, 2)
	move := func(dst io.Writer, src io.Reader, delay *atomic.Int64) {
		defer func() { done <- struct{}{} }()
		buffer := make([]byte, 16<<10)
		for {
			n, err := src.Read(buffer)
			if delay != nil {
				time.Sleep(time.Duration(delay.Load()))
			}
			if g.closed.Load() {
				return
			}
			if _, werr := dst.Write(buffer[:n]); err != nil || werr != nil {
				return
			}
		}
	}
	go move(store, from, &g.delay)
	go move(from, store, nil)
	<-done
}
