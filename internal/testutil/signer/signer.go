// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package signer signs HTTP requests as clients of the vendor's API do, for tests of what checks the signatures. It was
// written from the description of the algorithms, apart from that.
package signer

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"sort"
	"strings"
	"time"
)

// Signer signs requests. The zero values of the optional fields give what the vendor's Go SDK does.
type Signer struct {
	SecretID, SecretKey string
	// Token is that of a temporary key.
	Token  string
	Region string
	Action string
	// Version is that of the API; empty: 2017-03-12.
	Version  string
	Language string
	At       time.Time

	// Service is the service in the credential scope; empty: batch.
	Service string
	// Host is what is signed as host; empty: the request's.
	Host string
	// Headers are further headers that are signed, in lower case.
	Headers []string
	// Lower has the values of headers signed in lower case.
	Lower bool
	// UnsignedPayload leaves the body out.
	UnsignedPayload bool
}

func (s Signer) version() string {
	if s.Version == "" {
		return "2017-03-12"
	}
	return s.Version
}

// POST returns a request with signature v3 and a JSON body. target is a URL without a path.
func (s Signer) POST(target, body string) *http.Request {
	r := s.request(http.MethodPost, target+"/", body)
	r.Header.Set("Content-Type", "application/json")
	s.v3(r, body)
	return r
}

// GET returns a request with signature v3 and parameters in its query.
func (s Signer) GET(target string, params url.Values) *http.Request {
	r := s.request(http.MethodGet, target+"/?"+params.Encode(), "")
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	s.v3(r, "")
	return r
}

func (s Signer) request(method, target, body string) *http.Request {
	r, err := http.NewRequest(method, target, strings.NewReader(body))
	if err != nil {
		panic(err) // a mistake in a test
	}
	r.Header.Set("X-TC-Action", s.Action)
	r.Header.Set("X-TC-Version", s.version())
	r.Header.Set("X-TC-Timestamp", fmt.Sprint(s.At.Unix()))
	for name, value := range map[string]string{"X-TC-Region": s.Region, "X-TC-Token": s.Token, "X-TC-Language": s.Language} {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	return r
}

// v3 signs a request that is complete but for the signature.
func (s Signer) v3(r *http.Request, body string) {
	if s.UnsignedPayload {
		body = "UNSIGNED-PAYLOAD"
		r.Header.Set("X-TC-Content-SHA256", body)
	}
	host := r.URL.Host
	if s.Host != "" {
		host = s.Host
	}
	names := append([]string{"content-type", "host"}, s.Headers...)
	sort.Strings(names)
	lines := ""
	for _, name := range names {
		value := r.Header.Get(name)
		if name == "host" {
			value = host
		}
		if s.Lower {
			value = strings.ToLower(value)
		}
		lines += name + ":" + strings.TrimSpace(value) + "\n"
	}
	signed := strings.Join(names, ";")
	canonical := strings.Join([]string{r.Method, "/", r.URL.RawQuery, lines, signed, digest(body)}, "\n")
	service := s.Service
	if service == "" {
		service = "batch"
	}
	date := s.At.UTC().Format("2006-01-02")
	scope := date + "/" + service + "/tc3_request"
	text := "TC3-HMAC-SHA256\n" + fmt.Sprint(s.At.Unix()) + "\n" + scope + "\n" + digest(canonical)
	key := mac(sha256.New, mac(sha256.New, mac(sha256.New, []byte("TC3"+s.SecretKey), date), service), "tc3_request")
	r.Header.Set("Authorization", fmt.Sprintf("TC3-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s",
		s.SecretID, scope, signed, hex.EncodeToString(mac(sha256.New, key, text))))
}

// V1 returns a request with signature v1. algorithm is HmacSHA1, HmacSHA256, or empty for a request that names none.
func (s Signer) V1(method, target, algorithm string, params url.Values) *http.Request {
	all := url.Values{}
	for name, values := range params {
		all[name] = values
	}
	for name, value := range map[string]string{
		"Action": s.Action, "Version": s.version(), "Region": s.Region, "Token": s.Token, "Language": s.Language, "SecretId": s.SecretID,
		"Timestamp": fmt.Sprint(s.At.Unix()), "Nonce": "0", "RequestClient": "signer", "SignatureMethod": algorithm,
	} {
		if value != "" {
			all.Set(name, value)
		}
	}
	r, err := http.NewRequest(method, target+"/", http.NoBody)
	if err != nil {
		panic(err)
	}
	host := r.URL.Host
	if s.Host != "" {
		host = s.Host
	}
	all.Set("Signature", SignV1(method, host, s.SecretKey, algorithm, all))
	if method == http.MethodGet {
		r.URL.RawQuery = all.Encode()
		return r
	}
	body := all.Encode()
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

// SignV1 returns the signature v1 of parameters.
func SignV1(method, host, secretKey, algorithm string, params url.Values) string {
	names := make([]string, 0, len(params))
	for name := range params {
		names = append(names, name)
	}
	sort.Strings(names)
	pairs := make([]string, 0, len(params))
	for _, name := range names {
		pairs = append(pairs, name+"="+params.Get(name))
	}
	h := sha1.New
	if algorithm == "HmacSHA256" {
		h = sha256.New
	}
	return base64.StdEncoding.EncodeToString(mac(h, []byte(secretKey), method+host+"/?"+strings.Join(pairs, "&")))
}

func mac(h func() hash.Hash, key []byte, text string) []byte {
	m := hmac.New(h, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// SignText returns the signature v1, HmacSHA1, of a text.
func SignText(text, secretKey string) string {
	return base64.StdEncoding.EncodeToString(mac(sha1.New, []byte(secretKey), text))
}
