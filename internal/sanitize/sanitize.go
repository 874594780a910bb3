// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package sanitize prepares a text that comes from outside (from the API server, a kubelet, a
// scheduler, a container or a user) for a status, an event, a log or an answer to a user.
//
// Whoever may read a BatchJob reads its conditions, and many people read them in a terminal. So
// such a text must not hold a credential, move the cursor, hide another line, or make the
// object too large to be stored.
package sanitize

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"batchcompute.dev/operator/api/v1alpha1"
)

const (
	// ellipsis marks the end of a text that was truncated.
	ellipsis = "…"
	// maxInput is how much of a text is read: it bounds the time that a text from outside
	// can take. It is many times what any caller keeps. Unit: bytes.
	maxInput = 16 << 10
)

// Message returns text as a condition, an event or a status message has it: see Text, with
// v1alpha1.MaxMessageSize as the limit.
func Message(text string) string { return Text(text, v1alpha1.MaxMessageSize) }

// Text returns text on one line, without control characters, terminal escape sequences and
// credentials (see Redact), truncated to limit bytes. The limit counts the bytes that the text
// takes within a JSON string, since that is how it is stored; so it has at most as many bytes
// itself.
//
// White space of every kind becomes a space. Other characters that do not print are removed, and
// bytes that are not UTF-8 become question marks. A text that was truncated ends with an ellipsis.
func Text(text string, limit int) string {
	if len(text) > maxInput {
		text = firstWords(text, maxInput) + ellipsis
	}
	return truncateJSON(Redact(printable(text)), limit)
}

// Truncate returns s if it has at most limit bytes. Otherwise it returns the first bytes of s, up
// to a character's end, with an ellipsis: limit bytes at most in all. It changes nothing else, so
// s must be a text of our own or have passed Text or Quote.
func Truncate(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	end := max(limit-len(ellipsis), 0)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + ellipsis
}

// Quote returns s in double quotes, for a sentence that repeats what a user wrote. Everything is
// escaped that does not print as itself: control characters, line ends, NUL, text direction marks,
// broken UTF-8. The content of the quotes has at most limit bytes, and an ellipsis if it was truncated.
func Quote(s string, limit int) string {
	b := []byte{'"'}
	var one [utf8.UTFMax + 12]byte
	for rest := s; rest != ""; {
		_, size := utf8.DecodeRuneInString(rest)
		q := strconv.AppendQuote(one[:0], rest[:size])
		q = q[1 : len(q)-1]
		if len(b)-1+len(q) > limit {
			return string(b) + ellipsis + `"`
		}
		b = append(b, q...)
		rest = rest[size:]
	}
	return string(append(b, '"'))
}

// firstWords returns at most the first limit bytes of s, up to the end of a word: half a
// credential might not be recognised as one.
func firstWords(s string, limit int) string {
	s = s[:limit]
	if i := strings.LastIndexAny(s, " \t\r\n"); i >= 0 {
		return s[:i]
	}
	return strings.ToValidUTF8(s, "")
}

// printable removes what does not print from a text, and puts it on one line.
func printable(s string) string {
	if isPlain(s) {
		return s
	}
	s = strings.ToValidUTF8(s, "?")
	if strings.ContainsAny(s, "\x1b"+c1Introducers) {
		s = withoutEscapes(s)
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ' || unicode.IsPrint(r):
			return r
		case unicode.IsSpace(r), r == '\u2028', r == '\u2029':
			return ' '
		}
		return -1 // Cc, such as NUL, and Cf, such as U+202E, which reverses the text behind it
	}, s)
}

// isPlain reports whether s is printable ASCII, as most texts are.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// c1Introducers are the single characters for ESC P, ESC X, ESC [, ESC ], ESC ^ and ESC _.
const c1Introducers = "\u0090\u0098\u009b\u009d\u009e\u009f"

// withoutEscapes removes terminal escape sequences (ECMA-48): ESC [ … letter, such as those that
// set a colour; ESC ] … BEL or ESC \, such as those that set a window's title; and ESC with one
// character. The C1 control characters that stand for ESC and such a character count as well. A sequence
// that does not end takes only its introducer away, so that it cannot hide the rest of the text.
func withoutEscapes(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for s != "" {
		r, size := utf8.DecodeRuneInString(s)
		n := 0
		switch {
		case r == '\x1b' && len(s) > size:
			n = size + afterEscape(s[size], s[size+1:]) // at least the ESC
		case strings.ContainsRune(c1Introducers, r):
			n = size - 1 + afterEscape(byte(r)-0x40, s[size:])
		}
		if n > 0 {
			s = s[n:]
			continue
		}
		b.WriteString(s[:size]) // printable removes a lone ESC
		s = s[size:]
	}
	return b.String()
}

// afterEscape returns how many bytes an escape sequence has behind the ESC: kind is the first of
// them, and rest is what follows. 0 means that kind starts no sequence.
func afterEscape(kind byte, rest string) int {
	switch kind {
	case '[': // control sequence: parameters, intermediate characters, a final character
		for i := range len(rest) {
			switch ch := rest[i]; {
			case ch >= '@' && ch <= '~':
				return 1 + i + 1
			case ch < ' ' || ch > '?':
				return 1
			}
		}
		return 1
	case ']', 'P', 'X', '^', '_': // control string
		for i := range len(rest) {
			switch {
			case rest[i] == '\a':
				return 1 + i + 1
			case strings.HasPrefix(rest[i:], "\x1b\\"), strings.HasPrefix(rest[i:], "\u009c"):
				return 1 + i + 2
			case rest[i] == '\n':
				return 1 // it did not end on its line
			}
		}
		return 1
	}
	if kind >= ' ' && kind <= '~' {
		return 1
	}
	return 0
}

// truncateJSON truncates s to limit bytes as JSON, at a character's end.
func truncateJSON(s string, limit int) string {
	size, end := 0, 0 // end: where an ellipsis would still fit
	for i, r := range s {
		if size <= limit-len(ellipsis) {
			end = i
		}
		if size += sizeInJSON(r); size > limit {
			return s[:end] + ellipsis
		}
	}
	return s
}

// sizeInJSON is the number of bytes that encoding/json writes for a printable r within a string.
func sizeInJSON(r rune) int {
	switch r {
	case '"', '\\':
		return len(`\"`)
	case '<', '>', '&':
		return len(`\u003c`)
	}
	return utf8.RuneLen(r)
}
