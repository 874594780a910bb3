// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package sanitize

import (
	"regexp"
	"strings"
)

// redacted stands in the place of a credential.
const redacted = "REDACTED"

// Redact returns text with the word REDACTED in the place of what looks like a credential:
//
//   - the value of an Authorization header, in any scheme
//   - what follows Bearer or Basic
//   - a token with the shape of a JSON Web Token
//   - the value of a variable, flag, parameter or JSON field whose name ends with password, token,
//     secret, access key, signature or the like
//   - the user and password in a URL
//
// The names stay, so that a reader knows what was there. It cannot find every credential: who writes
// one into a command or an image's name without any of these marks shows it.
func Redact(text string) string {
	for _, r := range rules {
		if r.mayApply(text) {
			text = r.pattern.ReplaceAllStringFunc(text, func(match string) string { return r.replace(r.pattern.FindStringSubmatch(match)) })
		}
	}
	return text
}

// rule is one kind of credential.
type rule struct {
	// mayApply is false for texts without a match. It is many times faster than the pattern, and
	// most texts hold no credential.
	mayApply func(text string) bool
	pattern  *regexp.Regexp
	// replace returns what stands in the place of a match, of which it gets the groups.
	replace func(groups []string) string
}

// rules are applied in this order.
var rules = []rule{
	{ // https://user:password@host/
		func(s string) bool { return strings.Contains(s, "://") && strings.Contains(s, "@") },
		regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)([^\s/?#"'<>]*)@([^\s/?#"'<>@]*)`),
		func(g []string) string {
			if strings.HasPrefix(g[3], "sha256:") || strings.HasPrefix(g[3], "sha512:") {
				return g[0] // an image by its digest
			}
			return g[1] + redacted + "@" + g[3]
		},
	},
	{ // Authorization: Bearer …; Authorization: Digest username="…", response="…"
		func(s string) bool { return containsFold(s, "authorization") },
		regexp.MustCompile(`(?i)(\b(?:proxy-)?authorization["']?\s*[:=]\s*\[?["']?)` +
			`(?:(?:bearer|basic|negotiate|ntlm|token|apikey)\s+[^\s"',;\]}]+` +
			`|(?:digest|aws4-[a-z0-9-]+)\s+\w+=(?:"[^"]*"|[^\s,"]+)(?:,\s*\w+=(?:"[^"]*"|[^\s,"]+))*` +
			`|[^\s"',;\]}]+)`),
		func(g []string) string { return g[1] + redacted },
	},
	{ // Bearer …
		func(s string) bool { return containsFold(s, "bearer") || containsFold(s, "basic") },
		regexp.MustCompile(`(?i)\b((?:bearer|basic)\s+)([A-Za-z0-9._~+/-]{6,}=*)`),
		func(g []string) string {
			if !looksGenerated(g[2]) {
				return g[0] // "basic authentication", "Bearer realm=…"
			}
			return g[1] + redacted
		},
	},
	{ // eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl: {"… in base64
		func(s string) bool { return strings.Contains(s, "eyJ") },
		regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*`),
		func([]string) string { return redacted },
	},
	{ // password=…, --token=…, X-Amz-Signature=…
		func(s string) bool { return namesSecret(s, '=') },
		regexp.MustCompile(`(?i)(` + secretName + `["']?\s*=\s*)` + value),
		func(g []string) string { return g[1] + redactedValue(g[2]) },
	},
	{ // "password": "…", password: …
		func(s string) bool { return namesSecret(s, ':') },
		regexp.MustCompile(`(?i)(` + secretName + `(\\?["']?)\s*:\s*)` + value),
		func(g []string) string {
			// "failed to fetch anonymous token: unexpected status" names no credential.
			if v := g[3]; g[2] != "" || strings.ContainsAny(v[:1], `"'\`) || len(v) >= 8 && strings.ContainsAny(v, "0123456789") && looksGenerated(v) {
				return g[1] + redactedValue(v)
			}
			return g[0]
		},
	},
}

// secretWords are the ends of names of what is secret. A name such as secretName or max_tokens is
// not one.
var secretWords = []string{
	"password", "passwd", "passphrase", "pwd", "token", "secret", "credential", "credentials", "signature", "sig",
	"apikey", "api_key", "api-key", "accesskey", "access_key", "access-key", "secretkey", "secret_key", "secret-key",
	"privatekey", "private_key", "private-key",
}

var secretName = `\b[\w.-]*(?:` + strings.Join(secretWords, "|") + `)`

// value matches a text in quotes, also in quotes that are escaped, or a word.
const value = `(\\"(?:[^"\\]|\\[^"])*\\"|"(?:[^"\\]|\\.)*"|'[^']*'|[^\s,;&"'<>)\]}\\]+)`

// namesSecret reports whether one of secretWords stands before a separator.
func namesSecret(s string, separator byte) bool {
	for i := strings.IndexByte(s, separator); i >= 0; {
		name := strings.TrimRight(s[:i], " \t\r\n\\\"'")
		for _, w := range secretWords {
			if len(name) >= len(w) && strings.EqualFold(name[len(name)-len(w):], w) {
				return true
			}
		}
		next := strings.IndexByte(s[i+1:], separator)
		if next < 0 {
			break
		}
		i += 1 + next
	}
	return false
}

// redactedValue keeps the quotes of a value.
func redactedValue(v string) string {
	for _, q := range []string{`\"`, `"`, `'`} {
		if strings.HasPrefix(v, q) {
			return q + redacted + q
		}
	}
	return redacted
}

// looksGenerated reports whether s is more likely a generated key than a word of a sentence: it is
// long, or has digits and letters, or upper-case letters after the first character.
func looksGenerated(s string) bool {
	letter := strings.ContainsFunc(s, func(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' })
	return len(s) >= 24 ||
		letter && (strings.ContainsAny(s, "0123456789") || strings.ContainsFunc(s[1:], func(r rune) bool { return r >= 'A' && r <= 'Z' }))
}

// containsFold reports whether s contains the lower-case ASCII word in any case.
func containsFold(s, word string) bool {
	first, upper := word[0], word[0]-'a'+'A'
	for i := 0; i+len(word) <= len(s); i++ {
		if (s[i] == first || s[i] == upper) && strings.EqualFold(s[i:i+len(word)], word) {
			return true
		}
	}
	return false
}
