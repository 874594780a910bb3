// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"mime"
	"net/http"
	"net/netip"

	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/gateway/signature"
	"batchcompute.dev/operator/internal/params"
)

// Version is the only one of the API that there is.
const Version = "2017-03-12"

// The languages of messages.
const (
	English = "en-US"
	Chinese = "zh-CN"
)

// The sizes of requests. Source: Tencent Cloud API, Request Structure. Unit: bytes.
const (
	MaxQuery = 32 << 10
	MaxForm  = 1 << 20
	MaxJSON  = 10 << 20
)

// What decoding takes for each object or list, which is the largest structure of our kinds in a list that grows, and
// for each other value. Unit: bytes.
const (
	objectWeight = 1 << 10
	valueWeight  = 64
)

// Request is one request of the API. Its fields may be wrong until Claim was verified.
type Request struct {
	Action, Version, Region string
	// Language is Chinese, or else English.
	Language string
	// Source is the client's address, that of an IPv6 client's /64, by which it is counted.
	Source string
	Claim  *signature.Claim

	http  *http.Request
	share share
	v3    bool
	body  []byte
	list  []params.Parameter
}

// Open reads a request but for the body of one with signature v3. The request must be closed, unless there is an error,
// which AsError has an answer for. budget bounds what is held.
func Open(r *http.Request, budget *Budget) (*Request, error) {
	q := &Request{http: r, Source: Source(r), v3: r.Header.Get("Authorization") != ""}
	q.share = share{budget: budget, source: q.Source}
	if err := q.open(); err != nil {
		q.Close()
		return nil, err
	}
	return q, nil
}

// Close gives back what the request holds.
func (q *Request) Close() { q.share.close() }

// Verify reads the body of a request with signature v3, and checks the signature.
func (q *Request) Verify(secretKey string) error {
	if q.v3 && q.http.Method == http.MethodPost {
		body, err := q.share.read(q.http.Body, MaxJSON)
		if err != nil {
			return err
		}
		q.body = body
	}
	return q.Claim.Verify(secretKey, q.body)
}

// Params returns the parameters of the action, after Verify.
func (q *Request) Params() (*params.Object, error) {
	if !q.v3 || q.http.Method == http.MethodGet {
		if err := q.share.take(int64(len(q.list)) * (objectWeight / 2)); err != nil { // each may be of an object of its own
			return nil, err
		}
		return params.FromParameters(q.Action, q.list)
	}
	o, err := params.FromJSON(q.Action, q.body)
	if err != nil {
		return nil, err
	}
	objects, values := bytes.Count(q.body, []byte("{"))+bytes.Count(q.body, []byte("[")), bytes.Count(q.body, []byte(","))
	// Those in texts count too, but no more of them than there may be in all.
	weight := int64(min(objects, params.MaxValues))*objectWeight + int64(min(values, params.MaxValues))*valueWeight
	return o, q.share.take(weight)
}

func (q *Request) open() error {
	r := q.http
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		return NewError(errcode.UnsupportedProtocol, "the method must be GET or POST")
	}
	if r.Method == http.MethodPost && r.URL.RawQuery != "" {
		return NewError(errcode.InvalidRequest, "the parameters of a POST must stand in its body, not in a query")
	}
	if len(r.URL.RawQuery) > MaxQuery {
		return tooLarge(MaxQuery)
	}
	if q.v3 {
		return q.openV3()
	}
	return q.openV1()
}

// openV3 reads the headers of a request with signature v3.
func (q *Request) openV3() (err error) {
	r := q.http
	if r.Method == http.MethodGet {
		if q.list, err = params.ParseQuery(r.URL.RawQuery); err != nil {
			return err
		}
	} else {
		if r.ContentLength > MaxJSON {
			return tooLarge(MaxJSON)
		}
		if mediaType(r) != "application/json" {
			return NewError(errcode.InvalidRequest, "the body of a POST with signature v3 must be application/json")
		}
	}
	q.setCommon(func(name string) string {
		if value := r.Header.Get("X-TC-" + name); value != "" {
			return value
		}
		return valueOf(q.list, name)
	})
	q.Claim, err = signature.ParseV3(signature.Request{
		Method: r.Method, Host: r.Host, Query: r.URL.RawQuery,
		Header: func(name string) []string { return r.Header.Values(name) },
	})
	return err
}

// openV1 reads a request with signature v1, with its body.
func (q *Request) openV1() error {
	r := q.http
	query := r.URL.RawQuery
	if r.Method == http.MethodPost {
		switch mediaType(r) {
		case "application/x-www-form-urlencoded", "":
		case "application/json":
			return NewError(errcode.InvalidAuthorization, "the header Authorization must be given")
		default:
			return NewError(errcode.InvalidRequest, "the body of a POST must be application/json or application/x-www-form-urlencoded")
		}
		if r.ContentLength > MaxForm {
			return tooLarge(MaxForm)
		}
		body, err := q.share.read(r.Body, MaxForm)
		if err != nil {
			return err
		}
		query = string(body)
	}
	list, err := params.ParseQuery(query)
	if err != nil {
		return err
	}
	q.list = list
	if valueOf(list, "SecretId") == "" && valueOf(list, "Signature") == "" {
		return NewError(errcode.InvalidAuthorization, "the request must be signed: with the header Authorization, or the parameters SecretId and Signature")
	}
	q.setCommon(func(name string) string { return valueOf(list, name) })
	q.Claim, err = signature.ParseV1(r.Method, r.Host, list)
	return err
}

func (q *Request) setCommon(value func(name string) string) {
	q.Action, q.Version, q.Region = value("Action"), value("Version"), value("Region")
	if q.Language = English; value("Language") == Chinese {
		q.Language = Chinese
	}
}

// CheckVersion returns an error unless action and version were given and the version is the one that there is.
func (q *Request) CheckVersion() error {
	switch {
	case q.Action == "":
		return NewError(errcode.MissingParameter, "Action must be given")
	case q.Version == "":
		return NewError(errcode.MissingParameter, "Version must be given")
	case q.Version != Version:
		return NewError(errcode.NoSuchVersion, "Version must be %s", Version)
	}
	return nil
}

// valueOf returns the first parameter with a name, empty for none.
func valueOf(list []params.Parameter, name string) string {
	for _, p := range list {
		if p.Key == name {
			return p.Value
		}
	}
	return ""
}

// mediaType returns the type of the body without its parameters, in lower case; empty for none.
func mediaType(r *http.Request) string {
	t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil && t == "" {
		return r.Header.Get("Content-Type")
	}
	return t
}

// Source returns the address by which the client of a request is counted; a client has a whole /64 of IPv6.
// Empty: it has none.
func Source(r *http.Request) string {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	a := ap.Addr().Unmap().WithZone("")
	if p, err := a.Prefix(64); a.Is6() && err == nil {
		return p.Addr().String()
	}
	return a.String()
}
