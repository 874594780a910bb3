// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	authnv1 "k8s.io/api/authentication/v1"
	authzv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// reviewer answers access reviews after a second.
type reviewer struct {
	says  func(authzv1.SubjectAccessReviewSpec) (authzv1.SubjectAccessReviewStatus, error)
	asked atomic.Int32
}

func (r *reviewer) Create(ctx context.Context, sar *authzv1.SubjectAccessReview, _ metav1.CreateOptions) (*authzv1.SubjectAccessReview, error) {
	r.asked.Add(1)
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	status, err := r.says(sar.Spec)
	return &authzv1.SubjectAccessReview{Status: status}, err
}

// onlyAlice allows alice in namespace ns.
func onlyAlice(s authzv1.SubjectAccessReviewSpec) (authzv1.SubjectAccessReviewStatus, error) {
	return authzv1.SubjectAccessReviewStatus{Allowed: s.User == "alice" && s.ResourceAttributes.Namespace == "ns"}, nil
}

func TestAccessAsks(t *testing.T) {
	var got authzv1.SubjectAccessReviewSpec
	r := &reviewer{says: func(s authzv1.SubjectAccessReviewSpec) (authzv1.SubjectAccessReviewStatus, error) {
		got = s
		return authzv1.SubjectAccessReviewStatus{Allowed: true}, nil
	}}
	user := authnv1.UserInfo{Username: "alice", UID: "1", Groups: []string{"a", "b"}, Extra: map[string]authnv1.ExtraValue{"scope": {"x"}}}
	synctest.Test(t, func(t *testing.T) {
		if ok, err := newAccess(r).maySubmit(t.Context(), user, "ns"); !ok || err != nil {
			t.Errorf("allowed %v, error %v", ok, err)
		}
	})
	want := authzv1.SubjectAccessReviewSpec{
		User: "alice", UID: "1", Groups: []string{"a", "b"}, Extra: map[string]authzv1.ExtraValue{"scope": {"x"}},
		ResourceAttributes: &authzv1.ResourceAttributes{
			Namespace: "ns", Verb: "submit", Group: "batchcompute.dev", Version: "v1alpha1", Resource: "batchjobs",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("question (-want +got):\n%s", diff)
	}
}

func TestAccessAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		status authzv1.SubjectAccessReviewStatus
		want   bool
	}{
		"allowed":                     {authzv1.SubjectAccessReviewStatus{Allowed: true}, true},
		"nobody allows":               {authzv1.SubjectAccessReviewStatus{}, false},
		"denied":                      {authzv1.SubjectAccessReviewStatus{Denied: true}, false},
		"both, which should not be":   {authzv1.SubjectAccessReviewStatus{Allowed: true, Denied: true}, false},
		"nobody allows, with trouble": {authzv1.SubjectAccessReviewStatus{EvaluationError: "no such role"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &reviewer{says: func(authzv1.SubjectAccessReviewSpec) (authzv1.SubjectAccessReviewStatus, error) {
					return tc.status, nil
				}}
				if got, err := newAccess(r).maySubmit(t.Context(), authnv1.UserInfo{Username: "alice"}, "ns"); got != tc.want || err != nil {
					t.Errorf("allowed %v, error %v", got, err)
				}
			})
		})
	}
}

func TestAccessIsKeptForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reviewer{says: onlyAlice}
		a := newAccess(r)
		expect := func(user string, want bool, wantAsked int32) {
			t.Helper()
			got, err := a.maySubmit(t.Context(), authnv1.UserInfo{Username: user}, "ns")
			if err != nil || got != want || r.asked.Load() != wantAsked {
				t.Fatalf("%s: allowed %v, error %v, %d reviews; want %v, %d", user, got, err, r.asked.Load(), want, wantAsked)
			}
		}
		expect("alice", true, 1)
		time.Sleep(yesTTL - time.Millisecond)
		expect("alice", true, 1)
		time.Sleep(2 * time.Millisecond)
		expect("alice", true, 2)
		expect("bob", false, 3)
		time.Sleep(noTTL - time.Millisecond)
		expect("bob", false, 3)
		time.Sleep(2 * time.Millisecond)
		expect("bob", false, 4)
		for i := range 2 * answerCount {
			expect(fmt.Sprint("user-", i), false, int32(5+i))
		}
		if n := len(a.answers.Keys()); n > answerCount {
			t.Errorf("%d answers are kept, want at most %d", n, answerCount)
		}
	})
}

func TestAccessIsSharedByThoseWhoAskTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reviewer{says: onlyAlice}
		a := newAccess(r)
		first, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := a.maySubmit(first, authnv1.UserInfo{Username: "alice"}, "ns"); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
		})
		synctest.Wait()
		for range 50 {
			wg.Go(func() {
				if ok, err := a.maySubmit(t.Context(), authnv1.UserInfo{Username: "alice"}, "ns"); !ok || err != nil {
					t.Errorf("allowed %v, error %v", ok, err)
				}
			})
		}
		synctest.Wait()
		cancel() // the first to ask goes away; the others are answered all the same
		wg.Wait()
		if n := r.asked.Load(); n != 1 {
			t.Errorf("%d reviews, want 1", n)
		}
	})
}

func TestAccessFailureIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("down")
		r := &reviewer{}
		r.says = func(authzv1.SubjectAccessReviewSpec) (authzv1.SubjectAccessReviewStatus, error) {
			if r.asked.Load() == 1 {
				return authzv1.SubjectAccessReviewStatus{}, down
			}
			return authzv1.SubjectAccessReviewStatus{Allowed: true}, nil
		}
		a := newAccess(r)
		if _, err := a.maySubmit(t.Context(), authnv1.UserInfo{Username: "alice"}, "ns"); !errors.Is(err, down) || !strings.Contains(err.Error(), "alice") {
			t.Errorf("error %v", err)
		}
		if ok, err := a.maySubmit(t.Context(), authnv1.UserInfo{Username: "alice"}, "ns"); !ok || err != nil {
			t.Errorf("allowed %v, error %v", ok, err)
		}
		if len(a.asking) > 0 {
			t.Error("a review is still in flight")
		}
	})
}

func TestQuestionsDiffer(t *testing.T) {
	base := func() authnv1.UserInfo {
		return authnv1.UserInfo{Username: "a", UID: "u", Groups: []string{"g", "h"}, Extra: map[string]authnv1.ExtraValue{"k": {"v", "w"}, "l": {"x"}}}
	}
	edits := map[string]func(*authnv1.UserInfo){
		"user":                func(u *authnv1.UserInfo) { u.Username = "b" },
		"uid":                 func(u *authnv1.UserInfo) { u.UID = "" },
		"border of user, uid": func(u *authnv1.UserInfo) { u.Username, u.UID = "au", "" },
		"group":               func(u *authnv1.UserInfo) { u.Groups[1] = "i" },
		"fewer groups":        func(u *authnv1.UserInfo) { u.Groups = u.Groups[:1] },
		"groups run together": func(u *authnv1.UserInfo) { u.Groups = []string{"gh"} },
		"extra value":         func(u *authnv1.UserInfo) { u.Extra["k"][0] = "z" },
		"extra key":           func(u *authnv1.UserInfo) { u.Extra = map[string]authnv1.ExtraValue{"k": {"v", "w"}, "m": {"x"}} },
		"extra moved":         func(u *authnv1.UserInfo) { u.Extra = map[string]authnv1.ExtraValue{"k": {"v"}, "l": {"w", "x"}} },
		"no extra":            func(u *authnv1.UserInfo) { u.Extra = nil },
	}
	seen := map[question]string{questionOf(base(), "ns"): "base", questionOf(base(), "other"): "namespace"}
	for name, edit := range edits {
		u := base()
		edit(&u)
		q := questionOf(u, "ns")
		if other, ok := seen[q]; ok {
			t.Errorf("%s is the same question as %s", name, other)
		}
		seen[q] = name
	}
	again := base()
	if questionOf(again, "ns") != questionOf(base(), "ns") {
		t.Error("the same question differs")
	}
}
