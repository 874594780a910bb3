// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/net/http/httpproxy"

	"batchcompute.dev/operator/internal/staging/fault"
)

// TransportOptions are those of Transport.
type TransportOptions struct {
	// CA are certificates of authorities in PEM form; empty means the system's.
	CA string
	// Connections is how many connections are kept open; 0 means 32.
	Connections int
	// Dial replaces the resolver and the connection of the system; nil means those.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// bufferBytes is the size of a connection's read and write buffers: larger ones save little, and there are
// many connections.
const bufferBytes = 32 << 10

// Transport returns a transport of HTTP/1.1 that uses the proxies of the environment variables HTTP_PROXY,
// HTTPS_PROXY and NO_PROXY. It has no time-outs for answers: package attempt watches them.
func Transport(o TransportOptions) (*http.Transport, error) {
	t := &http.Transport{
		Proxy:               proxy(),
		DialContext:         o.Dial,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: o.Connections,
		IdleConnTimeout:     time.Minute,
		DisableCompression:  true,
		ReadBufferSize:      bufferBytes,
		WriteBufferSize:     bufferBytes,
	}
	if t.DialContext == nil {
		t.DialContext = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext
	}
	if t.MaxIdleConnsPerHost == 0 {
		t.MaxIdleConnsPerHost = 32
	}
	if o.CA != "" {
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM([]byte(o.CA)) {
			return nil, fault.Final(fault.Certificate, "", "there is no certificate in ca", "have it in PEM form in the operator's catalogue")
		}
	}
	return t, nil
}

// proxy returns the function that chooses the proxy. Unlike http.ProxyFromEnvironment it says nothing of a
// proxy's address, which can have a password in it.
func proxy() func(*http.Request) (*url.URL, error) {
	choose := httpproxy.FromEnvironment().ProxyFunc()
	return func(r *http.Request) (*url.URL, error) {
		u, err := choose(r.URL)
		if err != nil {
			return nil, fault.Final(fault.Address, "", "HTTP_PROXY or HTTPS_PROXY is not a URL", "correct it")
		}
		return u, nil
	}
}
