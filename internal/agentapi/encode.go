// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package agentapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"
)

// MessageBytes returns how long the termination message of each container may be in a Pod with so many
// containers, init and ephemeral containers included. A longer one loses its end.
func MessageBytes(containers int) int {
	return min(MaxMessageBytes, maxPodMessageBytes/max(containers, 1))
}

// CutTail returns the end of a stream as a Result has it: the last MaxTail bytes of b. If b is longer, the
// result starts at the start of a character. Each sequence of bytes that are no UTF-8 becomes U+FFFD.
func CutTail(b []byte) string {
	if len(b) > MaxTail {
		b = b[len(b)-MaxTail:]
		for n := 0; n < utf8.UTFMax-1 && len(b) > 0 && !utf8.RuneStart(b[0]); n++ {
			b = b[1:]
		}
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}

// message is a Result in a termination message.
type message struct {
	Result
	// Lines are those of the tail, the newest first. The tail is the last field, so that what somebody else
	// cuts off the end of a message (a kubelet, in a Pod to which containers were added) is the oldest lines.
	Lines []string `json:"tail,omitempty"`
}

// EncodeResult returns the termination message for r: JSON of at most limit bytes; 0 means MaxMessageBytes. If r
// is too long, its tail is cut at its start, and then its message at its end. A limit too small for
// the other fields, some 400 bytes, is exceeded.
func EncodeResult(r Result, limit int) []byte {
	if limit <= 0 {
		limit = MaxMessageBytes
	}
	r.Version = Version
	r.Message = cutEnd(strings.ToValidUTF8(r.Message, "\uFFFD"), MaxResultMessage)
	text, tail := r.Message, strings.ToValidUTF8(r.Tail, "\uFFFD")
	encode := func(end, start int) []byte {
		m := message{Result: r}
		if m.Message = cutEnd(text, end); start < len(tail) {
			m.Lines = strings.Split(tail[runeStart(tail, start):], "\n")
			slices.Reverse(m.Lines)
		}
		return encodeJSON(m)
	}
	fits := sort.Search(len(tail), func(start int) bool { return len(encode(len(text), start)) <= limit })
	cut := 0
	if fits == len(tail) {
		cut = sort.Search(len(text), func(cut int) bool { return len(encode(len(text)-cut, fits)) <= limit })
	}
	return encode(len(text)-cut, fits)
}

// runeStart returns the index of the first character of s that starts at i or after it.
func runeStart(s string, i int) int {
	for i < len(s) && !utf8.RuneStart(s[i]) {
		i++
	}
	return i
}

// cutEnd returns the first limit bytes of s, or fewer, up to a character's end, with an ellipsis if
// there is space for it.
func cutEnd(s string, limit int) string {
	const ellipsis = "…"
	if len(s) <= limit {
		return s
	}
	end, mark := limit, ""
	if limit >= len(ellipsis) {
		end, mark = limit-len(ellipsis), ellipsis
	}
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + mark
}

// encodeJSON returns v as JSON in one line. v has only fields that can be encoded.
func encodeJSON(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // six bytes for a <
	_ = e.Encode(v)
	return bytes.TrimRight(b.Bytes(), "\n")
}

const (
	// minMessageBytes is where the class of a message has ended. Of a shorter one nothing is read.
	minMessageBytes = 40
	// missing is the class of a message without one.
	missing Class = "missing"
)

// decodeResult reads a termination message. One whose end was cut off gives what is left of it: its class
// at least. The error says that the text is no Result, or one of another version.
func decodeResult(text string) (Result, error) {
	parsed := func(text string) (m message, err error) {
		m.Class = missing
		err = json.Unmarshal([]byte(text), &m)
		return m, err
	}
	m, err := parsed(text)
	if err != nil && len(text) >= minMessageBytes {
		m, err = parsed(closeJSON(text))
	}
	if err != nil {
		return Result{}, fmt.Errorf("reading the agent's message: %w", err)
	}
	if m.Version != Version {
		return Result{}, fmt.Errorf("the agent's message has version %d, not %d", m.Version, Version)
	}
	if m.Class != "" && m.Class != Transient && m.Class != Permanent {
		return Result{}, fmt.Errorf("the agent's message has the class %q", m.Class)
	}
	slices.Reverse(m.Lines)
	m.Tail = strings.Join(m.Lines, "\n")
	return m.Result, nil
}

// closeJSON returns a text that starts an object of JSON, without what is incomplete at its end, and
// with the brackets that close it. A value that is a string is kept up to where it was cut off.
func closeJSON(text string) string {
	var open []byte   // what closes the brackets that are open
	whole := 0        // where the last whole value ended, and
	var wholes []byte // what was open there
	inString, isKey, escaped := false, false, 0
	stringEnd := 0 // where the last whole character of the string ended
	keep := func(end int) { whole, wholes = end, slices.Clone(open) }
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case inString && escaped > 0:
			if escaped--; c == 'u' && text[i-1] == '\\' {
				escaped = 4
			}
		case inString && c == '\\':
			escaped = 1
		case inString && c == '"':
			if inString = false; !isKey {
				keep(i + 1)
			}
		case inString:
		case c == '"':
			inString = true
			isKey = len(open) > 0 && open[len(open)-1] == '}' && !strings.HasSuffix(text[:i], ":")
		case c == '{' || c == '[':
			open = append(open, c+2) // in ASCII the closing bracket is two after the opening one
		case (c == '}' || c == ']') && len(open) > 0:
			open = open[:len(open)-1]
			keep(i + 1)
		case c == ',':
			keep(i)
		}
		if inString && escaped == 0 {
			stringEnd = i + 1
		}
	}
	closing := ""
	if inString && !isKey {
		keep(stringEnd)
		closing = `"`
	}
	kept := text[:whole]
	if r, size := utf8.DecodeLastRuneInString(kept); closing != "" && r == utf8.RuneError && size == 1 {
		kept = strings.ToValidUTF8(kept, "")
	}
	slices.Reverse(wholes)
	return kept + closing + string(wholes)
}

// exitBytes is the size of an Exit in its file. It is always the same, so that exec can take the space before
// the command fills the disk.
const exitBytes = 2048

// EncodeExit returns e as ExitFile has it: JSON, filled with spaces to a size that is always the same. Its
// sentences are cut to what fits.
func EncodeExit(e Exit) []byte {
	e.Error = strings.ToValidUTF8(e.Error, "\uFFFD")
	e.Incomplete = strings.ToValidUTF8(e.Incomplete, "\uFFFD")
	b := encodeJSON(e)
	for limit := MaxResultMessage; len(b) >= exitBytes; limit /= 2 {
		e.Error, e.Incomplete = cutEnd(e.Error, limit), cutEnd(e.Incomplete, limit)
		b = encodeJSON(e)
	}
	return append(append(b, bytes.Repeat([]byte(" "), exitBytes-1-len(b))...), '\n')
}

// ParseExit reads what EncodeExit wrote.
func ParseExit(b []byte) (Exit, error) {
	var e Exit
	if len(bytes.TrimSpace(b)) == 0 {
		return e, errors.New("reading the command's exit: it is empty")
	}
	if err := json.Unmarshal(b, &e); err != nil {
		return e, fmt.Errorf("reading the command's exit: %w", err)
	}
	return e, nil
}
