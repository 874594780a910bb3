// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"regexp"
	"strings"
	"time"
)

const (
	// tokenLife is how long a token is put into the configurations. It is short because a token
	// can become known: when the webhook cannot be reached the API server tells the user what it
	// tried, with the whole URL.
	tokenLife = 24 * time.Hour
	// tokenOverlap is how long the token before is still valid, for API servers that are late to
	// hear of the configuration.
	tokenOverlap = 10 * time.Minute
	// tokenBytes of chance make a token, in hexadecimal form: a valid element of a path.
	tokenBytes = 20

	tokensKey = "path-tokens" // in the Secret, beside the certificates
	// noToken is how the Secret has the paths without a token.
	noToken = "-"
)

var tokenForm = regexp.MustCompile(`^[0-9a-f]{40}$`)

// pathToken is what a path may end in.
type pathToken struct {
	value string // "" is a path without a token
	// from is when the configurations may have it: not before all replicas know it.
	from time.Time
}

// pathTokens are the valid tokens, the newest first.
type pathTokens []pathToken

// parseTokens reads what a Secret holds: a line for each token, with the time from which on it
// is used. Whatever cannot be read is left out.
func parseTokens(data []byte) pathTokens {
	var list pathTokens
	for line := range bytes.Lines(data) {
		from, value, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		at, err := time.Parse(time.RFC3339, from)
		switch {
		case err != nil:
		case value == noToken:
			list = append(list, pathToken{from: at})
		case tokenForm.MatchString(value):
			list = append(list, pathToken{value, at})
		}
	}
	return list
}

// data is the inverse of parseTokens.
func (t pathTokens) data() []byte {
	var out strings.Builder
	for _, token := range t {
		value := token.value
		if value == "" {
			value = noToken
		}
		out.WriteString(token.from.UTC().Format(time.RFC3339) + " " + value + "\n")
	}
	return []byte(out.String())
}

// renew returns the tokens that should be there at the time now, and whether they differ from
// t. carried is the token that the configurations have, "" if none or several. served is whether
// somebody serves already, perhaps a version of this program that knows no tokens: then the paths
// without a token stay valid for a while.
//
// A new token is known to all replicas before the configurations have it, and the one before
// stays valid until they have had the new one for some time.
func (t pathTokens) renew(now time.Time, carried string, served bool) (pathTokens, bool) {
	now = now.Truncate(time.Second) // as it is stored
	if len(t) == 0 || t[0].value == "" {
		first := pathToken{newToken(), now}
		if !served {
			return pathTokens{first}, true
		}
		first.from = now.Add(settle)
		return pathTokens{first, {from: now}}, true
	}
	newest := t[0]
	switch {
	case !now.Before(newest.from.Add(tokenLife)):
		// No more than two: what is older than the last one was replaced a day ago.
		return pathTokens{{newToken(), now.Add(settle)}, newest}, true
	case len(t) > 1 && carried == newest.value && !now.Before(newest.from.Add(tokenOverlap)):
		return t[:1:1], true
	}
	return t, false
}

// current is the token that the configurations should have: the newest that is known to all,
// or what they carry already if that is newer: the clocks of replicas differ.
func (t pathTokens) current(now time.Time, carried string) string {
	for _, token := range t {
		if !now.Before(token.from) || carried != "" && token.value == carried {
			return token.value
		}
	}
	return t[len(t)-1].value
}

// values are the valid tokens; "" is a path without one.
func (t pathTokens) values() []string {
	out := make([]string, 0, len(t))
	for _, token := range t {
		out = append(out, token.value)
	}
	return out
}

// nextRenewal is when renew or current will next have something to say, if nothing happens before.
func (t pathTokens) nextRenewal(now time.Time) time.Duration {
	switch {
	case now.Before(t[0].from):
		return t[0].from.Sub(now)
	case len(t) > 1:
		return max(t[0].from.Add(tokenOverlap).Sub(now), settle)
	}
	return max(t[0].from.Add(tokenLife).Sub(now), settle)
}

func newToken() string {
	b := make([]byte, tokenBytes)
	_, _ = rand.Read(b) // it never fails: it ends the process instead
	return hex.EncodeToString(b)
}
