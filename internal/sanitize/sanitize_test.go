// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package sanitize

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"batchcompute.dev/operator/api/v1alpha1"
)

func TestText(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"a plain sentence":              {"0/3 nodes are available: 3 Insufficient cpu.", "0/3 nodes are available: 3 Insufficient cpu."},
		"nothing":                       {"", ""},
		"other scripts":                 {"Fehler: Größe 世界 \U0001f600", "Fehler: Größe 世界 \U0001f600"},
		"lines and tabs":                {"one\ntwo\r\n\tthree", "one two   three"},
		"spaces of all kinds":           {"wide\u3000and\u00a0fixed\u2028next\u0085line", "wide and fixed next line"},
		"control characters":            {"a\x00b\ac\x7fd\u0080e", "abcde"},
		"text direction":                {"evil\u202egpj.exe\u2066x\u200b", "evilgpj.exex"},
		"broken UTF-8":                  {"broken\xff\xfe end", "broken? end"},
		"a colour":                      {"\x1b[1;31mRUNNING\x1b[0m", "RUNNING"},
		"the cursor":                    {"a\x1b[2J\x1b[Hb\x1b[10;20Hc", "abc"},
		"a window's title":              {"a\x1b]0;owned\ab", "ab"},
		"a hyperlink":                   {"\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\", "click"},
		"a device control string":       {"a\x1bP1$r0m\x1b\\b", "ab"},
		"two-character sequences":       {"a\x1bcb\x1b7c", "abc"},
		"a lone escape at the end":      {"end\x1b", "end"},
		"an escape and another control": {"a\x1b\x1b[31mb", "ab"},
		"single-character introducers":  {"a\u009b31mb\u009d0;title\u009cc", "abc"},
		"a sequence that does not end":  {"a\x1b[31;世b", "a31;世b"},
		"a string that does not end":    {"a\x1b]0;the whole rest", "a0;the whole rest"},
		"an escape within a credential": {"pass\x1b[0mword=hunter2", "password=REDACTED"},
		"a control within a token":      {"Bearer abc\x00def123456", "Bearer REDACTED"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Message(tc.in); got != tc.want {
				t.Errorf("%q becomes %q, want %q", tc.in, got, tc.want)
			}
		})
	}
}

func TestTextLimit(t *testing.T) {
	for name, tc := range map[string]struct {
		in    string
		limit int
		want  string
	}{
		"just fits":                    {"12345678", 8, "12345678"},
		"one byte too long":            {"123456789", 8, "12345…"},
		"at a character's end":         {"12é世界", 8, "12é…"},
		"characters that JSON escapes": {"1<2>3", 10, "1<…"},
		"quotes count twice":           {`""""`, 7, `""…`},
		"a credential is not cut open": {"password=0123456789012345678901234567890123456789 x", 20, "password=REDACTED x"},
		"no capacity at all":           {"long", 2, "…"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Text(tc.in, tc.limit); got != tc.want {
				t.Errorf("%q becomes %q, want %q", tc.in, got, tc.want)
			}
		})
	}
}

// TestTextOfAnySize: the time that a text takes is bounded, and a credential that lies across the
// bound does not come through.
func TestTextOfAnySize(t *testing.T) {
	long := strings.Repeat("word ", maxInput/5-1) + "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"
	if got := Text(long, 10*maxInput); !utf8.ValidString(got) || strings.Contains(got, "eyJ") || !strings.HasSuffix(got, "word…") {
		t.Errorf("ends with %q", got[len(got)-40:])
	}
	if got := Message(strings.Repeat("\xff\x1b", maxInput)); len(got) > v1alpha1.MaxMessageSize {
		t.Errorf("%d bytes", len(got))
	}
}

func TestTruncate(t *testing.T) {
	for _, tc := range []struct {
		in    string
		limit int
		want  string
	}{
		{"", 0, ""},
		{"abc", 3, "abc"},
		{"abcd", 3, "…"},
		{"abcde", 4, "a…"},
		{"世界世界", 11, "世界…"},
		{"世界世界", 9, "世界…"},
		{"世界世界", 8, "世…"},
		{"line\nline", 8, "line\n…"},
	} {
		if got := Truncate(tc.in, tc.limit); got != tc.want {
			t.Errorf("%q to %d bytes: %q, want %q", tc.in, tc.limit, got, tc.want)
		}
	}
}

func TestQuote(t *testing.T) {
	for _, tc := range []struct {
		in    string
		limit int
		want  string
	}{
		{"", 5, `""`},
		{"abc", 3, `"abc"`},
		{"abcd", 3, `"abc…"`},
		{"a\nb\x00\u202e\xff", 40, `"a\nb\x00\u202e\xff"`},
		{"\x00\x00", 7, `"\x00…"`},
		{"世界", 4, `"世…"`},
		{`"\`, 4, `"\"\\"`},
	} {
		if got := Quote(tc.in, tc.limit); got != tc.want {
			t.Errorf("%q to %d bytes: %s, want %s", tc.in, tc.limit, got, tc.want)
		}
	}
}

// FuzzMessage: whatever comes in, what goes out is one printable line that fits, and a credential
// within it is gone. Without -fuzz only the seeds run.
func FuzzMessage(f *testing.F) {
	f.Add("no node fits: ", " and so on")
	f.Add("\x1b[31m\u202e\xff", "\x1b]0;x\a")
	f.Add(strings.Repeat("<\u2028", 2000), "")
	f.Add("https://", "@host/")
	f.Add("authorization: digest a=\"", "\"")
	f.Add("eyJ", ".")
	f.Fuzz(func(t *testing.T, before, after string) {
		const planted = "Zx9Qk47LmPv2"
		for _, in := range []string{
			before, before + after,
			before + "\nAuthorization: Bearer " + planted + "\n" + after,
			before + "\nhttps://me:" + planted + "@example.com/\n" + after,
			before + "\npassword=" + planted + "\n" + after,
			before + "\n{\"token\":\"" + planted + "\"}\n" + after,
			before + "\neyJ" + planted + "." + planted + "." + planted + "\n" + after,
		} {
			got := Message(in)
			text, err := json.Marshal(got)
			switch {
			case err != nil:
				t.Fatal(err)
			case !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }):
				t.Fatalf("%q becomes %q, which does not print", in, got)
			case len(text)-len(`""`) > v1alpha1.MaxMessageSize:
				t.Fatalf("%q becomes %q of %d bytes", in, got, len(text))
			case strings.Contains(got, planted) && !strings.Contains(before+after, planted):
				t.Fatalf("%q becomes %q", in, got)
			}
		}
	})
}

func BenchmarkMessage(b *testing.B) {
	for name, text := range map[string]string{
		"plain":      "0/3 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, 2 Insufficient cpu. preemption: 0/3 nodes are available",
		"credential": "failed to pull https://me:hunter2@registry.example.com/team/image: Authorization: Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Message(text)
			}
		})
	}
}
