// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package store talks to one bucket of an S3 service. It repeats what fails for a while, resumes what was
// interrupted, and explains what fails for good. Keys are read from files for each request, since a Secret
// can be rotated meanwhile.
package store

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/staging/attempt"
	"batchcompute.dev/operator/internal/staging/fault"
)

// defaultRegion is that of a signature where none is configured: most servers that are not a cloud's accept
// it, and asking the server takes a request that keys are often not allowed to make.
const defaultRegion = "us-east-1"

// Options are those of a Client, apart from the store itself.
type Options struct {
	Policy attempt.Policy
	// Connections is how many connections are kept open; 0 means 32.
	Connections int
	// Dial replaces the resolver and the connection of the system; nil means those.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Wrap is put around the transport; nil means nothing. Tests break connections with it.
	Wrap func(http.RoundTripper) http.RoundTripper
}

// Client is for one bucket. It can be used by several goroutines.
type Client struct {
	core   *minio.Core
	bucket string
	keys   keySource
	// secure says that the connection is protected by TLS.
	secure bool
	policy attempt.Policy
	// accepted says that the store has accepted the keys once.
	accepted atomic.Bool
}

// New returns a client. It makes no request.
func New(s agentapi.Store, o Options) (*Client, error) {
	u, err := url.Parse(s.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Path != "" && u.Path != "/" {
		return nil, fault.Final(fault.Address, "", "the store's endpoint is not of the form https://HOST", "correct it in the catalogue")
	}
	if err := s3utils.CheckValidBucketName(s.Bucket); err != nil {
		return nil, fault.Final(fault.Name, "", "the name of the bucket, "+fault.Quote(s.Bucket)+", cannot be one: "+err.Error(), "correct it")
	}
	transport, err := Transport(TransportOptions{CA: s.CA, Connections: o.Connections, Dial: o.Dial})
	if err != nil {
		return nil, err
	}
	var wrapped http.RoundTripper = transport
	if o.Wrap != nil {
		wrapped = o.Wrap(transport)
	}
	lookup := minio.BucketLookupDNS
	if s.PathStyle {
		lookup = minio.BucketLookupPath
	}
	region := s.Region
	if region == "" {
		region = defaultRegion
	}
	core, err := minio.NewCore(u.Host, &minio.Options{
		Creds:        provider(s, wrapped),
		Secure:       u.Scheme == "https",
		Transport:    repeatCOS{wrapped},
		Region:       region,
		BucketLookup: lookup,
		// Only this package repeats requests: it knows which are resumed, and for how long.
		MaxRetries: 1,
	})
	if err != nil {
		return nil, fault.Final(fault.Address, "", "the store's endpoint cannot be used: "+err.Error(), "correct it in the catalogue")
	}
	return &Client{core: core, bucket: s.Bucket, keys: keySource{s}, secure: u.Scheme == "https", policy: o.Policy}, nil
}

// do repeats f as the policy says, and explains its errors.
func (c *Client) do(ctx context.Context, key string, f func(ctx context.Context, w *attempt.Watch) error) error {
	return c.policy.Do(ctx, func(ctx context.Context, w *attempt.Watch) error {
		err := f(ctx, w)
		if err == nil {
			c.accepted.Store(true)
			return nil
		}
		if attempt.IsFinal(err) {
			return err
		}
		err = c.explain(key, err)
		if fault.Is(err, fault.Changed) {
			return attempt.Final(err) // the same request has the same answer
		}
		return err
	})
}
