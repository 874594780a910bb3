// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package agentapi

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestMessageBytes(t *testing.T) {
	for containers, want := range map[int]int{0: 4096, 1: 4096, 3: 4096, 4: 3072, 5: 2457, 6: 2048, 12: 1024} {
		if got := MessageBytes(containers); got != want {
			t.Errorf("MessageBytes(%d) = %d, want %d", containers, got, want)
		}
	}
}

func TestRead(t *testing.T) {
	want := Exec{Version: Version, LocalStdout: "/" + strings.Repeat("é", maxVariable) + "x", GraceSeconds: 10}
	environ := []string{"PATH=/bin", "BATCHCOMPUTE_AGENT_NAME=mine"}
	for _, v := range Variables(want) {
		if len(v.Value) > maxVariable || !utf8.ValidString(v.Value) {
			t.Errorf("%s has %d bytes", v.Name, len(v.Value))
		}
		environ = append(environ, v.Name+"="+v.Value)
	}
	if len(environ) != 5 {
		t.Errorf("%d variables, want 5", len(environ))
	}
	var got Exec
	rest, err := Read(environ, &got)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if diff := cmp.Diff(environ[:2], rest); diff != "" {
		t.Errorf("rest (-want +got):\n%s", diff)
	}
	for name, tc := range map[string]struct{ text, want string }{
		"not set":         {"", "BATCHCOMPUTE_AGENT is not set"},
		"no JSON":         {"exit 3", "reading the environment variable"},
		"another version": {`{"version":7,"later":true}`, "has version 7, and this agent reads version 1"},
		"no version":      {`{}`, "has version 0"},
		"unknown field":   {`{"version":1,"later":true}`, `unknown field "later"`},
		"of another":      {`{"version":1,"inputs":[]}`, `unknown field "inputs"`},
	} {
		if _, err := Read([]string{ConfigVariable + "=" + tc.text}, new(Exec)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q", name, err, tc.want)
		}
	}
}

func TestParseResult(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want Result
	}{
		"a result":      {`{"version":1,"class":"permanent","tail":["b","a"]}`, Result{Version: 1, Class: Permanent, Tail: "a\nb"}},
		"cut off":       {`{"version":1,"class":"permanent","message":"no buck`, Result{Version: 1, Class: Permanent, Message: "no buck"}},
		"no result":     {" Killed\xff\n", Result{Message: "Killed\uFFFD"}},
		"a later one":   {`{"version":2}`, Result{Message: `{"version":2}`}},
		"nothing":       {"", Result{}},
		"far too long":  {strings.Repeat("é", 1000), Result{Message: strings.Repeat("é", 510) + "…"}},
		"another class": {`{"version":1,"class":"odd"}`, Result{Message: `{"version":1,"class":"odd"}`}},
	} {
		if diff := cmp.Diff(tc.want, ParseResult(tc.text)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestCutTail(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 200)
	for name, tc := range map[string]struct{ in, want string }{
		"nothing":                 {"", ""},
		"short":                   {"a\nb", "a\nb"},
		"exactly the limit":       {long[:MaxTail], long[:MaxTail]},
		"a byte more":             {"x" + long[:MaxTail], long[:MaxTail]},
		"within a character":      {"é" + long[:MaxTail-1], long[:MaxTail-1]},
		"within a long character": {"😀" + long[:MaxTail-1], long[:MaxTail-1]},
		"before a character":      {"x" + "é" + long[:MaxTail-2], "é" + long[:MaxTail-2]},
		"no UTF-8":                {"a\xff\xfeb\x00", "a\uFFFDb\x00"},
		"short, starts within":    {"\xa9a", "\uFFFDa"},
	} {
		if got := CutTail([]byte(tc.in)); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// full is a result with every field.
func full(tail string) Result {
	return Result{
		Version: Version, Class: Permanent, Code: new(3), Message: "the bucket \"b\" does not exist: create it",
		Files: 12, Bytes: 1 << 40, Skipped: 3, Digest: strings.Repeat("ab", 32), Tail: tail,
	}
}

func TestResultLimits(t *testing.T) {
	lines := strings.Repeat("a line of the log\n", 200)
	for name, tc := range map[string]struct {
		tail  string
		limit int
		whole bool
	}{
		"three containers":          {CutTail([]byte(lines)), MessageBytes(3), true},
		"six containers":            {CutTail([]byte(lines)), MessageBytes(6), false},
		"no final newline":          {"a\nb", 0, true},
		"final newline":             {"a\n\nb\n", 0, true},
		"only newlines":             {"\n\n", 0, true},
		"NUL and quotes":            {strings.Repeat("\x00\"\\", 100), 0, true},
		"too much to escape":        {strings.Repeat("\x00", MaxTail), 0, false},
		"too small for any":         {"abc", len(EncodeResult(full(""), 0)) + 10, false},
		"one long line, no newline": {strings.Repeat("x", MaxTail), MessageBytes(6), false},
	} {
		r := full(tc.tail)
		b := EncodeResult(r, tc.limit)
		limit := tc.limit
		if limit == 0 {
			limit = MaxMessageBytes
		}
		if len(b) > limit {
			t.Errorf("%s: %d bytes, limit %d", name, len(b), limit)
		}
		got, err := decodeResult(string(b))
		if err != nil || !strings.HasSuffix(tc.tail, got.Tail) || tc.whole != (got.Tail == tc.tail) {
			t.Errorf("%s: tail %q, error %v", name, got.Tail, err)
		}
		if free := limit - len(b); !tc.whole && got.Tail != "" && free > 8 {
			t.Errorf("%s: %d bytes more would have fitted", name, free)
		}
		got.Tail = tc.tail
		if diff := cmp.Diff(r, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestResultMessageCut(t *testing.T) {
	r := Result{Class: Transient, Message: strings.Repeat("é", 2000), Tail: "tail"}
	got, err := decodeResult(string(EncodeResult(r, 0)))
	if err != nil || len(got.Message) > MaxResultMessage || !strings.HasSuffix(got.Message, "é…") || got.Tail != "tail" {
		t.Errorf("message of %d bytes, tail %q, error %v", len(got.Message), got.Tail, err)
	}
	b := EncodeResult(r, 500)
	got, err = decodeResult(string(b))
	if err != nil || len(b) > 500 || !strings.HasSuffix(got.Message, "é…") || got.Tail != "" {
		t.Errorf("%d bytes, message of %d bytes, tail %q, error %v", len(b), len(got.Message), got.Tail, err)
	}
}

// TestResultCutOff cuts a message off after each byte, as a kubelet does in a Pod to which containers were added.
// What is left must be true, and the newest lines of the tail are lost last.
func TestResultCutOff(t *testing.T) {
	want := full("the \"oldest\" line\x00\nä line in the middle\nthe newest line\n")
	text := string(EncodeResult(want, 0))
	parsed := 0
	for end := range len(text) {
		got, err := decodeResult(text[:end])
		if err != nil {
			if parsed > 0 || end > 60 {
				t.Errorf("%q: %v", text[:end], err)
			}
			continue
		}
		parsed++
		if got.Class != want.Class || !strings.HasPrefix(want.Message, got.Message) || !strings.HasPrefix(want.Digest, got.Digest) {
			t.Errorf("%q: %+v", text[:end], got)
		}
		for _, n := range []struct{ got, want int }{{got.Files, want.Files}, {int(got.Bytes), int(want.Bytes)}, {got.Skipped, want.Skipped}} {
			if n.got != 0 && n.got != n.want {
				t.Errorf("%q: %d, want %d", text[:end], n.got, n.want)
			}
		}
		if got.Code != nil && *got.Code != *want.Code {
			t.Errorf("%q: code %d", text[:end], *got.Code)
		}
		// Whole lines, the newest, and behind the last of them what is left of the one before.
		first, whole, cut := strings.Cut(got.Tail, "\n")
		if cut && (!strings.HasSuffix(want.Tail, "\n"+whole) || !strings.Contains("\n"+want.Tail, "\n"+first)) {
			t.Errorf("%q: tail %q", text[:end], got.Tail)
		}
	}
	if parsed < len(text)-60 {
		t.Errorf("only %d of %d cut messages could be read", parsed, len(text))
	}
	for _, text := range []string{"", "{", "Killed\n", `{"version":1}`, `{"version":1,`, `{"version":2,"class":""}`, `{"version":1,"class":"perm`, "[1,2", `"`} {
		if got, err := decodeResult(text); err == nil {
			t.Errorf("%q was read: %+v", text, got)
		}
	}
}

func TestExit(t *testing.T) {
	for name, e := range map[string]Exit{
		"success": {},
		"failure": {Code: 3},
		"all":     {Code: 126, Error: "no", Incomplete: "stdout: no space left on device"},
		"long":    {Code: 127, Error: strings.Repeat("\x00", 3000), Incomplete: strings.Repeat("\xff", 3000)},
	} {
		b := EncodeExit(e)
		got, err := ParseExit(b)
		if err != nil || len(b) != exitBytes || got.Code != e.Code || (got.Error == "") != (e.Error == "") {
			t.Errorf("%s: %d bytes: %+v, error %v", name, len(b), got, err)
		}
		if diff := cmp.Diff(e, got); diff != "" && name != "long" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for _, text := range []string{"", strings.Repeat(" ", exitBytes), "{", strings.Repeat("\x00", exitBytes)} {
		if _, err := ParseExit([]byte(text)); err == nil {
			t.Errorf("%.10q was read", text)
		}
	}
}

func FuzzResult(f *testing.F) {
	f.Add("message", []byte("a\nb\xff\n"), 4096, 100)
	f.Add("\"\x00", []byte(strings.Repeat("é\n", 1500)), 2048, 2000)
	f.Fuzz(func(t *testing.T, text string, stream []byte, limit, end int) {
		tail := CutTail(stream)
		if len(stream) <= MaxTail && utf8.Valid(stream) && tail != string(stream) || !utf8.ValidString(tail) ||
			len(tail) > 3*MaxTail || len(stream) > MaxTail && utf8.Valid(stream) && len(tail) < MaxTail-3 {
			t.Fatalf("tail of %q: %q", stream, tail)
		}
		limit = 400 + max(limit%4096, -(limit%4096))
		r := Result{Class: Transient, Message: text, Code: new(137), Tail: tail}
		b := EncodeResult(r, limit)
		if len(b) > limit || !utf8.Valid(b) {
			t.Fatalf("%d bytes, limit %d: %q", len(b), limit, b)
		}
		got, err := decodeResult(string(b))
		if err != nil || got.Class != r.Class || *got.Code != 137 || !strings.HasSuffix(tail, got.Tail) {
			t.Fatalf("%q: %+v, error %v", b, got, err)
		}
		end = max(end%(len(b)+1), -(end % (len(b) + 1)))
		part, err := decodeResult(string(b[:end]))
		if err == nil && (part.Class != r.Class || part.Code != nil && *part.Code != 137 || !strings.HasPrefix(got.Message, part.Message)) {
			t.Fatalf("%q: %+v", b[:end], part)
		}
		if err != nil && end > 60 {
			t.Fatalf("%q: %v", b[:end], err)
		}
	})
}
