// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/params"
	"batchcompute.dev/operator/internal/testutil/signer"
)

var base = signer.Signer{
	SecretID: "AKID", SecretKey: "key", Token: "tok", Region: "ap-x", Action: "DescribeJobs", Language: "zh-CN",
	At: time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC),
}

const target = "http://gateway.example:8080"

// open does with a client's request what the handler does.
func open(t *testing.T, r *http.Request, budget *Budget) (*Request, *params.Object, error) {
	t.Helper()
	r.RemoteAddr = "10.1.2.3:4"
	q, err := Open(r, budget)
	if err != nil {
		return nil, nil, err
	}
	defer q.Close()
	if err := q.Verify("key"); err != nil {
		return q, nil, err
	}
	o, err := q.Params()
	return q, o, err
}

func TestOpen(t *testing.T) {
	type request struct {
		JobIds []string
		Limit  *int64
	}
	business := url.Values{"JobIds.0": {"job-1"}, "JobIds.1": {"job 2 &"}, "Limit": {"3"}}
	for name, r := range map[string]*http.Request{
		"v3 POST":          base.POST(target, `{"JobIds": ["job-1", "job 2 &"], "Limit": 3}`),
		"v3 GET":           base.GET(target, business),
		"v1 GET":           base.V1("GET", target, "", business),
		"v1 POST, SHA-1":   base.V1("POST", target, "HmacSHA1", business),
		"v1 POST, SHA-256": base.V1("POST", target, "HmacSHA256", business),
	} {
		budget := NewBudget(MinBudget)
		q, o, err := open(t, r, budget)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if q.Action != "DescribeJobs" || q.Version != Version || q.Region != "ap-x" || q.Language != Chinese || q.Source != "10.1.2.3" ||
			q.Claim.SecretID != "AKID" || q.Claim.Token != "tok" || q.CheckVersion() != nil {
			t.Errorf("%s: %+v", name, q)
		}
		var in request
		if err := o.Decode(&in); err != nil || fmt.Sprint(in.JobIds, *in.Limit) != "[job-1 job 2 &] 3" {
			t.Errorf("%s: %+v, %v", name, in, err)
		}
		if budget.Used() != 0 {
			t.Errorf("%s: %d bytes are still taken", name, budget.Used())
		}
	}
	// Common parameters of v3 may stand in the query.
	r := base.GET(target, url.Values{"Action": {"DescribeJob"}, "Language": {"fr"}})
	r.Header.Del("X-TC-Action")
	r.Header.Del("X-TC-Language")
	if q, _, err := open(t, r, NewBudget(MinBudget)); err != nil || q.Action != "DescribeJob" || q.Language != English {
		t.Errorf("%+v, %v", q, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	post := func(change func(r *http.Request)) *http.Request {
		r := base.POST(target, "{}")
		change(r)
		return r
	}
	form := func(body string) *http.Request {
		r := base.V1("POST", target, "", nil)
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		return r
	}
	endless := base.POST(target, "")
	endless.Body, endless.ContentLength = io.NopCloser(&zeros{}), -1
	for name, tc := range map[string]struct {
		r    *http.Request
		want errcode.Code
	}{
		"method":               {post(func(r *http.Request) { r.Method = "PUT" }), errcode.UnsupportedProtocol},
		"query of a POST":      {post(func(r *http.Request) { r.URL.RawQuery = "a=b" }), errcode.InvalidRequest},
		"long query":           {base.GET(target, url.Values{"A": {strings.Repeat("x", MaxQuery)}}), errcode.RequestSizeLimitExceeded},
		"long query, v1":       {base.V1("GET", target, "", url.Values{"A": {strings.Repeat("x", MaxQuery)}}), errcode.RequestSizeLimitExceeded},
		"bad query":            {post(func(r *http.Request) { r.Method, r.URL.RawQuery = "GET", "a=%zz" }), errcode.InvalidParameter},
		"form with v3":         {post(func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }), errcode.InvalidRequest},
		"multipart":            {post(func(r *http.Request) { r.Header.Set("Content-Type", "multipart/form-data; boundary=x") }), errcode.InvalidRequest},
		"JSON without header":  {post(func(r *http.Request) { r.Header.Del("Authorization") }), errcode.InvalidAuthorization},
		"text without header":  {post(func(r *http.Request) { r.Header.Del("Authorization"); r.Header.Set("Content-Type", "text/plain") }), errcode.InvalidRequest},
		"malformed header":     {post(func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }), errcode.InvalidAuthorization},
		"announced large JSON": {post(func(r *http.Request) { r.ContentLength = MaxJSON + 1 }), errcode.RequestSizeLimitExceeded},
		"large JSON":           {endless, errcode.RequestSizeLimitExceeded},
		"large form":           {form("A=" + strings.Repeat("x", MaxForm)), errcode.RequestSizeLimitExceeded},
		"many in a form":       {form(strings.Repeat("&", params.MaxValues)), errcode.InvalidParameter},
		"nothing in a form":    {form("a=b"), errcode.InvalidAuthorization},
		"half a signature":     {form("SecretId=AKID"), errcode.MissingParameter},
		"cut off":              {post(func(r *http.Request) { r.Body = io.NopCloser(io.MultiReader(strings.NewReader("{"), broken{})) }), errcode.InvalidRequest},
		"another body":         {post(func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("[]")) }), errcode.SignatureFailure},
		"not UTF-8":            {base.POST(target, "{\"\xff\": 1}"), errcode.InvalidParameter},
	} {
		budget := NewBudget(MinBudget)
		_, _, err := open(t, tc.r, budget)
		if err == nil || AsError(err).Code != tc.want {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
		if budget.Used() != 0 {
			t.Errorf("%s: %d bytes are still taken", name, budget.Used())
		}
	}
	for _, tc := range []struct {
		action, version string
		want            errcode.Code
	}{{"", Version, errcode.MissingParameter}, {"A", "", errcode.MissingParameter}, {"A", "2018-01-01", errcode.NoSuchVersion}} {
		if err := (&Request{Action: tc.action, Version: tc.version}).CheckVersion(); AsError(err).Code != tc.want {
			t.Errorf("%+v: %v", tc, err)
		}
	}
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// broken is a connection that was lost.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("read tcp 10.0.0.1: reset") }

// What is held is bounded by what arrives, and a source has half of it.
func TestBudget(t *testing.T) {
	budget := NewBudget(64 << 10)
	one, other := share{budget: budget, source: "a"}, share{budget: budget, source: "b"}
	body, err := one.read(strings.NewReader(strings.Repeat("x", 20_000)), 1<<20)
	if err != nil || len(body) != 20_000 || budget.Used() != 32<<10 {
		t.Errorf("%d bytes, %d are taken, %v", len(body), budget.Used(), err)
	}
	if err := one.take(1); err == nil || AsError(err).Code != errcode.RequestLimitExceeded {
		t.Errorf("more than half: %v", err)
	}
	if _, err := other.read(strings.NewReader("x"), 1<<20); err != nil {
		t.Error(err)
	}
	third := share{budget: budget, source: "c"}
	if err := third.take(30 << 10); err == nil {
		t.Error("more than all")
	}
	one.close()
	one.close()
	other.close()
	if budget.Used() != 0 || len(budget.sources) != 0 || budget.peak != 36<<10 {
		t.Errorf("%d bytes of %v are taken, at most %d were", budget.Used(), budget.sources, budget.peak)
	}
	// The largest request of all fits into the least budget.
	largest := share{budget: NewBudget(MinBudget), source: "a"}
	if _, err := largest.read(io.LimitReader(zeros{}, MaxJSON), MaxJSON); err != nil {
		t.Error(err)
	}
	if err := largest.take(params.MaxValues * (objectWeight + valueWeight)); err != nil {
		t.Error(err)
	}
}

func TestWrite(t *testing.T) {
	type result struct {
		JobID string `json:"JobId"`
		Null  *int64
	}
	for _, tc := range []struct {
		in   any
		want string
	}{
		{nil, `{"Response":{"RequestId":"r-1"}}`},
		{&result{JobID: "a<&>"}, `{"Response":{"JobId":"a<&>","Null":null,"RequestId":"r-1"}}`},
		{NewError(errcode.JobNotFound, "no job %q", "x"), `{"Response":{"Error":{"Code":"ResourceNotFound.Job","Message":"no job \"x\""},"RequestId":"r-1"}}`},
	} {
		w := httptest.NewRecorder()
		if e, ok := tc.in.(*Error); ok {
			WriteError(w, "r-1", e)
		} else if err := Write(w, "r-1", tc.in); err != nil {
			t.Fatal(err)
		}
		if w.Code != http.StatusOK || w.Body.String() != tc.want || w.Header().Get("Content-Type") != "application/json" || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%d %s, want %s", w.Code, w.Body, tc.want)
		}
	}
	for _, bad := range []any{[]int{1}, func() {}, "text"} {
		w := httptest.NewRecorder()
		if err := Write(w, "r-1", bad); err == nil || w.Body.Len() > 0 {
			t.Errorf("%v: %v, %s", bad, err, w.Body)
		}
	}
}

func TestAsError(t *testing.T) {
	problems := params.Problems{{Code: errcode.UnknownParameter, Field: "A.0", Detail: "has no field"}}
	for _, tc := range []struct {
		in   error
		want string
	}{
		{fmt.Errorf("wrapped: %w", NewError(errcode.InvalidAction, "none")), "InvalidAction: none"},
		{problems, "UnknownParameter: A.0: has no field"},
	} {
		if got := AsError(tc.in).Error(); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
	if got := AsError(errors.New("dial tcp 10.0.0.1")); got.Code != errcode.InternalError || strings.Contains(got.Message, "10.0") {
		t.Errorf("%v", got)
	}
}

func TestNewRequestID(t *testing.T) {
	a, b := NewRequestID(), NewRequestID()
	if a == b || !regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(a) {
		t.Errorf("%s, %s", a, b)
	}
}

func TestSource(t *testing.T) {
	for remote, want := range map[string]string{
		"10.0.0.1:80": "10.0.0.1", "[::ffff:10.0.0.1]:80": "10.0.0.1", "[2001:db8:1:2:3:4:5:6%eth0]:80": "2001:db8:1:2::", "@": "", "": "",
	} {
		if got := Source(&http.Request{RemoteAddr: remote}); got != want {
			t.Errorf("%q: %q, want %q", remote, got, want)
		}
	}
}
