// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package signature

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"batchcompute.dev/operator/internal/errcode"
)

// What stands in the header and in the text that is signed. Source: Tencent Cloud API, Signature v3.
const (
	algorithm   = "TC3-HMAC-SHA256"
	terminator  = "tc3_request"
	keyPrefix   = "TC3"
	dateFormat  = "2006-01-02"
	unsigned    = "UNSIGNED-PAYLOAD"
	contentType = "content-type"
	hostHeader  = "host"
)

// The headers of v3, as ParseV3 asks for them.
const (
	headerAuthorization = "authorization"
	headerTimestamp     = "x-tc-timestamp"
	headerToken         = "x-tc-token"
	headerContentHash   = "x-tc-content-sha256"
)

// The bounds of the header Authorization.
const (
	maxAuthorization = 4096
	maxSignedHeaders = 32
)

// Request is what signature v3 covers, as it was received.
type Request struct {
	Method string
	// Host is that of the header, with its port if it has one.
	Host string
	// Query is the encoded query without the question mark.
	Query string
	// Header returns the values of a header, the name of which is in lower case.
	Header func(name string) []string
}

// first returns the value of a header that should have one.
func (r Request) first(name string) string {
	if values := r.Header(name); len(values) > 0 {
		return values[0]
	}
	return ""
}

// authorization is the header Authorization in its parts.
type authorization struct {
	secretID, date, service string
	headers                 []string // in lower case, in the client's order
	signature               string
}

// ParseV3 reads the signature of a request whose path is /. The error is of type *Error.
//
// The header is
//
//	TC3-HMAC-SHA256 Credential=<secretId>/<date>/<service>/tc3_request, SignedHeaders=<name>;<name>…, Signature=<hex>
//
// SignedHeaders must have host, and content-type if the request has that header; whichever else it has is
// covered too. The date must be that of the timestamp in UTC.
func ParseV3(r Request) (*Claim, error) {
	a, err := parseAuthorization(r.first(headerAuthorization))
	if err != nil {
		return nil, err
	}
	if !slices.Contains(a.headers, hostHeader) || len(r.Header(contentType)) > 0 && !slices.Contains(a.headers, contentType) {
		return nil, failure(errcode.InvalidAuthorization, "SignedHeaders must have host and content-type")
	}
	timestamp := r.first(headerTimestamp)
	at, err := parseTimestamp("X-TC-Timestamp", timestamp)
	if err != nil {
		return nil, err
	}
	if a.date != at.Format(dateFormat) {
		return nil, failure(errcode.SignatureFailure, "the date of the credential scope must be that of X-TC-Timestamp in UTC")
	}
	scope := a.date + "/" + a.service + "/" + terminator
	heads := canonicalHeads(r, a.headers)
	unsignedBody := r.first(headerContentHash) == unsigned
	return &Claim{
		SecretID: a.secretID, Token: r.first(headerToken), Timestamp: at, signature: a.signature,
		candidates: func(secretKey string, body []byte) []string {
			if unsignedBody {
				body = []byte(unsigned)
			}
			hashed := hexHash(body)
			key := []byte(keyPrefix + secretKey)
			for _, step := range []string{a.date, a.service, terminator} {
				key = sum(sha256.New, key, step)
			}
			out := make([]string, len(heads))
			for i, head := range heads {
				text := algorithm + "\n" + timestamp + "\n" + scope + "\n" + hexHash([]byte(head+hashed))
				out[i] = hex.EncodeToString(sum(sha256.New, key, text))
			}
			return out
		},
	}, nil
}

// parseAuthorization reads the header Authorization.
func parseAuthorization(header string) (*authorization, error) {
	malformed := func(what string) error {
		return failure(errcode.InvalidAuthorization, "the header Authorization must be %s Credential=…, SignedHeaders=…, Signature=…: %s", algorithm, what)
	}
	if len(header) > maxAuthorization {
		return nil, malformed("it is too long")
	}
	parts, ok := strings.CutPrefix(strings.TrimSpace(header), algorithm+" ")
	if !ok {
		return nil, malformed("the algorithm is absent or another")
	}
	values := map[string]string{}
	for part := range strings.SplitSeq(parts, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if _, again := values[name]; again {
			return nil, malformed("a part is given twice")
		}
		values[name] = value
	}
	if len(values) != 3 {
		return nil, malformed("a part is absent, or there are others")
	}
	a := &authorization{headers: strings.Split(values["SignedHeaders"], ";"), signature: values["Signature"]}
	scope := strings.Split(values["Credential"], "/")
	if len(scope) != 4 || scope[3] != terminator || !isSecretID(scope[0]) || scope[2] == "" {
		return nil, malformed("Credential must be secretId/date/service/" + terminator)
	}
	a.secretID, a.date, a.service = scope[0], scope[1], scope[2]
	if digest, err := hex.DecodeString(a.signature); err != nil || len(digest) != sha256.Size || strings.ToLower(a.signature) != a.signature {
		return nil, malformed("Signature must be 64 digits of lower-case hexadecimal")
	}
	if sorted := slices.Compact(slices.Sorted(slices.Values(a.headers))); len(sorted) != len(a.headers) || len(sorted) > maxSignedHeaders {
		return nil, malformed("SignedHeaders has a header twice, or too many")
	}
	for _, name := range a.headers {
		if name == "" || strings.ToLower(name) != name || strings.ContainsAny(name, ": \t\n") {
			return nil, malformed("SignedHeaders must be names in lower case")
		}
	}
	return a, nil
}

// canonicalHeads returns the forms of the text that stands for the request, up to the hash of its body.
func canonicalHeads(r Request, headers []string) []string {
	var out []string
	for _, host := range hosts(r.Host) {
		var b strings.Builder
		for _, name := range headers {
			value := host
			if name != hostHeader {
				value = strings.Join(r.Header(name), ",")
			}
			b.WriteString(name + ":" + strings.TrimSpace(value) + "\n")
		}
		// Names are in lower case in either.
		for _, values := range []string{b.String(), strings.ToLower(b.String())} {
			out = append(out, r.Method+"\n/\n"+r.Query+"\n"+values+"\n"+strings.Join(headers, ";")+"\n")
		}
	}
	return out
}

func hexHash(data []byte) string {
	digest := sha256.Sum256(data)
	return hex.EncodeToString(digest[:])
}
