// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// paths are those of all webhooks.
func (w *world) paths() []string {
	w.t.Helper()
	var list []string
	for _, h := range w.hooks() {
		list = append(list, pathOf(h.client))
	}
	return list
}

// leads fails the test unless all webhooks lead to their paths, with the token behind them.
func (w *world) leads(when, token string) {
	w.t.Helper()
	if token != "" {
		token = "/" + token
	}
	if got, want := w.paths(), []string{"/mutate" + token, "/validate" + token, "/validate" + token}; !slices.Equal(got, want) {
		w.t.Errorf("%s: paths %q, want %q", when, got, want)
	}
}

func (w *world) pass(d time.Duration) { w.clock.SetTime(w.clock.Now().Add(d)) }

func TestTokenOfFirstStart(t *testing.T) {
	w := newWorld(t, mutating(), validating())
	k := w.keeper(nil)
	if got := k.PathTokens(); len(got) != 0 {
		t.Errorf("%q are valid before the Secret was read", got)
	}
	w.reconcile(k)
	tokens := k.PathTokens()
	if len(tokens) != 1 || len(validation.IsDNS1123Label(tokens[0])) > 0 || len(tokens[0]) != 2*tokenBytes {
		t.Fatalf("tokens %q, want one that can be a part of a path", tokens)
	}
	w.leads("at the start", tokens[0])
}

// TestTokenRotates follows a rotation: the next token is valid before the configurations have
// it, and the one before is valid after that.
func TestTokenRotates(t *testing.T) {
	w := newWorld(t, mutating(), validating())
	k, other := w.keeper(nil), w.keeper(nil)
	w.reconcile(k)
	w.reconcile(other)
	first := k.PathTokens()[0]
	w.pass(tokenLife)
	if got := w.reconcile(k); got != settle {
		t.Errorf("looks again in %s", got)
	}
	tokens := k.PathTokens()
	if len(tokens) != 2 || tokens[1] != first || tokens[0] == first {
		t.Fatalf("tokens %q", tokens)
	}
	w.leads("before the other replica knows", first)
	w.reconcile(other)
	if got := other.PathTokens(); !slices.Equal(got, tokens) {
		t.Errorf("the other replica has %q, want %q", got, tokens)
	}
	w.pass(settle)
	if got := w.reconcile(k); got != tokenOverlap {
		t.Errorf("looks again in %s", got)
	}
	w.leads("when all know", tokens[0])
	if got := k.PathTokens(); !slices.Equal(got, tokens) {
		t.Errorf("tokens %q right after the change", got)
	}
	// A replica whose clock is behind does not put the old one back.
	behind := w.keeper(nil)
	w.pass(-settle)
	w.reconcile(behind)
	w.leads("after a replica with another clock", tokens[0])
	w.pass(settle + tokenOverlap)
	w.reconcile(k)
	w.reconcile(k) // with a cache that has seen the configurations
	if got := k.PathTokens(); !slices.Equal(got, tokens[:1]) {
		t.Errorf("tokens %q, want %q", got, tokens[:1])
	}
}

// TestTokenStaysWhileCarried lets nobody take the configurations along: the old token is valid
// for as long as they have it.
func TestTokenStaysWhileCarried(t *testing.T) {
	now := epoch
	list, _ := pathTokens(nil).renew(now, "", false)
	old := list[0].value
	now = now.Add(tokenLife)
	list, _ = list.renew(now, old, true)
	for range 100 {
		now = now.Add(time.Minute)
		var changed bool
		if list, changed = list.renew(now, old, true); changed || list[1].value != old {
			t.Fatalf("after %s the tokens are %v", now.Sub(epoch), list)
		}
	}
}

// TestTokenOfUpgrade begins with what a version without tokens has left: a replica of that
// version may still be asked, so the path gets its token later.
func TestTokenOfUpgrade(t *testing.T) {
	w := newWorld(t, mutating(), validating(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "cert"}, Data: data(t, fresh(t)),
	})
	k := w.keeper(nil)
	w.reconcile(k)
	tokens := k.PathTokens()
	if len(tokens) != 2 || tokens[1] != "" {
		t.Fatalf("tokens %q, want one and none", tokens)
	}
	w.leads("at first", "")
	w.pass(settle)
	w.reconcile(k)
	w.leads("later", tokens[0])
	if got := k.PathTokens(); !slices.Contains(got, "") {
		t.Error("an API server that is late to hear of the path is not answered")
	}
	w.pass(tokenOverlap)
	w.reconcile(k)
	w.reconcile(k)
	if got := k.PathTokens(); slices.Contains(got, "") {
		t.Error("a path without a token stays valid")
	}
}

// TestTokenIsPutBack lets somebody apply the manifests again, with their paths or without.
func TestTokenIsPutBack(t *testing.T) {
	w := newWorld(t, mutating(), validating())
	k := w.keeper(nil)
	w.reconcile(k)
	token := k.PathTokens()[0]
	for _, path := range []*string{new("/validate"), nil} {
		cfg := w.config()
		for i := range cfg.Webhooks {
			cfg.Webhooks[i].ClientConfig.Service.Path = path
		}
		if err := w.c.Update(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		w.reconcile(k)
		w.leads("after it was applied", token)
		if slices.Contains(k.PathTokens(), "") {
			t.Error("a path without a token is valid")
		}
	}
}

func TestParseTokens(t *testing.T) {
	list := pathTokens{{strings.Repeat("a", 40), epoch}, {"", epoch}, {strings.Repeat("0", 40), epoch.Add(-time.Hour)}}
	if got := parseTokens(list.data()); !slices.EqualFunc(got, list, func(a, b pathToken) bool { return a.value == b.value && a.from.Equal(b.from) }) {
		t.Errorf("%v, want %v", got, list)
	}
	bad := "2026-11-23T12:00:00Z ../../x\nyesterday " + strings.Repeat("a", 40) + "\n2026-11-23T12:00:00Z\n\n" + strings.Repeat("b", 40)
	if got := parseTokens([]byte(bad)); len(got) != 0 {
		t.Errorf("%v of rubbish", got)
	}
}
