// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
)

// Options are the bounds of a server. All are required but TLS.
type Options struct {
	// Name is for logs and errors.
	Name string
	// Addr is the address to listen on, such as ":8081".
	Addr string
	// Handler answers requests.
	Handler http.Handler
	// TLS serves HTTPS; nil serves HTTP.
	TLS *tls.Config
	// MaxConns is how many connections may be open. A further one closes another.
	MaxConns int
	// MaxPending is how many of them may be without a request yet, in their TLS handshakes.
	MaxPending int
	// HeaderTimeout is how long a handshake and a request's header may take.
	HeaderTimeout time.Duration
	// ReadTimeout is how long header and body may take together. 0: the handler sets the
	// deadline of the body.
	ReadTimeout time.Duration
	// WriteTimeout is how long an answer may take, from the end of the header.
	WriteTimeout time.Duration
	// IdleTimeout is how long a connection may be without a request between two.
	IdleTimeout time.Duration
	// MaxHeaderBytes is how long a header may be; net/http adds 4 KiB.
	MaxHeaderBytes int
}

// shutdownTimeout is how long requests may take to end after a server is told to. It is less
// than the manager's own.
const shutdownTimeout = 6 * time.Second

// Server serves HTTP within bounds. It is a Runnable of a manager.
type Server struct {
	o        Options
	listener net.Listener
	table    *connTable
}

// Listen opens the port. Nobody is answered before Start; Close or Start frees it.
func Listen(o Options) (*Server, error) {
	l, err := net.Listen("tcp", o.Addr) //nolint:noctx // resolves no name that could take long
	if err != nil {
		return nil, fmt.Errorf("listening for the %s server: %w", o.Name, err)
	}
	return &Server{o: o, listener: l, table: newConnTable(o.MaxConns, o.MaxPending)}, nil
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// NeedLeaderElection reports that every replica serves.
func (s *Server) NeedLeaderElection() bool { return false }

// Close frees the port of a server that was not started.
func (s *Server) Close() error { return s.listener.Close() }

// Start serves until ctx ends, and then lets requests end for some seconds.
func (s *Server) Start(ctx context.Context) error {
	logger := ctrllog.FromContext(ctx).WithValues("server", s.o.Name)
	srv := &http.Server{
		Handler:           s.o.Handler,
		ReadHeaderTimeout: s.o.HeaderTimeout,
		ReadTimeout:       s.o.ReadTimeout,
		WriteTimeout:      s.o.WriteTimeout,
		IdleTimeout:       s.o.IdleTimeout,
		MaxHeaderBytes:    s.o.MaxHeaderBytes,
		ConnState:         connState,
		ConnContext:       connContext,
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){}, // no HTTP/2
		ErrorLog:          log.New(&errorLog{logger: logger, limit: rate.NewLimiter(rate.Every(10*time.Second), 3)}, "", 0),
	}
	srv.Protocols = new(http.Protocols)
	srv.Protocols.SetHTTP1(true)
	l := net.Listener(&connListener{s.listener, s.table})
	if s.o.TLS != nil {
		conf := s.o.TLS.Clone()
		conf.NextProtos = []string{"http/1.1"}
		l = tls.NewListener(l, conf)
	}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		err := srv.Shutdown(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			err = srv.Close() // somebody stalls; the manager must not wait for them
		}
		stopped <- err
	}()
	logger.Info("Serving", "address", s.Addr().String())
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving %s: %w", s.o.Name, err)
	}
	if err := <-stopped; err != nil {
		return fmt.Errorf("stopping the %s server: %w", s.o.Name, err)
	}
	return nil
}

// errorLog takes what net/http has to say about connections. A client can cause any number of
// such lines, so most are only counted.
type errorLog struct {
	logger  logr.Logger
	limit   *rate.Limiter
	dropped atomic.Int64
}

func (l *errorLog) Write(p []byte) (int, error) {
	if !l.limit.Allow() {
		l.dropped.Add(1)
		return len(p), nil
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(p)), "\n") // a panic has its stack behind it
	l.logger.Info("Dropped a connection", "reason", line, "notLogged", l.dropped.Swap(0))
	return len(p), nil
}
