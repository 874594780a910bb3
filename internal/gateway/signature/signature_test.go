// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package signature

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/params"
	"batchcompute.dev/operator/internal/testutil/signer"
)

// The key of the examples in the vendor's documentation.
const (
	exampleID  = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE"
	exampleKey = "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE"
)

var signedAt = time.Date(2026, 11, 29, 23, 59, 58, 0, time.UTC)

// parts returns what a server sees of a client's request.
func parts(t testing.TB, r *http.Request) (Request, []byte) {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return Request{
		Method: r.Method, Host: r.URL.Host, Query: r.URL.RawQuery,
		Header: func(name string) []string { return r.Header.Values(name) },
	}, body
}

func codeOf(err error) errcode.Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	if err != nil {
		return "another error"
	}
	return ""
}

// The example of the vendor's page on signature v3 (product 599 has the same).
func TestDocumentedV3(t *testing.T) {
	header := http.Header{
		"Authorization": {"TC3-HMAC-SHA256 Credential=" + exampleID + "/2019-02-25/cvm/tc3_request, SignedHeaders=content-type;host, " +
			"Signature=72e494ea809ad7a8c8f7a4507b9bddcbaa8e581f516e8da2f66e2c5a96525168"},
		"Content-Type": {"application/json; charset=utf-8"}, "X-Tc-Timestamp": {"1551113065"},
	}
	c, err := ParseV3(Request{Method: "POST", Host: "cvm.tencentcloudapi.com", Header: func(n string) []string { return header.Values(n) }})
	if err != nil {
		t.Fatal(err)
	}
	body := `{"Limit": 1, "Filters": [{"Values": ["\u672a\u547d\u540d"], "Name": "instance-name"}]}`
	if err := c.Verify(exampleKey, []byte(body)); err != nil {
		t.Error(err)
	}
	if err := c.Verify(exampleKey, []byte(body+" ")); codeOf(err) != errcode.SignatureFailure {
		t.Errorf("another body: %v", err)
	}
	if c.SecretID != exampleID || c.Timestamp.Unix() != 1551113065 {
		t.Errorf("%+v", c)
	}
}

// The example of the vendor's page on signature v1.
func TestDocumentedV1(t *testing.T) {
	list, err := params.ParseQuery("Action=DescribeInstances&InstanceIds.0=ins-09dx96dg&Limit=20&Nonce=11886&Offset=0&Region=ap-guangzhou&" +
		"SecretId=" + exampleID + "&Timestamp=1465185768&Version=2017-03-12&Signature=EliP9YW3pW28FpsEdkXt%2F%2BWcGeI%3D")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseV1("GET", "cvm.tencentcloudapi.com", list)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Verify(exampleKey, nil); err != nil {
		t.Error(err)
	}
}

func TestV3(t *testing.T) {
	base := signer.Signer{SecretID: exampleID, SecretKey: exampleKey, Region: "ap-x", Action: "DescribeJobs", At: signedAt}
	const host = "http://batch.example:8080"
	tests := map[string]struct {
		sign   func(s *signer.Signer)
		change func(r *http.Request)
		want   errcode.Code
	}{
		"as the Go SDK":                {},
		"host without port":            {sign: func(s *signer.Signer) { s.Host = "batch.example" }},
		"another host":                 {sign: func(s *signer.Signer) { s.Host = "other.example:8080" }, want: errcode.SignatureFailure},
		"another port":                 {sign: func(s *signer.Signer) { s.Host = "batch.example:81" }, want: errcode.SignatureFailure},
		"a service of the host's name": {sign: func(s *signer.Signer) { s.Service = "127" }},
		"values in lower case":         {sign: func(s *signer.Signer) { s.Headers, s.Lower = []string{"x-tc-action", "x-tc-region"}, true }},
		"values as they are":           {sign: func(s *signer.Signer) { s.Headers = []string{"x-tc-action", "x-tc-timestamp", "x-absent"} }},
		"the payload is not signed": {sign: func(s *signer.Signer) { s.UnsignedPayload = true },
			change: func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("another")) }},
		"a header says that the payload is not signed": {want: errcode.SignatureFailure,
			change: func(r *http.Request) { r.Header.Set("X-TC-Content-SHA256", "UNSIGNED-PAYLOAD") }},
		"a token":        {sign: func(s *signer.Signer) { s.Token = "t" }},
		"another key":    {sign: func(s *signer.Signer) { s.SecretKey = "k" }, want: errcode.SignatureFailure},
		"another method": {change: func(r *http.Request) { r.Method = "GET" }, want: errcode.SignatureFailure},
		"another query":  {change: func(r *http.Request) { r.URL.RawQuery = "a=b" }, want: errcode.SignatureFailure},
		"another time":   {change: func(r *http.Request) { r.Header.Set("X-TC-Timestamp", "1795996797") }, want: errcode.SignatureFailure},
		"a signed header was changed": {sign: func(s *signer.Signer) { s.Headers = []string{"x-tc-action"} },
			change: func(r *http.Request) { r.Header.Set("X-TC-Action", "DeleteJob") }, want: errcode.SignatureFailure},
		"a signed header came twice": {sign: func(s *signer.Signer) { s.Headers = []string{"x-tc-action"} },
			change: func(r *http.Request) { r.Header.Add("X-TC-Action", "DeleteJob") }, want: errcode.SignatureFailure},
		"the date of another day": {change: func(r *http.Request) { r.Header.Set("X-TC-Timestamp", "1795996801") }, want: errcode.SignatureFailure},
		"no time":                 {change: func(r *http.Request) { r.Header.Del("X-TC-Timestamp") }, want: errcode.MissingParameter},
		"no number":               {change: func(r *http.Request) { r.Header.Set("X-TC-Timestamp", "1e9") }, want: errcode.InvalidParameter},
		"too large a time":        {change: func(r *http.Request) { r.Header.Set("X-TC-Timestamp", "9223372036854775807") }, want: errcode.InvalidParameter},
		"content-type is not signed": {change: func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "content-type;", "", 1))
		}, want: errcode.InvalidAuthorization},
		"no content-type": {change: func(r *http.Request) { r.Header.Del("Content-Type") }, want: errcode.SignatureFailure},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := base
			if tc.sign != nil {
				tc.sign(&s)
			}
			for _, r := range []*http.Request{s.POST(host, `{"Limit": 1}`), s.GET(host, url.Values{"Limit": {"1"}, "A": {"<&> ü"}})} {
				if tc.change != nil {
					if name == "another method" && r.Method == http.MethodGet {
						continue
					}
					tc.change(r)
				}
				seen, body := parts(t, r)
				c, err := ParseV3(seen)
				if err == nil {
					err = c.Verify(exampleKey, body)
				}
				if got := codeOf(err); got != tc.want {
					t.Errorf("%s: %v, want %q", r.Method, err, tc.want)
				}
				if err == nil && (c.SecretID != exampleID || c.Token != s.Token || !c.Timestamp.Equal(signedAt)) {
					t.Errorf("%+v", c)
				}
			}
		})
	}
}

// A client may leave the default port out of its header, or the header's out of what it signs.
func TestHosts(t *testing.T) {
	for _, tc := range []struct {
		seen, signed string
		want         errcode.Code
	}{
		{"h", "h", ""}, {"h", "h:443", ""}, {"h", "h:80", ""}, {"h", "h:8080", errcode.SignatureFailure}, {"h:8080", "h", ""}, {"h:8080", "h:443", errcode.SignatureFailure},
		{"[::1]:8080", "[::1]", ""}, {"[::1]", "[::1]:443", ""}, {"[::1]", "[:", errcode.SignatureFailure}, {"127.0.0.1:1", "127.0.0.1", ""},
	} {
		s := signer.Signer{SecretID: exampleID, SecretKey: exampleKey, At: signedAt, Host: tc.signed}
		seen, body := parts(t, s.POST("http://x", ""))
		seen.Host = tc.seen
		c, err := ParseV3(seen)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Verify(exampleKey, body); codeOf(err) != tc.want {
			t.Errorf("v3, %s signed %s: %v", tc.seen, tc.signed, err)
		}
		list, err := params.ParseQuery(s.V1("GET", "http://x", "", nil).URL.RawQuery)
		if err != nil {
			t.Fatal(err)
		}
		if c, err = ParseV1("GET", tc.seen, list); err != nil {
			t.Fatal(err)
		}
		if err := c.Verify(exampleKey, nil); codeOf(err) != tc.want {
			t.Errorf("v1, %s signed %s: %v", tc.seen, tc.signed, err)
		}
	}
}

func TestAuthorizationIsMalformed(t *testing.T) {
	good := "TC3-HMAC-SHA256 Credential=AKID/2026-11-29/batch/tc3_request, SignedHeaders=content-type;host, Signature=" + strings.Repeat("0a", 32)
	if _, err := parseAuthorization(good); err != nil {
		t.Fatal(err)
	}
	if _, err := parseAuthorization(strings.ReplaceAll(good, ", ", ",")); err != nil {
		t.Errorf("without spaces: %v", err)
	}
	for _, change := range [][2]string{
		{good, ""}, {"TC3-HMAC-SHA256 ", "TC3-HMAC-SHA1 "}, {"TC3-HMAC-SHA256 ", ""}, {"Credential=AKID", "Credential="}, {"AKID", "AK ID"}, {"AKID", "AK\nID"},
		{"AKID", strings.Repeat("A", MaxSecretID+1)}, {"/batch/", "//"}, {"tc3_request", "tc4_request"}, {"/2026-11-29", ""}, {", SignedHeaders=content-type;host", ""},
		{"content-type;host", ""}, {"content-type;host", "content-type;host;"}, {"content-type;host", "host;host"}, {"content-type", "Content-Type"},
		{"content-type;host", "host" + strings.Repeat(";a", 40)}, {"0a0a", ""}, {"0a0a", "0A0a"}, {"0a0a", "0x0a"}, {", Signature", ", X=1, Signature"},
		{", Signature", ", Signature=1, Signature"}, {"host", "host" + strings.Repeat("x", maxAuthorization)}, {"content-type;", "content-type:"},
	} {
		header := strings.Replace(good, change[0], change[1], 1)
		if _, err := parseAuthorization(header); codeOf(err) != errcode.InvalidAuthorization {
			t.Errorf("%q: %v", header, err)
		} else if len(change[1]) > 8 && !strings.HasSuffix(change[1], "=") && strings.Contains(err.Error(), change[1]) {
			t.Errorf("the error repeats the header: %v", err)
		}
	}
}

func TestV1(t *testing.T) {
	base := signer.Signer{SecretID: exampleID, SecretKey: exampleKey, Region: "ap-x", Action: "DescribeJobs", Token: "t", Language: "zh-CN", At: signedAt}
	business := url.Values{"Filters.0.Name": {"zone"}, "Job.Tasks.0.Application.Command": {"echo a<b && echo 'ü' +%2B"}, "Job.Tasks.10.X": {""}}
	edit := func(name string, values ...string) func(url.Values) {
		return func(v url.Values) { v[name] = values }
	}
	tests := map[string]struct {
		change func(v url.Values)
		want   errcode.Code
	}{
		"as signed":             {nil, ""},
		"another value":         {edit("Filters.0.Name", "job-id"), errcode.SignatureFailure},
		"one parameter more":    {edit("Limit", "1"), errcode.SignatureFailure},
		"another algorithm":     {edit("SignatureMethod", "HmacSHA512"), errcode.SignatureFailure},
		"no signature":          {edit("Signature"), errcode.MissingParameter},
		"an empty signature":    {edit("Signature", ""), errcode.MissingParameter},
		"no nonce":              {edit("Nonce"), errcode.MissingParameter},
		"no number as a nonce":  {edit("Nonce", "x"), errcode.InvalidParameter},
		"a negative nonce":      {edit("Nonce", "-1"), errcode.InvalidParameter},
		"no time":               {edit("Timestamp"), errcode.MissingParameter},
		"no secretId":           {edit("SecretId"), errcode.MissingParameter},
		"a malformed secretId":  {edit("SecretId", "a/b"), errcode.InvalidParameter},
		"two actions":           {edit("Action", "DescribeJobs", "DeleteJob"), errcode.InvalidParameter},
		"a field of the action": {edit("Limit", "1", "2"), errcode.SignatureFailure},
	}
	for name, tc := range tests {
		for _, algorithm := range []string{"", "HmacSHA1", "HmacSHA256"} {
			for _, method := range []string{"GET", "POST"} {
				r := base.V1(method, "http://h:1", algorithm, business)
				query := r.URL.RawQuery
				if method == "POST" {
					body, _ := io.ReadAll(r.Body)
					query = string(body)
				}
				values, err := url.ParseQuery(query)
				if err != nil {
					t.Fatal(err)
				}
				if tc.change != nil {
					tc.change(values)
				}
				list, err := params.ParseQuery(values.Encode())
				if err != nil {
					t.Fatal(err)
				}
				c, err := ParseV1(method, "h:1", list)
				if err == nil {
					err = c.Verify(exampleKey, nil)
				}
				if got := codeOf(err); got != tc.want {
					t.Errorf("%s, %s %s: %v, want %q", name, method, algorithm, err, tc.want)
				}
				if err == nil && (c.SecretID != exampleID || c.Token != "t" || !c.Timestamp.Equal(signedAt)) {
					t.Errorf("%+v", c)
				}
			}
		}
	}
}

func TestCheckTime(t *testing.T) {
	c := Claim{Timestamp: signedAt}
	for off, want := range map[time.Duration]errcode.Code{
		0: "", Window: "", -Window: "", Window + time.Nanosecond: errcode.SignatureExpire, -Window - time.Nanosecond: errcode.SignatureExpire, 1e9 * time.Second: errcode.SignatureExpire,
	} {
		if got := codeOf(c.CheckTime(signedAt.Add(off))); got != want {
			t.Errorf("%v: %q, want %q", off, got, want)
		}
	}
	c.Timestamp = time.Unix(253402300799, 0)
	if got := codeOf(c.CheckTime(signedAt)); got != errcode.SignatureExpire {
		t.Errorf("the year 9999: %q", got)
	}
}

// No header is accepted that the algorithm does not give, and none makes the parser fail otherwise than with a code.
func FuzzAuthorization(f *testing.F) {
	r := signer.Signer{SecretID: exampleID, SecretKey: exampleKey, Action: "DescribeJobs", At: signedAt}.POST("http://h:1", "{}")
	good := r.Header.Get("Authorization")
	f.Add(good, "h:1", "application/json")
	f.Add(strings.ReplaceAll(good, ", ", " , "), "h", "application/json")
	f.Add("TC3-HMAC-SHA256 Credential=a/b/c/tc3_request, SignedHeaders=host, Signature="+strings.Repeat("0", 64), "", "")
	f.Add("", "[::1]", "x")
	f.Fuzz(func(t *testing.T, header, host, contentType string) {
		seen := Request{Method: "POST", Host: host, Header: func(name string) []string {
			switch name {
			case "authorization":
				return []string{header}
			case "content-type":
				return []string{contentType}
			}
			return r.Header.Values(name)
		}}
		c, err := ParseV3(seen)
		if err != nil {
			if codeOf(err) == "another error" || len(err.Error()) > 300 {
				t.Errorf("%v", err)
			}
			return
		}
		if !isSecretID(c.SecretID) {
			t.Errorf("secretId %q", c.SecretID)
		}
		if c.Verify(exampleKey, []byte("{}")) == nil && !strings.Contains(header, good[len(good)-64:]) {
			t.Errorf("%q was accepted", header)
		}
	})
}
