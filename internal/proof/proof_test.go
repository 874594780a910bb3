// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"bytes"
	"strings"
	"testing"
)

func newKey(t *testing.T, fill byte) *Key {
	t.Helper()
	k, err := New(bytes.Repeat([]byte{fill}, MinKeyLength))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestProof: a proof is good for one Pod and one key.
func TestProof(t *testing.T) {
	k, other := newKey(t, 1), newKey(t, 2)
	p := k.Sign("team", "film-render-0-abc")
	if !k.Verify("team", "film-render-0-abc", p) {
		t.Errorf("%q does not prove what it was made for", p)
	}
	if IDOf(p) != k.ID() || len(k.ID()) != IDLength || k.ID() == other.ID() {
		t.Errorf("proof %q of key %q; another key is %q", p, k.ID(), other.ID())
	}
	for name, tc := range map[string]struct{ namespace, name, proof string }{
		"another attempt":      {"team", "film-render-0-r1-abc", p},
		"another namespace":    {"gang", "film-render-0-abc", p},
		"shifted":              {"team/film", "render-0-abc", p},
		"another key":          {"team", "film-render-0-abc", other.Sign("team", "film-render-0-abc")},
		"empty":                {"team", "film-render-0-abc", ""},
		"the identifier alone": {"team", "film-render-0-abc", k.ID() + "."},
		"cut":                  {"team", "film-render-0-abc", p[:len(p)-1]},
		"upper case":           {"team", "film-render-0-abc", strings.ToUpper(p)},
	} {
		if k.Verify(tc.namespace, tc.name, tc.proof) {
			t.Errorf("%s: %q is believed", name, tc.proof)
		}
	}
}

// TestIDOf: only what has the form of a proof has a key.
func TestIDOf(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "0123abcd": "", "0123abcd.": "", ".0123456789abcdef": "", "0123abcd.0123456789abcdef": "0123abcd", "0123abcd.0123456789abcdef0": "",
	} {
		if got := IDOf(text); got != want {
			t.Errorf("IDOf(%q) = %q, want %q", text, got, want)
		}
	}
}

// TestNewShort: a key that can be guessed is none.
func TestNewShort(t *testing.T) {
	if _, err := New(make([]byte, MinKeyLength-1)); err == nil {
		t.Error("a short key is taken")
	}
}
