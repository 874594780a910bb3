// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package signature

import (
	"cmp"
	"crypto/sha1" //nolint:gosec // HmacSHA1 is what the vendor's API calls for, and not broken as an HMAC
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/params"
)

// The parameters of signature v1. Source: Tencent Cloud API, Signature v1.
const (
	paramSecretID  = "SecretId"
	paramSignature = "Signature"
	paramMethod    = "SignatureMethod"
	paramTimestamp = "Timestamp"
	paramNonce     = "Nonce"
	paramToken     = "Token"

	methodSHA256 = "HmacSHA256"
)

// ParseV1 reads the signature of a request whose path is /. list are all parameters of the query or the form;
// it is not changed. Any SignatureMethod but HmacSHA256 is HmacSHA1. The nonce must be a number and may be 0;
// it is not remembered. The error is of type *Error.
//
// What is signed is the method, the host, /? and all parameters but Signature, sorted by name, with their
// values as they are before they are encoded for a URL.
func ParseV1(method, host string, list []params.Parameter) (*Claim, error) {
	values := map[string]string{}
	for _, p := range list {
		if !params.IsCommon(p.Key) {
			continue
		}
		if _, again := values[p.Key]; again {
			return nil, failure(errcode.InvalidParameter, "%s must be given once", p.Key)
		}
		values[p.Key] = p.Value
	}
	for _, name := range []string{paramSecretID, paramSignature, paramTimestamp, paramNonce} {
		if values[name] == "" {
			return nil, failure(errcode.MissingParameter, "%s must be given", name)
		}
	}
	if !isSecretID(values[paramSecretID]) {
		return nil, failure(errcode.InvalidParameter, "SecretId must be letters and digits, at most %d", MaxSecretID)
	}
	if _, err := strconv.ParseUint(values[paramNonce], 10, 64); err != nil {
		return nil, failure(errcode.InvalidParameter, "Nonce must be a whole number from 0 on")
	}
	at, err := parseTimestamp(paramTimestamp, values[paramTimestamp])
	if err != nil {
		return nil, err
	}
	return &Claim{
		SecretID: values[paramSecretID], Token: values[paramToken], Timestamp: at, signature: values[paramSignature],
		candidates: func(secretKey string, _ []byte) []string {
			return candidatesV1(method, host, list, values[paramMethod], secretKey)
		},
	}, nil
}

// candidatesV1 returns the signatures of a request for each form of the host.
func candidatesV1(method, host string, list []params.Parameter, algorithm, secretKey string) []string {
	h := sha1.New
	if algorithm == methodSHA256 {
		h = sha256.New
	}
	sorted := slices.Clone(list)
	slices.SortStableFunc(sorted, func(a, b params.Parameter) int { return cmp.Compare(a.Key, b.Key) })
	var b strings.Builder
	for _, p := range sorted {
		if p.Key == paramSignature {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p.Key + "=" + p.Value)
	}
	var out []string
	for _, form := range hosts(host) {
		out = append(out, base64.StdEncoding.EncodeToString(sum(h, []byte(secretKey), method+form+"/?"+b.String())))
	}
	return out
}
