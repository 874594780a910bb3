// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/gateway/ratelimit"
	"batchcompute.dev/operator/internal/gateway/wire"
	"batchcompute.dev/operator/internal/params"
	"batchcompute.dev/operator/internal/testutil/signer"
)

const target = "http://gateway.example:8080"

// table has the keys of a test.
type table map[string]Key

func (k table) Lookup(_ context.Context, secretID string) (Key, bool, error) {
	if secretID == "AKIDbroken" {
		return Key{}, false, errors.New("the cache of 10.0.0.1 is not synced")
	}
	key, found := k[secretID]
	return key, found, nil
}

// fixture is a handler with its surroundings.
type fixture struct {
	*Handler
	reg *prometheus.Registry
	now time.Time

	mu    sync.Mutex
	log   []string
	calls []*Call
}

// lines returns what was logged.
func (f *fixture) lines() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.log)
}

type echo struct {
	JobIds []string
	Limit  *int64
}

// newFixture returns a handler with some actions, and limits that no test reaches by chance.
func newFixture(t testing.TB, change func(o *Options)) *fixture {
	t.Helper()
	f := &fixture{reg: prometheus.NewPedanticRegistry(), now: time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)}
	o := Options{
		Keys: table{
			"AKIDone": {SecretKey: "key-one", Tenant: Tenant{"one", "client"}},
			"AKIDtwo": {SecretKey: "key-two", Tenant: Tenant{"two", "client"}},
			"AKIDtmp": {SecretKey: "key-tmp", Token: "token-tmp", Tenant: Tenant{"one", "client"}},
		},
		Log: funcr.New(func(prefix, args string) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.log = append(f.log, prefix+args)
		}, funcr.Options{}),
		Registerer: f.reg, Now: func() time.Time { return f.now },
		Limits: map[string]ratelimit.Limit{"Free": {}, "Echo": {PerSecond: 3}}, DefaultLimit: ratelimit.Limit{},
		Actions: map[string]Action{
			"Free": func(context.Context, *Call) (any, error) { return nil, nil },
			"Echo": func(_ context.Context, c *Call) (any, error) {
				f.mu.Lock()
				f.calls = append(f.calls, c)
				f.mu.Unlock()
				in := &echo{}
				if err := c.Params.Decode(in); err != nil {
					return nil, err
				}
				return in, nil
			},
			"Refuse": func(context.Context, *Call) (any, error) {
				return nil, wire.NewError(errcode.JobNotFound, "there is no such job")
			},
			"Break":    func(context.Context, *Call) (any, error) { return nil, errors.New("dial tcp 10.0.0.1: refused") },
			"Panic":    func(context.Context, *Call) (any, error) { panic("secret value") },
			"NoObject": func(context.Context, *Call) (any, error) { return 3, nil },
			"Deadline": func(ctx context.Context, _ *Call) (any, error) {
				if _, there := ctx.Deadline(); !there {
					return nil, errors.New("no deadline")
				}
				return nil, nil
			},
		},
	}
	if change != nil {
		change(&o)
	}
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	f.Handler = h
	return f
}

func (f *fixture) signer(action string) signer.Signer {
	return signer.Signer{SecretID: "AKIDone", SecretKey: "key-one", Region: "ap-x", Action: action, At: f.now}
}

// answer is an answer of the API.
type answer struct {
	Response struct {
		Error     wire.Error
		RequestID string `json:"RequestId"`
		echo
	}
	text string
}

// send sends a request, and returns its answer.
func (f *fixture) send(t testing.TB, r *http.Request) answer {
	t.Helper()
	r.RemoteAddr = "10.1.2.3:4"
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	a := answer{text: w.Body.String()}
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || w.Code != http.StatusOK || len(a.Response.RequestID) != 36 {
		t.Fatalf("%d, %s: %v", w.Code, w.Body, err)
	}
	return a
}

func TestAnswers(t *testing.T) {
	f := newFixture(t, nil)
	business := url.Values{"JobIds.0": {"a"}, "Limit": {"3"}}
	s := f.signer("Echo")
	s.Language = wire.Chinese
	for i, r := range []*http.Request{
		s.POST(target, `{"JobIds": ["a"], "Limit": 3}`), s.GET(target, business), s.V1("GET", target, "", business), s.V1("POST", target, "HmacSHA256", business),
	} {
		f.now = f.now.Add(time.Second)
		a := f.send(t, r)
		if want := `{"Response":{"JobIds":["a"],"Limit":3,"RequestId":"` + a.Response.RequestID + `"}}`; a.text != want {
			t.Errorf("%s, want %s", a.text, want)
		}
		c := f.calls[i]
		want := &Call{Action: "Echo", Tenant: Tenant{"one", "client"}, RequestID: a.Response.RequestID, Region: "ap-x", Language: wire.Chinese, Params: c.Params}
		if diff := cmp.Diff(want, c, cmp.AllowUnexported(params.Object{})); diff != "" {
			t.Errorf("call (-want +got):\n%s", diff)
		}
		if line := f.lines()[i]; !strings.Contains(line, `"requestId"="`+a.Response.RequestID+`" "action"="Echo" "code"="OK" "duration"="0s" "namespace"="one" "source"="10.1.2.3"`) {
			t.Errorf("log: %s", line)
		}
	}
	if a := f.send(t, f.signer("Deadline").POST(target, "")); a.Response.Error.Code != "" {
		t.Error(a.text)
	}
}

// Each thing that may be wrong has its code, and neither the answer nor the log has more about it than it should.
func TestRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		request func(s signer.Signer) *http.Request
		want    errcode.Code
		logged  string // the action in the log
	}{
		"unknown key": {func(s signer.Signer) *http.Request { s.SecretID = "AKIDnone"; return s.POST(target, "{}") }, errcode.SecretIDNotFound, other},
		"wrong key":   {func(s signer.Signer) *http.Request { s.SecretKey = "key-two"; return s.POST(target, "{}") }, errcode.SignatureFailure, other},
		"wrong key, v1": {func(s signer.Signer) *http.Request { s.SecretKey = "key-two"; return s.V1("GET", target, "", nil) },
			errcode.SignatureFailure, other},
		"skewed clock": {func(s signer.Signer) *http.Request { s.At = s.At.Add(301 * time.Second); return s.POST(target, "{}") }, errcode.SignatureExpire, other},
		"old and unknown": {func(s signer.Signer) *http.Request {
			s.SecretID = "AKIDnone"
			s.At = s.At.Add(-301 * time.Second)
			return s.POST(target, "{}")
		},
			errcode.SignatureExpire, other},
		"no token": {func(s signer.Signer) *http.Request {
			s.SecretID, s.SecretKey = "AKIDtmp", "key-tmp"
			return s.POST(target, "{}")
		}, errcode.TokenFailure, other},
		"another token": {func(s signer.Signer) *http.Request {
			s.SecretID, s.SecretKey, s.Token = "AKIDtmp", "key-tmp", "token"
			return s.POST(target, "{}")
		}, errcode.TokenFailure, other},
		"its token": {func(s signer.Signer) *http.Request {
			s.SecretID, s.SecretKey, s.Token = "AKIDtmp", "key-tmp", "token-tmp"
			return s.POST(target, "{}")
		}, "", "Echo"},
		"a token that nobody asked for": {func(s signer.Signer) *http.Request { s.Token = "x"; return s.POST(target, "{}") }, "", "Echo"},
		"no signature": {func(s signer.Signer) *http.Request {
			r := s.POST(target, "{}")
			r.Header.Del("Authorization")
			return r
		}, errcode.InvalidAuthorization, other},
		"method":                 {func(s signer.Signer) *http.Request { r := s.POST(target, "{}"); r.Method = "DELETE"; return r }, errcode.UnsupportedProtocol, other},
		"keys are not known yet": {func(s signer.Signer) *http.Request { s.SecretID = "AKIDbroken"; return s.POST(target, "{}") }, errcode.InternalError, other},
		"another version":        {func(s signer.Signer) *http.Request { s.Version = "2018-01-01"; return s.POST(target, "{}") }, errcode.NoSuchVersion, other},
		"no action":              {func(s signer.Signer) *http.Request { s.Action = ""; return s.POST(target, "{}") }, errcode.MissingParameter, other},
		"unknown action":         {func(s signer.Signer) *http.Request { s.Action = "SubmitJobs"; return s.POST(target, "{}") }, errcode.InvalidAction, other},
		"region":                 {func(s signer.Signer) *http.Request { s.Region = "ap-y"; return s.POST(target, "{}") }, errcode.UnsupportedRegion, "Echo"},
		"no region":              {func(s signer.Signer) *http.Request { s.Region = ""; return s.POST(target, "{}") }, "", "Echo"},
		"unknown field":          {func(s signer.Signer) *http.Request { return s.POST(target, `{"JobId": "x"}`) }, errcode.UnknownParameter, "Echo"},
		"wrong type":             {func(s signer.Signer) *http.Request { return s.POST(target, `{"Limit": 1.5}`) }, errcode.InvalidParameter, "Echo"},
		"no JSON":                {func(s signer.Signer) *http.Request { return s.POST(target, `{`) }, errcode.InvalidParameter, "Echo"},
		"of the action":          {func(s signer.Signer) *http.Request { s.Action = "Refuse"; return s.POST(target, "{}") }, errcode.JobNotFound, "Refuse"},
		"broken":                 {func(s signer.Signer) *http.Request { s.Action = "Break"; return s.POST(target, "{}") }, errcode.InternalError, "Break"},
		"panic":                  {func(s signer.Signer) *http.Request { s.Action = "Panic"; return s.POST(target, "{}") }, errcode.InternalError, "Panic"},
		"no object":              {func(s signer.Signer) *http.Request { s.Action = "NoObject"; return s.POST(target, "{}") }, errcode.InternalError, "NoObject"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(o *Options) { o.Regions = []string{"ap-x"} })
			r := tc.request(f.signer("Echo"))
			a := f.send(t, r)
			if a.Response.Error.Code != tc.want {
				t.Errorf("%s, want %s", a.text, tc.want)
			}
			lines := f.lines()
			line := lines[len(lines)-1]
			code := string(tc.want)
			if code == "" {
				code = ok
			}
			if !strings.Contains(line, fmt.Sprintf("%q %q=%q %q=%q", a.Response.RequestID, "action", tc.logged, "code", code)) {
				t.Errorf("log: %s", line)
			}
			if (tc.want == errcode.InternalError) != (len(lines) == 2) {
				t.Errorf("%d lines", len(lines))
			}
			for _, secret := range []string{"key-one", "key-two", "key-tmp", "token-tmp", "TC3-", "secret value"} {
				if strings.Contains(a.text+strings.Join(lines, "\n"), secret) {
					t.Errorf("%s stands in %s, or %q", secret, a.text, lines)
				}
			}
			for _, inner := range []string{"10.0.0.1", "goroutine", ".go:"} {
				if strings.Contains(a.text, inner) {
					t.Errorf("%s stands in %s", inner, a.text)
				}
			}
			if f.budget.Used() != 0 || len(f.flights.count) != 0 {
				t.Errorf("%d bytes and %v are still taken", f.budget.Used(), f.flights.count)
			}
		})
	}
}

func TestPaths(t *testing.T) {
	f := newFixture(t, nil)
	for path, want := range map[string]int{HealthPath: http.StatusOK, "/api": http.StatusNotFound} {
		w := httptest.NewRecorder()
		f.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target+path, http.NoBody))
		if w.Code != want {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if len(f.lines()) != 0 {
		t.Errorf("log: %q", f.lines())
	}
}

// A key has a rate for each action, and what others send in its name takes nothing from it.
func TestRates(t *testing.T) {
	f := newFixture(t, nil)
	count := func(s signer.Signer, n int) map[errcode.Code]int {
		out := map[errcode.Code]int{}
		for range n {
			out[f.send(t, s.POST(target, "{}")).Response.Error.Code]++
		}
		return out
	}
	forged := f.signer("Echo")
	forged.SecretKey = "x"
	if diff := cmp.Diff(map[errcode.Code]int{errcode.SignatureFailure: 10, errcode.IPLimitExceeded: 20}, count(forged, 30)); diff != "" {
		t.Errorf("forged (-want +got):\n%s", diff)
	}
	if n := len(f.lines()); n != 10 {
		t.Errorf("%d lines about forged requests", n)
	}
	if diff := cmp.Diff(map[errcode.Code]int{"": 3, errcode.RequestLimitExceeded: 7}, count(f.signer("Echo"), 10)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[errcode.Code]int{"": 10}, count(f.signer("Free"), 10)); diff != "" {
		t.Errorf("another action (-want +got):\n%s", diff)
	}
	two := f.signer("Echo")
	two.SecretID, two.SecretKey = "AKIDtwo", "key-two"
	if diff := cmp.Diff(map[errcode.Code]int{"": 3, errcode.RequestLimitExceeded: 1}, count(two, 4)); diff != "" {
		t.Errorf("another key (-want +got):\n%s", diff)
	}
	f.now = f.now.Add(time.Second)
	if diff := cmp.Diff(map[errcode.Code]int{"": 3, errcode.RequestLimitExceeded: 1}, count(f.signer("Echo"), 4)); diff != "" {
		t.Errorf("after a second (-want +got):\n%s", diff)
	}
	want := `# HELP batchjob_gateway_throttled_total Requests of the API that were refused, by the limit that they exceeded.
# TYPE batchjob_gateway_throttled_total counter
batchjob_gateway_throttled_total{limit="address"} 20
batchjob_gateway_throttled_total{limit="in_flight"} 0
batchjob_gateway_throttled_total{limit="rate"} 9
`
	if err := testutil.GatherAndCompare(f.reg, strings.NewReader(want), "batchjob_gateway_throttled_total"); err != nil {
		t.Error(err)
	}
	if a := newFixture(t, func(o *Options) { o.Limits = nil }).rates.Limit("SubmitJob"); a != (ratelimit.Limit{PerSecond: 7}) {
		t.Errorf("default of SubmitJob: %v", a)
	}
}

// A namespace whose requests take long keeps no other from being answered.
func TestInFlight(t *testing.T) {
	started, end := make(chan bool), make(chan bool)
	f := newFixture(t, func(o *Options) {
		o.MaxInFlight = 2
		o.Actions["Wait"] = func(context.Context, *Call) (any, error) { started <- true; <-end; return nil, nil }
	})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { f.send(t, f.signer("Wait").POST(target, "{}")) })
		<-started
	}
	if a := f.send(t, f.signer("Free").POST(target, "{}")); a.Response.Error.Code != errcode.RequestLimitExceeded {
		t.Error(a.text)
	}
	two := f.signer("Free")
	two.SecretID, two.SecretKey = "AKIDtwo", "key-two"
	if a := f.send(t, two.POST(target, "{}")); a.Response.Error.Code != "" {
		t.Error(a.text)
	}
	close(end)
	wg.Wait()
	if a := f.send(t, f.signer("Free").POST(target, "{}")); a.Response.Error.Code != "" || len(f.flights.count) != 0 {
		t.Errorf("%s, %v", a.text, f.flights.count)
	}
}

// The table of docs/metrics.md has every metric of the gateway, with its type and its labels, and no other.
func TestMetrics(t *testing.T) {
	f := newFixture(t, nil)
	f.send(t, f.signer("Free").POST(target, "{}"))
	f.send(t, f.signer("Other").POST(target, "{}"))
	want := `# HELP batchjob_gateway_requests_total Requests of the API, by action and by the code that they were answered with.
# TYPE batchjob_gateway_requests_total counter
batchjob_gateway_requests_total{action="Free",code="OK"} 1
batchjob_gateway_requests_total{action="other",code="InvalidAction"} 1
`
	if err := testutil.GatherAndCompare(f.reg, strings.NewReader(want), "batchjob_gateway_requests_total"); err != nil {
		t.Error(err)
	}
	problems, err := testutil.GatherAndLint(f.reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	families, err := f.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	registered := map[string]string{}
	for _, m := range families {
		labels := ""
		for _, l := range m.Metric[0].Label {
			labels += " " + l.GetName()
		}
		registered[m.GetName()] = strings.ToLower(m.GetType().String()) + labels
	}
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) < 6 || !strings.HasPrefix(line, "| `batchjob_gateway_") {
			continue
		}
		labels := ""
		for part := range strings.SplitSeq(cells[3], "<br>") {
			name, _, _ := strings.Cut(strings.Trim(part, " `"), "`")
			labels += " " + name
		}
		documented[strings.Trim(cells[1], " `")] = strings.TrimSpace(cells[2]) + labels
	}
	if diff := cmp.Diff(registered, documented); diff != "" {
		t.Errorf("docs/metrics.md (-registered +documented):\n%s", diff)
	}
	if _, err := New(Options{Registerer: f.reg, Now: time.Now}); err == nil {
		t.Error("metrics were registered twice")
	}
}
