// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package signature checks the signatures of requests of the vendor's API: v3 (TC3-HMAC-SHA256) in the
// header Authorization, and v1 (HmacSHA1, HmacSHA256) among the parameters.
//
//	ParseV3, ParseV1 ──▶ Claim: who says to have signed, and when ──▶ CheckTime ──▶ Verify with the key
//
// Clients differ in what they sign. Of these differences both forms are accepted, since neither says anything
// about the request: the host with its port or without, the values of headers as they are or in lower case, and
// any name of the service in the credential scope. All forms that are possible are computed and compared in
// constant time, whichever is right.
package signature

import (
	"crypto/hmac"
	"crypto/subtle"
	"fmt"
	"hash"
	"strconv"
	"strings"
	"time"

	"batchcompute.dev/operator/internal/errcode"
)

// Window is how far a request's timestamp may be from the clock, in either direction.
// Source: Tencent Cloud API, Common Params.
const Window = 5 * time.Minute

// MaxSecretID is how long a secretId may be, in bytes.
const MaxSecretID = 128

// Error says why a request is not accepted. It never repeats a part of the request.
type Error struct {
	Code    errcode.Code
	Message string
}

// Error returns "CODE: message".
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

func failure(code errcode.Code, format string, args ...any) error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Claim is what a request says about its signature. Only Verify shows that it is true.
type Claim struct {
	// SecretID is letters, digits, - and _, at least one and at most MaxSecretID of them.
	SecretID string
	// Token is that of a temporary key; empty: there is none.
	Token string
	// Timestamp is when the request was signed.
	Timestamp time.Time

	signature string
	// candidates are the signatures that secretKey may give the request with body, in the form of signature.
	candidates func(secretKey string, body []byte) []string
}

// CheckTime returns an error of type *Error if the request was signed more than Window before or after now.
func (c *Claim) CheckTime(now time.Time) error {
	if off := now.Sub(c.Timestamp); off > Window || off < -Window {
		return failure(errcode.SignatureExpire, "the timestamp must be within %d minutes of the clock here, %s",
			int(Window.Minutes()), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// Verify returns an error of type *Error unless the request was signed with the key. body is what was received, byte by
// byte; v1 does not look at it, since its parameters were in the list. The time that Verify takes says nothing about
// the difference between the signatures.
func (c *Claim) Verify(secretKey string, body []byte) error {
	ok := 0
	for _, s := range c.candidates(secretKey, body) {
		ok |= subtle.ConstantTimeCompare([]byte(s), []byte(c.signature))
	}
	if ok != 1 {
		return failure(errcode.SignatureFailure, "the signature is not that of the request; check the secretKey, and what was signed")
	}
	return nil
}

// parseTimestamp reads seconds since 1970. name is the parameter's, for errors.
func parseTimestamp(name, value string) (time.Time, error) {
	if value == "" {
		return time.Time{}, failure(errcode.MissingParameter, "%s must be given", name)
	}
	// Up to the year 9999, so that every time can be formatted and subtracted.
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err != nil || seconds < 0 || seconds > 253402300799 {
		return time.Time{}, failure(errcode.InvalidParameter, "%s must be a time in seconds since 1970", name)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// isSecretID reports whether a text can be a secretId.
func isSecretID(s string) bool {
	for _, c := range []byte(s) {
		if c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return s != "" && len(s) <= MaxSecretID
}

// hosts returns the forms in which a client may have signed the host: as it came; without its port; and with a port that
// an HTTP client leaves out.
func hosts(host string) []string {
	colon := strings.LastIndexByte(host, ':')
	if colon < 0 || strings.HasSuffix(host, "]") {
		return []string{host, host + ":443", host + ":80"}
	}
	return []string{host, host[:colon]}
}

// sum is the HMAC of text.
func sum(h func() hash.Hash, key []byte, text string) []byte {
	m := hmac.New(h, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}
