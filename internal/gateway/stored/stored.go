// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package stored reads the ends of the streams of instances from the objects that the agent has stored.
//
// A store is somebody else's server. So each object is one request, signed with a key of the tenant, that is not repeated,
// follows no redirect, ends in time, and reads no more than the end of a stream, whatever the server sends. A namespace
// has few requests at once, so that its slow store keeps only its own callers waiting.
package stored

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/s3utils"
	"github.com/minio/minio-go/v7/pkg/signer"
	utilcache "k8s.io/apimachinery/pkg/util/cache"

	"batchcompute.dev/operator/internal/agentapi"
)

// Bounds of reading objects.
const (
	// objectTimeout bounds one object, from the connection to the last byte.
	objectTimeout = 3 * time.Second
	// maxAtOnce is how many objects are read at the same time for a namespace.
	maxAtOnce = 8
	// maxHeader bounds the header of an answer. Unit: bytes.
	maxHeader = 32 << 10
	// bufferBytes is the size of the buffers of a connection.
	bufferBytes = 4 << 10
	// transportCount and transportTTL bound the transports that are kept, one for each list of authorities.
	transportCount = 32
	transportTTL   = 10 * time.Minute
)

// Object is an object with a stream.
type Object struct {
	// Store is where it is; Credentials is not used.
	Store agentapi.Store
	Key   string
}

// Keys are what a request is signed with. Token is empty for keys that are not temporary.
type Keys struct{ ID, Secret, Token string }

// Reader reads objects. It may be used by several goroutines.
type Reader struct {
	turns      turns
	transports *utilcache.LRUExpireCache // certificates of authorities -> *http.Transport
	timeout    time.Duration             // of one object
}

// NewReader returns a reader. It makes no connection before it is used.
func NewReader() *Reader {
	return &Reader{transports: utilcache.NewLRUExpireCache(transportCount), timeout: objectTimeout}
}

// End returns the last agentapi.MaxTail bytes of an object, not nil, for a namespace. It waits for a turn of the namespace
// until ctx ends, and then takes no longer than 3 s. The text of the error has no secret, and nothing that the server sent
// but its status.
func (r *Reader) End(ctx context.Context, namespace string, o Object, k Keys) ([]byte, error) {
	request, err := newRequest(o, k)
	if err != nil {
		return nil, err
	}
	transport, err := r.transport(o.Store.CA)
	if err != nil {
		return nil, err
	}
	done, err := r.turns.start(ctx, namespace)
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	// A transport follows no redirects and keeps no cookies, as a client does.
	answer, err := transport.RoundTrip(sign(request.WithContext(ctx), o.Store.Region, k))
	if err != nil {
		return nil, explain(err)
	}
	defer func() { _ = answer.Body.Close() }() // what is left of it is not read
	return read(answer)
}

// transport returns the transport that checks servers by authorities in PEM form; "" stands for the system's.
func (r *Reader) transport(authorities string) (*http.Transport, error) {
	if known, ok := r.transports.Get(authorities); ok {
		return known.(*http.Transport), nil //nolint:forcetypeassert // nothing else is put in
	}
	t := &http.Transport{
		Proxy:           http.ProxyFromEnvironment,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		// A connection that is being made outlives the request that it is made for.
		DialContext: (&net.Dialer{Timeout: r.timeout}).DialContext, TLSHandshakeTimeout: r.timeout,
		// Connections that are not used end soon, also those of a transport that is no longer kept.
		IdleConnTimeout: 30 * time.Second, MaxIdleConns: 64, MaxIdleConnsPerHost: maxAtOnce,
		DisableCompression: true, MaxResponseHeaderBytes: maxHeader, ReadBufferSize: bufferBytes, WriteBufferSize: bufferBytes,
	}
	if authorities != "" {
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM([]byte(authorities)) {
			return nil, errors.New("the catalogue has no certificate in the ca of the store")
		}
	}
	r.transports.Add(authorities, t, transportTTL)
	return t, nil
}

// bucketName is the form of buckets, which can be the first label of a host.
var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// newRequest returns the request for the end of an object, which is not signed.
func newRequest(o Object, k Keys) (*http.Request, error) {
	u, err := url.Parse(o.Store.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
		return nil, errors.New("the endpoint of the store is not of the form https://HOST")
	}
	isDots := func(part string) bool { return part == "." || part == ".." } // which servers may take out
	switch {
	case !bucketName.MatchString(o.Store.Bucket):
		return nil, errors.New("the bucket cannot be one")
	case o.Key == "" || s3utils.CheckValidObjectName(o.Key) != nil || slices.ContainsFunc(strings.Split(o.Key, "/"), isDots):
		return nil, errors.New("the name cannot be that of an object")
	case k.ID == "" || k.Secret == "":
		return nil, errors.New("there is no key") // the request would not be signed
	}
	to := url.URL{Scheme: u.Scheme, Host: o.Store.Bucket + "." + u.Host, Path: "/" + o.Key}
	if o.Store.PathStyle {
		to.Host, to.Path = u.Host, "/"+o.Store.Bucket+"/"+o.Key
	}
	to.RawPath = s3utils.EncodePath(to.Path)
	header := http.Header{}
	header.Set("Range", fmt.Sprintf("bytes=-%d", agentapi.MaxTail))
	header.Set("X-Amz-Content-Sha256", emptySHA256)
	return &http.Request{Method: http.MethodGet, URL: &to, Host: to.Host, Header: header}, nil
}

// emptySHA256 is the SHA-256 of no bytes, which the body of a GET has.
const emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// sign returns a request with its signature, which is for this moment.
func sign(r *http.Request, region string, k Keys) *http.Request {
	return signer.SignV4(*r, k.ID, k.Secret, k.Token, region)
}

// read returns the end of a stream from an answer.
func read(answer *http.Response) ([]byte, error) {
	switch answer.StatusCode {
	case http.StatusOK, http.StatusPartialContent:
	case http.StatusRequestedRangeNotSatisfiable:
		return []byte{}, nil // no byte is within a range of an object without any
	case http.StatusNotFound:
		return nil, errors.New("the object does not exist, or its bucket")
	default:
		return nil, fmt.Errorf("the store answers with status %d", answer.StatusCode)
	}
	if !endsObject(answer.Header.Get("Content-Range")) {
		return nil, errors.New("the store sent another part of the object than its end")
	}
	out, err := io.ReadAll(io.LimitReader(answer.Body, agentapi.MaxTail+1))
	switch {
	case err != nil:
		return nil, explain(err)
	case len(out) > agentapi.MaxTail:
		return nil, fmt.Errorf("the store sent more than the %d bytes that it was asked for", agentapi.MaxTail)
	}
	return out, nil
}

// endsObject reports whether a Content-Range, such as bytes 10-19/20, ends with the last byte. An object that is short
// may be answered without one.
func endsObject(contentRange string) bool {
	if contentRange == "" {
		return true
	}
	var from, to, size int64
	n, err := fmt.Sscanf(contentRange, "bytes %d-%d/%d", &from, &to, &size)
	return n == 3 && err == nil && to == size-1
}
