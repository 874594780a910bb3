// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/gateway/apikey"
)

var start = time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)

const (
	id  = "AKID0123456789abcdef"
	key = "secret-0123456789abcdef"
)

// secretOf returns the Secret of a key that was created age seconds after start.
func secretOf(namespace, name string, age int, entries ...string) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: name, UID: types.UID(namespace + name), CreationTimestamp: metav1.NewTime(start.Add(time.Duration(age) * time.Second)),
	}, Data: map[string][]byte{apikey.SecretID: []byte(id), apikey.SecretKey: []byte(key)}}
	for i := 0; i < len(entries); i += 2 {
		s.Data[entries[i]] = []byte(entries[i+1])
	}
	return s
}

func TestTheOlderSecretWins(t *testing.T) {
	s := newStore(logr.Discard(), func() time.Time { return start })
	want := func(namespace string) {
		t.Helper()
		if k, ok := s.find(id); ok != (namespace != "") || k.Namespace != namespace {
			t.Errorf("the key is of %q, want %q", k.Namespace, namespace)
		}
	}
	want("")
	s.set(secretOf("second", "a", 5))
	want("second")
	if k, ok, err := s.Lookup(t.Context(), id); !ok || err != nil || k.SecretKey != key || k.Tenant.Namespace != "second" || k.Tenant.ServiceAccount != "batchcompute-client" {
		t.Errorf("%+v, %t, %v", k, ok, err)
	}
	s.set(secretOf("first", "a", 1))
	want("first")
	s.set(secretOf("third", "a", 9))
	want("first")
	s.set(secretOf("first", "a", 1, apikey.Enabled, "false")) // nobody gets it because it is disabled
	want("first")
	if _, ok, err := s.Lookup(t.Context(), id); ok || err != nil {
		t.Error("a disabled key may be used")
	}
	s.set(secretOf("first", "a", 1, apikey.SecretKey, "short"))
	want("second")
	if got := testutil.CollectAndCount(s); got != 4 {
		t.Errorf("%d series, want 4", got)
	}
	text := `
# HELP batchjob_gateway_api_keys Secrets with the label of API keys, by what they are: active, duplicate (an older one has the secretId), excess (its namespace has too many), invalid.
# TYPE batchjob_gateway_api_keys gauge
batchjob_gateway_api_keys{state="active"} 1
batchjob_gateway_api_keys{state="duplicate"} 1
batchjob_gateway_api_keys{state="excess"} 0
batchjob_gateway_api_keys{state="invalid"} 1
`
	if err := testutil.CollectAndCompare(s, strings.NewReader(text)); err != nil {
		t.Error(err)
	}
	s.remove(toolscache.DeletedFinalStateUnknown{Obj: secretOf("second", "a", 5)})
	want("third")
	s.remove(secretOf("third", "a", 9))
	s.remove(secretOf("third", "a", 9))
	want("")
	if len(s.byID)+len(s.bySecret)+len(s.perSpace) != 0 {
		t.Error("something is kept of keys that are gone")
	}
}

func TestANamespaceHasABoundedNumberOfKeys(t *testing.T) {
	s := newStore(logr.Discard(), func() time.Time { return start })
	nameOf := func(i int) string { return fmt.Sprintf("AKID0123456789-%04d", i) }
	for i := maxKeys + 4; i >= 0; i-- {
		s.set(secretOf("ns", nameOf(i), i, apikey.SecretID, nameOf(i)))
	}
	for i := range maxKeys + 5 {
		if _, ok := s.find(nameOf(i)); ok != (i < maxKeys) {
			t.Errorf("key %d: %t", i, ok)
		}
	}
	s.remove(secretOf("ns", nameOf(3), 3))
	if _, ok := s.find(nameOf(maxKeys)); !ok {
		t.Error("a key is not used though its namespace has capacity left")
	}
}

func TestStrip(t *testing.T) {
	in := secretOf("ns", "a", 0, "other", "x", apikey.SecretKey, strings.Repeat("k", 5000), apikey.Token, strings.Repeat("t", 100000))
	in.Annotations = map[string]string{"x": strings.Repeat("y", 1000), v1alpha1.AnnotationServiceAccount: "sa"}
	in.ManagedFields = make([]metav1.ManagedFieldsEntry, 1)
	got, err := strip(in)
	out, ok := got.(*corev1.Secret)
	if err != nil || !ok || len(out.Data) != 3 || len(out.Data[apikey.Token]) != apikey.MaxTokenLength+1 || len(out.Data[apikey.SecretKey]) != apikey.MaxEntryLength+1 || len(out.Annotations) != 1 || out.ManagedFields != nil {
		t.Errorf("%+v, %v", got, err)
	}
}
