// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"batchcompute.dev/operator/internal/notify/event"
)

// The headers of a signed request. They are those of Standard Webhooks 1.0, so receivers can use its libraries.
const (
	// HeaderID is the id of the event, or of the batch: the same whenever the same events are sent.
	HeaderID = "Webhook-Id"
	// HeaderTimestamp is when the request was sent, in seconds since 1970. A receiver refuses one that is old.
	HeaderTimestamp = "Webhook-Timestamp"
	// HeaderSignature is "v1," and the signature in base64.
	HeaderSignature = "Webhook-Signature"
)

// Auth is how requests prove who sends them. At most one of Bearer, Username and HMACKey is set; none means no proof.
type Auth struct {
	Bearer             string
	Username, Password string
	// HMACKey signs requests: see Sign. At least 16 bytes. It is not for Binary, where a part of the event is in headers.
	HMACKey []byte
}

// Sign returns the value of HeaderSignature: HMAC-SHA256 with key of the id, the timestamp and the body, with a dot
// between them.
func Sign(key []byte, id, timestamp string, body []byte) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(id + "." + timestamp + "."))
	h.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(h.Sum(nil))
}

func (a *Auth) validate(f Format) error {
	n := 0
	for _, set := range []bool{a.Bearer != "", a.Username != "", len(a.HMACKey) > 0} {
		if set {
			n++
		}
	}
	switch {
	case n > 1:
		return errors.New("a sink must have at most one of bearer token, user name and HMAC key")
	case strings.ContainsFunc(a.Bearer, func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("the bearer token must be printable ASCII without spaces")
	case a.Password != "" && a.Username == "", strings.Contains(a.Username, ":"):
		return errors.New("a password must have a user name, which must not contain a colon")
	case len(a.HMACKey) > 0 && len(a.HMACKey) < 16:
		return errors.New("the HMAC key must have at least 16 bytes")
	case len(a.HMACKey) > 0 && f == Binary:
		return errors.New("an HMAC signature does not cover the headers of the format binary: use structured or batch")
	}
	return nil
}

// apply adds the proof to a request with these events.
func (a *Auth) apply(r *http.Request, events []event.Event, body []byte, now time.Time) {
	switch {
	case a.Bearer != "":
		r.Header.Set("Authorization", "Bearer "+a.Bearer)
	case a.Username != "":
		r.SetBasicAuth(a.Username, a.Password)
	case len(a.HMACKey) > 0:
		id, timestamp := requestID(events), strconv.FormatInt(now.Unix(), 10)
		r.Header.Set(HeaderID, id)
		r.Header.Set(HeaderTimestamp, timestamp)
		r.Header.Set(HeaderSignature, Sign(a.HMACKey, id, timestamp, body))
	}
}

// requestID returns the id of the only event, or one that follows from those of all events.
func requestID(events []event.Event) string {
	if len(events) == 1 {
		return events[0].ID()
	}
	h := sha256.New()
	for i := range events {
		h.Write([]byte(events[i].ID() + "\n"))
	}
	return "batch-" + hex.EncodeToString(h.Sum(nil)[:16])
}

// secrets returns all texts that must not be in an error.
func (a *Auth) secrets() []string {
	basic := base64.StdEncoding.EncodeToString([]byte(a.Username + ":" + a.Password))
	return []string{a.Bearer, a.Password, basic, string(a.HMACKey), base64.StdEncoding.EncodeToString(a.HMACKey), hex.EncodeToString(a.HMACKey)}
}
