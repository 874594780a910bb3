// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package apikey

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
)

var start = time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)

const (
	id  = "AKID0123456789abcdef"
	key = "secret-0123456789abcdef"
)

// secretOf returns a Secret with a key and further entries, a name and a value each.
func secretOf(entries ...string) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a"}, Data: map[string][]byte{SecretID: []byte(id), SecretKey: []byte(key)}}
	for i := 0; i < len(entries); i += 2 {
		s.Data[entries[i]] = []byte(entries[i+1])
	}
	return s
}

func TestParse(t *testing.T) {
	k, err := Parse(secretOf(Token, "t", Expiry, "2026-05-01T00:01:00Z", Enabled, "true"))
	if err != nil || k.SecretID != id || k.SecretKey != key || k.Token != "t" || k.Namespace != "ns" || k.ServiceAccount != "batchcompute-client" {
		t.Fatalf("%+v, %v", k, err)
	}
	if !k.IsUsable(start.Add(59*time.Second)) || k.IsUsable(start.Add(60*time.Second)) {
		t.Error("the expiry does not hold")
	}
	if k, err := Parse(secretOf(Enabled, "false")); err != nil || k.IsUsable(start) {
		t.Errorf("a disabled key is %+v, %v", k, err)
	}
	other := secretOf(ServiceAccount, "data")
	if k, err := Parse(other); err != nil || k.ServiceAccount != "data" {
		t.Errorf("%+v, %v", k, err)
	}
	other.Annotations = map[string]string{v1alpha1.AnnotationServiceAccount: "annotated"}
	if k, err := Parse(other); err != nil || k.ServiceAccount != "annotated" {
		t.Errorf("%+v, %v", k, err)
	}
	for _, entries := range [][]string{
		{SecretID, "short"}, {SecretID, strings.Repeat("x", 129)}, {SecretID, "AKID 0123456789abcdef"}, {SecretKey, ""},
		{SecretKey, "secret 0123456789abcdef"}, {SecretKey, strings.Repeat("x", 257)}, {Token, strings.Repeat("x", 4097)},
		{Enabled, "no"}, {Expiry, "tomorrow"}, {ServiceAccount, "a:b"}, {ServiceAccount, "system:admin"},
	} {
		k, err := Parse(secretOf(entries...))
		if err == nil {
			t.Errorf("%q: %+v", entries, k)
		} else if entries[1] != "" && entries[0] != Enabled && strings.Contains(err.Error(), entries[1]) {
			t.Errorf("%q: the error repeats it: %v", entries, err)
		}
	}
}
