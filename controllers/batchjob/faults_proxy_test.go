// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// proxy forwards the calls of one manager to the API server, counts them, and injects the faults of networks and of API
// servers under load.
type proxy struct {
	mu     sync.Mutex
	random *rand.Rand
	// share is the share of calls that fail, from 0 to 1.
	share float64
	// lag is the maximum delay of a watch event after the one before, and cut the maximum time until the next watch is
	// cut; 0 means none.
	lag, cut time.Duration
	// refuses selects calls that are always refused, such as those of the leader election.
	refuses func(*http.Request) bool
	// calls counts the writes that reached the API server, and faults the injected faults.
	calls, faults map[string]int
	// watches has the functions that cut open watches, by their number.
	watches map[int]context.CancelFunc
	opened  int
}

// newProxy starts a proxy, which stops with the test, and returns it with the configuration for clients that use it.
func newProxy(t testing.TB, to *rest.Config, seed uint64) (*proxy, *rest.Config) {
	t.Helper()
	target, err := url.Parse(to.Host)
	if err != nil {
		t.Fatal(err)
	}
	transport, err := rest.TransportFor(to)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{random: rand.New(rand.NewPCG(seed, 0)), calls: map[string]int{}, faults: map[string]int{}, watches: map[int]context.CancelFunc{}}
	forward := &httputil.ReverseProxy{
		Transport:      transport,
		FlushInterval:  -1,
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: p.slowDown,
		ErrorHandler:   func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(forward, w, r) }))
	server.Config.ErrorLog = quiet
	server.Start()
	ctx, cancel := context.WithCancel(context.Background())
	go p.cutWatches(ctx)
	t.Cleanup(func() {
		cancel()
		server.CloseClientConnections()
		server.Close()
	})
	return p, &rest.Config{Host: server.URL, QPS: -1, Burst: -1}
}

// change changes the settings of the proxy.
func (p *proxy) change(f func(*proxy)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p)
}

// serve forwards a call, or injects a fault.
func (p *proxy) serve(forward http.Handler, w http.ResponseWriter, r *http.Request) {
	switch fault := p.choose(r); fault {
	case "":
		p.count(r)
		r, done := p.open(r)
		defer done()
		forward.ServeHTTP(w, r)
	case "429":
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests)
	case "503 and when to try again":
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable)
	case "503", "refused":
		refuse(w, http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable)
	case "500":
		refuse(w, http.StatusInternalServerError, metav1.StatusReasonInternalError)
	case "cut before":
		panic(http.ErrAbortHandler)
	case "cut after":
		p.count(r)
		forward.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	case "time-out":
		select {
		case <-r.Context().Done():
		case <-time.After(2 * time.Second):
		}
		panic(http.ErrAbortHandler)
	}
}

// choose returns the fault of a call; "" for none.
func (p *proxy) choose(r *http.Request) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	fault := ""
	switch {
	case p.refuses != nil && p.refuses(r):
		fault = "refused"
	case p.random.Float64() < p.share:
		kinds := []string{"429", "500", "503", "503 and when to try again", "cut before", "time-out"}
		if !isWatch(r) {
			kinds = append(kinds, "cut after") // a watch does not end by itself
		}
		fault = kinds[p.random.IntN(len(kinds))]
	}
	if fault != "" {
		p.faults[fault]++
	}
	return fault
}

// count counts a write that reaches the API server.
func (p *proxy) count(r *http.Request) {
	if r.Method == http.MethodGet {
		return
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	what := parts[len(parts)-1]
	if i := slices.Index(parts, "namespaces"); i >= 0 && i+2 < len(parts) {
		what = parts[i+2]
	}
	if parts[len(parts)-1] == "status" {
		what += "/status"
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls[r.Method+" "+what]++
}

// sum returns how many writes of a kind reached the API server.
func (p *proxy) sum(call string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[call]
}

// report returns the counts of forwarded writes and of faults.
func (p *proxy) report() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	total := 0
	var out []string
	for _, k := range slices.Sorted(maps.Keys(p.faults)) {
		total += p.faults[k]
		out = append(out, fmt.Sprintf("%d %s", p.faults[k], k))
	}
	return fmt.Sprintf("%d faults (%s), writes let through: %v", total, strings.Join(out, ", "), p.calls)
}

// open registers a watch, and returns its request with a context that ends when the watch is cut.
func (p *proxy) open(r *http.Request) (*http.Request, func()) {
	if !isWatch(r) {
		return r, func() {}
	}
	ctx, cancel := context.WithCancel(r.Context())
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opened++
	id := p.opened
	p.watches[id] = cancel
	return r.WithContext(ctx), func() {
		cancel()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.watches, id)
	}
}

// cutWatches cuts one of the open watches again and again.
func (p *proxy) cutWatches(ctx context.Context) {
	for ctx.Err() == nil {
		p.mu.Lock()
		wait, cutting := 100*time.Millisecond, p.cut > 0
		if cutting {
			wait = time.Duration(p.random.Int64N(int64(p.cut)))
		}
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		p.mu.Lock()
		if open := slices.Sorted(maps.Keys(p.watches)); cutting && len(open) > 0 {
			p.watches[open[p.random.IntN(len(open))]]()
			p.faults["cut watch"]++
		}
		p.mu.Unlock()
	}
}

// slowDown replaces the body of a watch by one that delays events.
func (p *proxy) slowDown(resp *http.Response) error {
	if isWatch(resp.Request) {
		resp.Body = &slowBody{ReadCloser: resp.Body, p: p, ctx: resp.Request.Context()}
	}
	return nil
}

// slowBody is the stream of a watch with delayed events.
type slowBody struct {
	io.ReadCloser
	p   *proxy
	ctx context.Context
}

func (b *slowBody) Read(data []byte) (int, error) {
	n, err := b.ReadCloser.Read(data)
	b.p.mu.Lock()
	var lag time.Duration
	if b.p.lag > 0 && n > 0 {
		lag = time.Duration(b.p.random.Int64N(int64(b.p.lag)))
		b.p.faults["late event"]++
	}
	b.p.mu.Unlock()
	select {
	case <-b.ctx.Done():
		return 0, b.ctx.Err()
	case <-time.After(lag):
	}
	return n, err
}

func isWatch(r *http.Request) bool { return r.URL.Query().Get("watch") != "" }

func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"not now","reason":%q,"code":%d}`, reason, code)
}
