// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authnv1 "k8s.io/api/authentication/v1"
	authzv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// slowCluster knows the tokens "good" and "next", and lets all other reviews hang until it is
// opened.
type slowCluster struct {
	opened        chan struct{}
	hanging, most atomic.Int32
	asked         atomic.Int32
}

func (c *slowCluster) Create(ctx context.Context, tr *authnv1.TokenReview, _ metav1.CreateOptions) (*authnv1.TokenReview, error) {
	c.asked.Add(1)
	if tr.Spec.Token == "good" || tr.Spec.Token == "next" {
		tr.Status.Authenticated = true
		return tr, nil
	}
	n := c.hanging.Add(1)
	defer c.hanging.Add(-1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
	select {
	case <-c.opened:
		return tr, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type allowAll struct{}

func (allowAll) Create(_ context.Context, sar *authzv1.SubjectAccessReview, _ metav1.CreateOptions) (*authzv1.SubjectAccessReview, error) {
	sar.Status.Allowed = true
	return sar, nil
}

// byRemote counts clients by their address.
func byRemote(accepted func(*http.Request)) FilterOptions {
	return FilterOptions{Accepted: accepted, Source: func(r *http.Request) netip.Addr {
		return netip.MustParseAddrPort(r.RemoteAddr).Addr()
	}}
}

func ask(g *guard, source, token string) int {
	req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	req.RemoteAddr = source + ":1"
	req.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	g.filter(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, req)
	if (w.Code == http.StatusServiceUnavailable || w.Code == http.StatusTooManyRequests) != (w.Header().Get("Retry-After") != "") {
		panic("Retry-After does not fit the status")
	}
	return w.Code
}

// TestFlood takes all reviews that unauthenticated clients can get: a token that was accepted before is still
// reviewed, and so is the next one from that address.
func TestFlood(t *testing.T) {
	c := &slowCluster{opened: make(chan struct{})}
	var accepted atomic.Int32
	g := newGuard(c, allowAll{}, byRemote(func(*http.Request) { accepted.Add(1) }))
	if got := ask(g, "10.0.0.1", "good"); got != http.StatusOK {
		t.Fatalf("status %d", got)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	answers := map[int]int{}
	for i := range 200 {
		wg.Go(func() {
			status := ask(g, fmt.Sprintf("10.1.0.%d", i), fmt.Sprint("bad", i))
			mu.Lock()
			answers[status]++
			mu.Unlock()
		})
	}
	for c.hanging.Load() < generalAtOnce {
		time.Sleep(time.Millisecond)
	}
	g.answers.RemoveAll(func(any) bool { return true }) // as if the answer's time were over
	if got := ask(g, "10.0.0.1", "good"); got != http.StatusOK {
		t.Errorf("the scraper got status %d", got)
	}
	if got := ask(g, "10.0.0.1", "next"); got != http.StatusOK {
		t.Errorf("the scraper's next token got status %d", got)
	}
	wg.Wait()
	close(c.opened)
	if got := c.most.Load(); got != generalAtOnce {
		t.Errorf("%d reviews were in flight, want %d", got, generalAtOnce)
	}
	if answers[http.StatusServiceUnavailable] != 200 || accepted.Load() != 3 {
		t.Errorf("unauthenticated clients got %v, %d were accepted", answers, accepted.Load())
	}
}

// TestFailuresOfOneAddress lets one address try tokens: it gets few reviews, and others are not
// concerned.
func TestFailuresOfOneAddress(t *testing.T) {
	c := &slowCluster{opened: make(chan struct{})}
	close(c.opened)
	g := newGuard(c, allowAll{}, byRemote(func(*http.Request) {}))
	g.general = newShare(generalAtOnce, 1e6) // the rate is not what this is about
	answers := map[int]int{}
	for i := range 500 {
		answers[ask(g, "10.0.0.2", fmt.Sprint("bad", i))]++
	}
	if n := answers[http.StatusUnauthorized]; n < failBurst || n > failBurst+5 || answers[http.StatusTooManyRequests] != 500-n {
		t.Errorf("answers %v", answers)
	}
	if got := ask(g, "10.0.0.2", "bad0"); got != http.StatusUnauthorized {
		t.Errorf("a denial that is known got status %d", got)
	}
	if got := ask(g, "10.0.0.3", "good"); got != http.StatusOK {
		t.Errorf("another address got status %d", got)
	}
	// A token that was accepted is reviewed from wherever it comes.
	g.answers.RemoveAll(func(any) bool { return true })
	if got := ask(g, "10.0.0.2", "good"); got != http.StatusOK {
		t.Errorf("the token from the address that fails got status %d", got)
	}
}

// TestFilterMemory tries tokens from many addresses: what is remembered has a bound.
func TestFilterMemory(t *testing.T) {
	c := &slowCluster{opened: make(chan struct{})}
	close(c.opened)
	g := newGuard(c, allowAll{}, byRemote(func(*http.Request) {}))
	g.general = newShare(generalAtOnce, 1e6)
	for i := range 3 * sourceCount {
		ask(g, fmt.Sprintf("10.%d.%d.1", i/250, i%250), fmt.Sprint("bad", i))
	}
	if n, m := len(g.denials.Keys()), len(g.failures.Keys()); n > denialCount || m > sourceCount {
		t.Errorf("%d denials and %d addresses are remembered", n, m)
	}
}
