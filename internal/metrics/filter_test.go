// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	authnv1 "k8s.io/api/authentication/v1"
	authzv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// reviews answers as a cluster does that knows the token "good".
type reviews struct {
	status authzv1.SubjectAccessReviewStatus
	err    error
	asked  int
	spec   authzv1.SubjectAccessReviewSpec
}

type tokens struct{ *reviews }

func (t tokens) Create(_ context.Context, tr *authnv1.TokenReview, _ metav1.CreateOptions) (*authnv1.TokenReview, error) {
	t.asked++
	if tr.Spec.Token == "good" {
		tr.Status = authnv1.TokenReviewStatus{Authenticated: true, User: authnv1.UserInfo{
			Username: "scraper", UID: "u", Groups: []string{"g"}, Extra: map[string]authnv1.ExtraValue{"k": {"v"}},
		}}
	}
	return tr, t.err
}

type access struct{ *reviews }

func (a access) Create(_ context.Context, sar *authzv1.SubjectAccessReview, _ metav1.CreateOptions) (*authzv1.SubjectAccessReview, error) {
	a.spec = sar.Spec
	sar.Status = a.status
	return sar, a.err
}

// anywhere counts all clients as one.
var anywhere = FilterOptions{Source: func(*http.Request) netip.Addr { return netip.Addr{} }, Accepted: func(*http.Request) {}}

func TestFilter(t *testing.T) {
	allowed := authzv1.SubjectAccessReviewStatus{Allowed: true}
	tests := map[string]struct {
		header string
		status authzv1.SubjectAccessReviewStatus
		err    error
		want   int
		asked  int // by three equal requests
	}{
		"allowed":           {"Bearer good", allowed, nil, 200, 1},
		"not allowed":       {"Bearer good", authzv1.SubjectAccessReviewStatus{}, nil, 403, 1},
		"denied":            {"Bearer good", authzv1.SubjectAccessReviewStatus{Allowed: true, Denied: true}, nil, 403, 1},
		"unknown token":     {"Bearer bad", allowed, nil, 401, 1},
		"no token":          {"", allowed, nil, 401, 0},
		"empty token":       {"Bearer ", allowed, nil, 401, 0},
		"another scheme":    {"Basic good", allowed, nil, 401, 0},
		"the cluster fails": {"Bearer good", allowed, errors.New("down"), 503, 3},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := &reviews{status: tc.status, err: tc.err}
			g := newGuard(tokens{r}, access{r}, anywhere)
			reached := 0
			h := g.filter(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ }))
			for range 3 {
				req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
				req.Header.Set("Authorization", tc.header)
				w := httptest.NewRecorder()
				h.ServeHTTP(w, req)
				if w.Code != tc.want {
					t.Errorf("status %d, want %d", w.Code, tc.want)
				}
			}
			if (tc.want == 200) != (reached == 3) {
				t.Errorf("the metrics were reached %d times", reached)
			}
			if r.asked != tc.asked {
				t.Errorf("the cluster was asked %d times, want %d", r.asked, tc.asked)
			}
		})
	}
}

// TestFilterAsks looks at the question that is put to the cluster, and that an answer
// holds for one path and verb only.
func TestFilterAsks(t *testing.T) {
	r := &reviews{status: authzv1.SubjectAccessReviewStatus{Allowed: true}}
	g := newGuard(tokens{r}, access{r}, anywhere)
	for i, target := range []string{"/metrics", "/debug"} {
		req := httptest.NewRequest(http.MethodPost, target, nil)
		req.Header.Set("Authorization", "Bearer good")
		if status, err := g.decide(req); status != 200 || err != nil {
			t.Fatalf("status %d, error %v", status, err)
		}
		want := authzv1.SubjectAccessReviewSpec{
			User: "scraper", UID: "u", Groups: []string{"g"}, Extra: map[string]authzv1.ExtraValue{"k": {"v"}},
			NonResourceAttributes: &authzv1.NonResourceAttributes{Path: target, Verb: "post"},
		}
		if diff := cmp.Diff(want, r.spec); diff != "" {
			t.Errorf("question (-want +got):\n%s", diff)
		}
		if r.asked != i+1 {
			t.Errorf("asked %d times", r.asked)
		}
	}
}
