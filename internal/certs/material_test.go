// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

var (
	epoch = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	names = []string{"hook.ns.svc", "127.0.0.1"}
)

const day = 24 * time.Hour

// fresh is the material of a first start at epoch.
func fresh(t *testing.T) material {
	t.Helper()
	m, changed := renewed(t, material{}, epoch, nil)
	if !changed {
		t.Fatal("nothing was made from nothing")
	}
	return m
}

// renewed renews m, checks that the result can be served, and stores and reads it as
// the Secret does.
func renewed(t *testing.T, m material, now time.Time, injected []byte) (material, bool) {
	t.Helper()
	next, changed, err := m.renew(now, names, injected)
	if err != nil {
		t.Fatal(err)
	}
	if !next.serves(now, names) {
		t.Errorf("at %s the pair cannot be served", now)
	}
	if !changed {
		return m, false
	}
	return parseMaterial(data(t, next)), true
}

func data(t *testing.T, m material) map[string][]byte {
	t.Helper()
	d, err := m.data()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func bundle(t *testing.T, m material) []byte {
	t.Helper()
	b, err := m.bundle()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRenewFromNothing(t *testing.T) {
	m := fresh(t)
	if len(m.authorities) != 1 {
		t.Errorf("%d authorities, want 1", len(m.authorities))
	}
	if got := hosts(m.serving.Leaf); !slices.Equal(got, names) {
		t.Errorf("for %q, want %q", got, names)
	}
	if got, want := m.serving.Leaf.NotAfter, epoch.Add(servingLife); !got.Equal(want) {
		t.Errorf("serving until %s, want %s", got, want)
	}
	if got, want := m.authorities[0].NotAfter, epoch.Add(caLife); !got.Equal(want) {
		t.Errorf("authority until %s, want %s", got, want)
	}
	if m.serving.Leaf.IsCA {
		t.Error("the serving certificate is an authority")
	}
}

func TestRenewServingPair(t *testing.T) {
	m := fresh(t)
	if _, changed := renewed(t, m, epoch.Add(59*day), bundle(t, m)); changed {
		t.Error("renewed before two thirds of its life")
	}
	if _, changed := renewed(t, m, epoch.Add(61*day), nil); changed {
		t.Error("renewed although the API server does not know the authority")
	}
	next, changed := renewed(t, m, epoch.Add(61*day), bundle(t, m))
	if !changed || next.serving.Leaf.Equal(m.serving.Leaf) {
		t.Fatal("not renewed after two thirds of its life")
	}
	if !next.authorities[0].Equal(m.authorities[0]) || len(next.authorities) != 1 {
		t.Error("the authority changed with the pair")
	}
	if late, changed := renewed(t, m, epoch.Add(91*day), nil); !changed || late.serving.Leaf.Equal(m.serving.Leaf) {
		t.Error("a pair that has expired is still there")
	}
}

// TestRenewAuthority follows a change of the authority: it joins the bundle, is
// injected, signs, and its predecessor leaves when nothing depends on it any more.
func TestRenewAuthority(t *testing.T) {
	first := fresh(t)
	begin := epoch.Add(caLife / 3 * 2)
	old, _ := renewed(t, first, begin.Add(-day), bundle(t, first)) // a pair of the old authority, one day old
	known := bundle(t, old)

	joined, changed := renewed(t, old, begin, known)
	if !changed || len(joined.authorities) != 2 || !joined.authorities[1].Equal(old.authorities[0]) {
		t.Fatalf("changed %v, %d authorities", changed, len(joined.authorities))
	}
	if !joined.serving.Leaf.Equal(old.serving.Leaf) {
		t.Fatal("serves under an authority that the API server does not know")
	}
	if got := joined.nextRenewal(begin); got != settle {
		t.Errorf("looks again in %s, want %s", got, settle)
	}
	if _, changed := renewed(t, joined, begin.Add(day), known); changed {
		t.Error("changed before the new bundle was injected")
	}
	known = bundle(t, joined)
	if _, changed := renewed(t, joined, begin.Add(settle-time.Second), known); changed {
		t.Error("changed before the new authority had settled")
	}
	signed, changed := renewed(t, joined, begin.Add(settle), known)
	if !changed || signed.serving.Leaf.CheckSignatureFrom(joined.authorities[0]) != nil {
		t.Fatal("the new authority does not sign")
	}
	if len(signed.authorities) != 2 {
		t.Error("the predecessor left while replicas may still serve under it")
	}
	if !old.serves(begin.Add(settle), nil) || !(material{authorities: signed.authorities, serving: old.serving}).serves(begin.Add(settle), names) {
		t.Error("the new bundle does not vouch for what a slow replica serves")
	}

	at := begin.Add(61 * day)
	kept, _ := renewed(t, signed, at, known)
	if len(kept.authorities) != 2 {
		t.Error("the predecessor left too early")
	}
	last, changed := renewed(t, kept, begin.Add(servingLife+time.Second), known)
	if !changed || len(last.authorities) != 1 || !last.authorities[0].Equal(joined.authorities[0]) {
		t.Errorf("changed %v, %d authorities, want the new one only", changed, len(last.authorities))
	}
}

func TestRenewRepairs(t *testing.T) {
	good := data(t, fresh(t))
	other := data(t, fresh(t))
	with := func(key string, value []byte) map[string][]byte {
		d := maps.Clone(good)
		d[key] = value
		return d
	}
	tests := map[string]struct {
		in            map[string][]byte
		wantSameCA    bool
		wantSamePair  bool
		wantAuthority int
	}{
		"empty":                       {map[string][]byte{}, false, false, 1},
		"rubbish everywhere":          {map[string][]byte{caKey: {1}, caKeyKey: {2}, corev1.TLSCertKey: {3}, corev1.TLSPrivateKeyKey: {4}}, false, false, 1},
		"no serving pair":             {with(corev1.TLSCertKey, nil), true, false, 1},
		"key of another pair":         {with(corev1.TLSPrivateKeyKey, other[corev1.TLSPrivateKeyKey]), true, false, 1},
		"no authority":                {with(caKey, nil), false, false, 1},
		"no key of the authority":     {with(caKeyKey, nil), false, true, 2},
		"key of another authority":    {with(caKeyKey, other[caKeyKey]), false, true, 2},
		"another authority":           {with(caKey, other[caKey]), false, false, 2},
		"a serving pair as authority": {with(caKey, good[corev1.TLSCertKey]), false, false, 1},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			m, changed := renewed(t, parseMaterial(tc.in), epoch, nil)
			if !changed {
				t.Fatal("not repaired")
			}
			g := parseMaterial(good)
			if got := m.authorities[0].Equal(g.authorities[0]); got != tc.wantSameCA {
				t.Errorf("same authority %v, want %v", got, tc.wantSameCA)
			}
			if got := m.serving.Leaf.Equal(g.serving.Leaf); got != tc.wantSamePair {
				t.Errorf("same pair %v, want %v", got, tc.wantSamePair)
			}
			if len(m.authorities) != tc.wantAuthority {
				t.Errorf("%d authorities, want %d", len(m.authorities), tc.wantAuthority)
			}
		})
	}
	if _, changed := renewed(t, parseMaterial(good), epoch, nil); changed {
		t.Error("what is good was changed")
	}
}

func TestRenewKeepsNames(t *testing.T) {
	m := fresh(t)
	next, changed, err := m.renew(epoch, []string{"other.ns.svc"}, nil)
	if err != nil || !changed {
		t.Fatalf("changed %v, error %v", changed, err)
	}
	want := []string{"hook.ns.svc", "other.ns.svc", "127.0.0.1"}
	if got := hosts(next.serving.Leaf); !slices.Equal(got, want) {
		t.Errorf("for %q, want %q: replicas with different names must agree", got, want)
	}
}

func TestNextRenewal(t *testing.T) {
	m := fresh(t)
	for at, want := range map[time.Duration]time.Duration{
		0:                                    12 * time.Hour, // never longer, whatever the certificates say
		60*day - 2*time.Hour:                 2*time.Hour - backdate + 2*backdate/3,
		60*day + 5*time.Hour:                 settle,
		servingLife + 5*time.Hour:            settle,
		60*day - backdate/3 - 90*time.Second: 90 * time.Second,
	} {
		if got := m.nextRenewal(epoch.Add(at)); got != want {
			t.Errorf("after %s: %s, want %s", at, got, want)
		}
	}
}
