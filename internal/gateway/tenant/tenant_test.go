// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	authzv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/gateway/refusal"
)

// apiServer answers access reviews and logs, and remembers who asked.
type apiServer struct {
	log string

	mu      sync.Mutex
	users   map[string]int // requests by whom they were made as
	reviews []authzv1.ResourceAttributes
	lines   []string // the tailLines of requests for logs
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	user := r.Header.Get("Impersonate-User")
	a.users[user]++
	if strings.HasSuffix(r.URL.Path, "/log") {
		a.lines = append(a.lines, r.URL.Query().Get("tailLines"))
		n := 0
		_, _ = fmt.Sscan(r.URL.Query().Get("tailLines"), &n)
		all := strings.SplitAfter(a.log, "\n")
		_, _ = io.WriteString(w, strings.Join(all[max(0, len(all)-1-n):], ""))
		return
	}
	body, _ := io.ReadAll(r.Body)
	obj, _, err := clientgoscheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
	review, ok := obj.(*authzv1.SelfSubjectAccessReview)
	if err != nil || !ok {
		http.Error(w, "no review", http.StatusBadRequest)
		return
	}
	a.reviews = append(a.reviews, *review.Spec.ResourceAttributes)
	review.Status.Allowed = strings.HasSuffix(user, ":allowed")
	review.APIVersion, review.Kind = "authorization.k8s.io/v1", "SelfSubjectAccessReview"
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(review)
}

func newClients(t *testing.T, a *apiServer) *Clients {
	t.Helper()
	a.users = map[string]int{}
	s := httptest.NewServer(a)
	t.Cleanup(s.Close)
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	return NewClients(&rest.Config{Host: s.URL}, scheme)
}

// TestCheck: the cluster is asked as the identity, once in some seconds.
func TestCheck(t *testing.T) {
	a := &apiServer{}
	clients := newClients(t, a)
	for range 3 {
		for name, want := range map[string]errcode.Code{"allowed": "", "denied": errcode.UnauthorizedOperation} {
			c, err := clients.For(Identity{"ns", name})
			if err != nil {
				t.Fatal(err)
			}
			err = c.Check(t.Context(), "get", schema.GroupResource{Group: "batchcompute.dev", Resource: "batchjobs"})
			var r *refusal.Refusal
			if errors.As(err, &r) != (want != "") || r != nil && (r.Code != want || !strings.Contains(r.Message, "may not get batchjobs.batchcompute.dev")) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if a.users["system:serviceaccount:ns:allowed"] != 1 || a.users["system:serviceaccount:ns:denied"] != 1 || len(a.users) != 2 {
		t.Errorf("the requests are %v", a.users)
	}
	c, err := clients.For(Identity{"ns", "allowed"})
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := clients.For(Identity{"ns", "allowed"}); again != c {
		t.Error("an identity has two clients")
	}
	if err := c.Check(t.Context(), "get", schema.GroupResource{Resource: "pods/log"}); err != nil {
		t.Error(err)
	}
	want := authzv1.ResourceAttributes{Namespace: "ns", Verb: "get", Resource: "pods", Subresource: "log"}
	if got := a.reviews[len(a.reviews)-1]; got.Resource != want.Resource || got.Subresource != want.Subresource || got.Namespace != "ns" {
		t.Errorf("the review is about %+v", got)
	}
}

// TestLog: the end of a log, also of one with many short lines, and with few long ones.
func TestLog(t *testing.T) {
	const limit = 100
	for name, tc := range map[string]struct{ log, asked string }{
		"empty":       {"", "[32]"},
		"short":       {"a\nb\n", "[32]"},
		"no line end": {"abc", "[32]"},
		"short lines": {strings.Repeat("x\n", 500), "[32 100]"},
		"long lines":  {strings.Repeat(strings.Repeat("y", 5000)+"\n", 40), "[32]"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &apiServer{log: tc.log}
			c, err := newClients(t, a).For(Identity{"ns", "allowed"})
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.Log(t.Context(), "pod", "task", limit)
			want := tc.log[max(0, len(tc.log)-limit):]
			if err != nil || string(got) != want || fmt.Sprint(a.lines) != tc.asked {
				t.Errorf("%q, %v, asked for %v lines; want %q, %s", got, err, a.lines, want, tc.asked)
			}
			if a.users["system:serviceaccount:ns:allowed"] == 0 {
				t.Errorf("the requests are %v", a.users)
			}
		})
	}
}
