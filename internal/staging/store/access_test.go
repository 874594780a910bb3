// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/staging/attempt"
	"batchcompute.dev/operator/internal/staging/fault"
	"batchcompute.dev/operator/internal/testutil/s3test"
)

// requests are what a client can do, by name.
var requests = map[string]func(ctx context.Context, c *Client, key string) error{
	"stat": func(ctx context.Context, c *Client, key string) error {
		_, err := c.Stat(ctx, key)
		return err
	},
	"get": func(ctx context.Context, c *Client, key string) error {
		_, err := c.Get(ctx, Range{Key: key, Size: 5, Length: 5}, io.Discard, make([]byte, 100))
		return err
	},
	"list": func(ctx context.Context, c *Client, key string) error {
		for _, err := range c.List(ctx, key) {
			return err
		}
		return nil
	},
	"put": func(ctx context.Context, c *Client, key string) error {
		_, err := c.Put(ctx, key, Source{File: strings.NewReader("12345"), Size: 5}, Meta{})
		return err
	},
	"begin": func(ctx context.Context, c *Client, key string) error {
		_, _, err := c.Begin(ctx, key, Meta{})
		return err
	},
	"uploads": func(ctx context.Context, c *Client, key string) error {
		for _, err := range c.Uploads(ctx, key) {
			return err
		}
		return nil
	},
}

// counter is a transport that counts requests.
type counter struct {
	http.RoundTripper
	n *atomic.Int32
}

func (c counter) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return c.RoundTripper.RoundTrip(r)
}

// checkRefusals checks that what fails for good is told apart, at once, and without secrets.
func checkRefusals(t *testing.T, s agentapi.Store, policy attempt.Policy) {
	t.Helper()
	bad := func(change func(*agentapi.Store)) agentapi.Store {
		out := s
		change(&out)
		return out
	}
	cases := map[string]struct {
		store agentapi.Store
		key   string
		want  map[string]fault.Kind // by request; "" for all others
	}{
		"wrong key": {bad(func(s *agentapi.Store) { s.Credentials = s3test.Credentials(t, "nobody", s3test.SecretKey, "") }), "there", map[string]fault.Kind{"": fault.Credentials}},
		"no bucket": {bad(func(s *agentapi.Store) { s.Bucket = "missing" }), "there", map[string]fault.Kind{"": fault.NoBucket}},
		"no object": {s, "nothing", map[string]fault.Kind{"stat": fault.NoObject, "get": fault.NoObject}},
		"no secret": {bad(func(s *agentapi.Store) { s.Credentials = filepath.Join(t.TempDir(), "planted-secret") }), "there", map[string]fault.Kind{"": fault.Credentials}},
	}
	for name, tc := range cases {
		for request, do := range requests {
			want, ok := tc.want[request]
			if !ok {
				want = tc.want[""]
			}
			if want == "" {
				continue
			}
			t.Run(name+"/"+request, func(t *testing.T) {
				var n atomic.Int32
				c := newClient(t, tc.store, Options{Policy: policy, Wrap: func(rt http.RoundTripper) http.RoundTripper { return counter{rt, &n} }})
				err := do(t.Context(), c, tc.key)
				e := fault.As(err)
				if err == nil || e.Kind != want || e.Class != agentapi.Permanent || e.Key != tc.key && want != fault.Credentials {
					t.Errorf("error %v of kind %s, want %s", err, e.Kind, want)
				}
				if n.Load() > 2 {
					t.Errorf("%d requests", n.Load())
				}
				if strings.Contains(fmt.Sprint(err), "planted") || e.Advice == "" {
					t.Errorf("text %v", err)
				}
				t.Log(err)
			})
		}
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t, nil)
	w.SetKeys(s3test.AccessKey, "")
	w.Set("there", []byte("12345"), nil)
	checkRefusals(t, w.store, quick)
}

func TestDenied(t *testing.T) {
	for _, f := range []s3test.Fault{{Status: 403, Code: "AccessDenied"}, {Status: 403}, {Status: 301, Code: "PermanentRedirect"}, {Status: 400, Code: "AuthorizationHeaderMalformed"}} {
		w := newWorld(t, func(int, *http.Request) s3test.Fault { return f })
		for name, do := range requests {
			if name == "stat" && f.Status != 403 {
				continue // HEAD has no code, and the listing is refused, too
			}
			want := fault.Denied
			if f.Status != 403 {
				want = fault.Address
			}
			if err := do(t.Context(), w.client, "k"); !fault.Is(err, want) || fault.As(err).Class != agentapi.Permanent {
				t.Errorf("%s with %+v: %v", name, f, err)
			}
		}
	}
}

// TestKeysAreNamed: a message about a key says which one it is, and which Secret has it.
func TestKeysAreNamed(t *testing.T) {
	job := agentapi.Store{KeyField: "authentications[1]", KeySecret: "studio-key", SecretID: "id"}
	catalogue := agentapi.Store{KeySecret: "store-keys"}
	inJob := `secretId in authentications[1], or secretKey in the Secret "studio-key"`
	inCatalogue := `secretId and secretKey in the Secret "store-keys", which the operator's catalogue names`
	for name, tc := range map[string]struct {
		of     agentapi.Store
		status int
		code   string
		remove string // a file of the keys
		want   string
	}{
		"wrong, of the job":         {job, 403, "SignatureDoesNotMatch", "", "the store does not accept the key of authentications[1] (SignatureDoesNotMatch); correct " + inJob},
		"wrong, of the catalogue":   {catalogue, 403, "InvalidAccessKeyId", "", "the store does not accept the key of the operator's catalogue (InvalidAccessKeyId); correct " + inCatalogue},
		"expired, of the job":       {job, 400, "ExpiredToken", "", "the key of authentications[1] has expired"},
		"expired, of the catalogue": {catalogue, 400, "ExpiredToken", "", `the key of the operator's catalogue has expired (tried without progress for 0s); store a new token, with its ` + inCatalogue[:len("secretId and secretKey")] + `, in the Secret "store-keys"`},
		"denied, of the job":        {job, 403, "AccessDenied", "", `the key of authentications[1] does not allow this in bucket "` + bucket + `"; give it the permission`},
		"denied, of the catalogue":  {catalogue, 403, "Odd", "", "the key of the operator's catalogue does not allow this (Odd)"},
		"no key in the Secret":      {job, 0, "", "secretKey", `the key secretKey cannot be read in the Secret "studio-key", which authentications[1] names; add it to the Secret`},
		"no id in the Secret":       {catalogue, 0, "", "secretId", `the key secretId cannot be read in the Secret "store-keys", which the operator's catalogue names; add it to the Secret`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(int, *http.Request) s3test.Fault { return s3test.Fault{Status: tc.status, Code: tc.code} })
			s := w.store
			s.KeyField, s.KeySecret, s.SecretID = tc.of.KeyField, tc.of.KeySecret, tc.of.SecretID
			if tc.remove != "" {
				if err := os.Remove(filepath.Join(s.Credentials, "..data", tc.remove)); err != nil {
					t.Fatal(err)
				}
			}
			short := quick
			short.NoProgress = 0
			err := requests["list"](t.Context(), newClient(t, s, Options{Policy: short}), "k")
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error\n%v, want\n%s", err, tc.want)
			}
		})
	}
	w := newWorld(t, func(int, *http.Request) s3test.Fault { return s3test.Fault{Status: 403, Code: "AccessDenied"} })
	s := w.store
	s.Credentials = ""
	err := requests["get"](t.Context(), newClient(t, s, Options{Policy: quick}), "k")
	if want := `without a key the store does not allow this in bucket "` + bucket + `"; give a key in authentications`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("without a key: %v", err)
	}
	w = newWorld(t, nil)
	s3test.Rotate(t, w.store.Credentials, s3test.AccessKey, " ", "")
	if err := requests["get"](t.Context(), newClient(t, w.store, Options{Policy: quick}), "k"); err == nil || !strings.Contains(err.Error(), "the key secretKey is empty in the Secret") {
		t.Errorf("an empty key: %v", err)
	}
}

// TestRotation replaces keys and tokens while a client works.
func TestRotation(t *testing.T) {
	w := newWorld(t, nil)
	w.Set("k", []byte("12345"), nil)
	w.SetKeys("first", "token-1")
	s3test.Rotate(t, w.store.Credentials, "first", "x", "token-1")
	if err := requests["get"](t.Context(), w.client, "k"); err != nil {
		t.Fatal(err)
	}
	// The store wants a new token, and then a new key, before the Secret has them.
	for _, next := range []struct{ key, token string }{{"first", "token-2"}, {"second", "token-2"}, {"second", ""}} {
		w.SetKeys(next.key, next.token)
		refused := 0
		w.faults.Plan = func(int, *http.Request) s3test.Fault {
			if refused++; refused == 4 {
				s3test.Rotate(t, w.store.Credentials, next.key, "x", next.token)
			}
			return s3test.Fault{}
		}
		if err := requests["get"](t.Context(), w.client, "k"); err != nil {
			t.Errorf("%+v: %v", next, err)
		}
		if next.token != "" && refused < 4 {
			t.Errorf("%+v: %d requests", next, refused)
		}
	}
	// A token that stays expired is an error that can pass.
	w.SetKeys("second", "token-3")
	short := quick
	short.NoProgress = 0
	if err := requests["get"](t.Context(), newClient(t, w.store, Options{Policy: short}), "k"); !fault.Is(err, fault.Expired) || fault.As(err).Class != agentapi.Transient {
		t.Errorf("error %v", err)
	}
}

// TestIdentity exchanges a token for keys that expire at once, so that each request asks again.
func TestIdentity(t *testing.T) {
	w := newWorld(t, nil)
	w.Set("k", []byte("12345"), nil)
	token := filepath.Join(t.TempDir(), agentapi.TokenFile)
	asked := 0
	sts := s3test.Serve(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked++
		if r.FormValue("WebIdentityToken") != "jwt" || r.FormValue("RoleArn") != "role" || r.FormValue("Action") != "AssumeRoleWithWebIdentity" {
			rw.WriteHeader(http.StatusForbidden)
			fmt.Fprint(rw, "<ErrorResponse><Error><Code>AccessDenied</Code><Message>planted-secret</Message></Error></ErrorResponse>")
			return
		}
		w.SetKeys(fmt.Sprintf("id-%d", asked), "session")
		fmt.Fprintf(rw, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult>
			<Credentials><AccessKeyId>id-%d</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>session</SessionToken>
			<Expiration>2020-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, asked)
	}))
	s := w.store
	s.Credentials, s.Identity, s.Role = filepath.Dir(token), sts, "role"
	c := newClient(t, s, Options{Policy: quick})
	if err := requests["get"](t.Context(), c, "k"); !fault.Is(err, fault.Credentials) || asked != 0 {
		t.Errorf("without a token: %v", err)
	}
	for text, want := range map[string]fault.Kind{"wrong": fault.Credentials, "jwt": ""} {
		if err := os.WriteFile(token, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			err := requests["get"](t.Context(), c, "k")
			if want == "" && err != nil || want != "" && (!fault.Is(err, want) || strings.Contains(err.Error(), "planted")) {
				t.Errorf("%s: %v", text, err)
			}
		}
	}
	if asked != 4 {
		t.Errorf("asked %d times", asked)
	}
}

// TestVirtualHost resolves the name of the bucket to the server.
func TestVirtualHost(t *testing.T) {
	w := newWorld(t, nil)
	w.Set("a/k +%", []byte("12345"), nil)
	address := strings.TrimPrefix(w.store.Endpoint, "http://")
	var dialled []string
	s := w.store
	s.Endpoint, s.PathStyle = "http://cos.example.com", false
	var host string
	w.faults.Plan = func(_ int, r *http.Request) s3test.Fault {
		host = r.Host
		return s3test.Fault{}
	}
	c := newClient(t, s, Options{Policy: quick, Dial: func(ctx context.Context, network, name string) (net.Conn, error) {
		dialled = append(dialled, name)
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}})
	for name, do := range requests {
		if err := do(t.Context(), c, "a/k +%"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if host != bucket+".cos.example.com" || dialled[0] != host+":80" {
			t.Errorf("%s: host %s, dialled %s", name, host, dialled)
		}
	}
}

func TestCertificate(t *testing.T) {
	m := s3test.NewMemory(bucket)
	m.Set("k", []byte("12345"), nil)
	server := httptest.NewTLSServer(m)
	server.Config.ErrorLog = nil
	defer server.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	s := agentapi.Store{Endpoint: server.URL, Bucket: bucket, PathStyle: true, CA: ca, Credentials: s3test.Credentials(t, "id", "key", "")}
	c := newClient(t, s, Options{Policy: quick})
	for name, do := range requests {
		if err := do(t.Context(), c, "k"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.CA = ""
	if err := requests["get"](t.Context(), newClient(t, s, Options{Policy: quick}), "k"); !fault.Is(err, fault.Certificate) {
		t.Errorf("an unknown authority: %v", err)
	}
	s.Endpoint = strings.Replace(s.Endpoint, "https", "http", 1)
	if err := requests["get"](t.Context(), newClient(t, s, Options{Policy: quick}), "k"); err == nil || fault.As(err).Class != agentapi.Permanent {
		t.Errorf("http to a server that speaks TLS: %v", err)
	}
	s.CA = "no certificate"
	if _, err := New(s, Options{}); !fault.Is(err, fault.Certificate) {
		t.Errorf("no certificate: %v", err)
	}
}

// TestProxy sends requests through a proxy, except those that NO_PROXY names.
func TestProxy(t *testing.T) {
	w := newWorld(t, nil)
	w.Set("k", []byte("12345"), nil)
	through := 0
	proxy := s3test.Serve(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Host != "store.example.com" || r.Header.Get("Proxy-Authorization") == "" {
			t.Errorf("the proxy was asked for %s", r.URL)
		}
		through++
		w.ServeHTTP(rw, r)
	}))
	proxy = strings.Replace(proxy, "http://", "http://user:planted-secret@", 1)
	s := w.store
	s.Endpoint = "http://store.example.com"
	direct := 0
	client := func() *Client {
		return newClient(t, s, Options{Policy: attempt.Policy{Stall: quick.Stall}, Dial: func(ctx context.Context, network, name string) (net.Conn, error) {
			if strings.HasPrefix(name, "store.") {
				direct++
				name = strings.TrimPrefix(w.store.Endpoint, "http://")
			}
			return (&net.Dialer{}).DialContext(ctx, network, name)
		}})
	}
	t.Setenv("HTTP_PROXY", proxy)
	t.Setenv("NO_PROXY", "")
	if err := requests["get"](t.Context(), client(), "k"); err != nil || through != 1 || direct != 0 {
		t.Errorf("%d through the proxy, %d direct: %v", through, direct, err)
	}
	t.Setenv("NO_PROXY", ".example.com")
	if err := requests["get"](t.Context(), client(), "k"); err != nil || through != 1 || direct != 1 {
		t.Errorf("%d through the proxy, %d direct: %v", through, direct, err)
	}
	t.Setenv("NO_PROXY", "")
	for _, bad := range []string{"http://user:planted-secret@127.0.0.1:1", "http://user:planted-secret@bad host"} {
		t.Setenv("HTTP_PROXY", bad)
		if err := requests["get"](t.Context(), client(), "k"); err == nil || strings.Contains(err.Error(), "planted") {
			t.Errorf("a proxy that does not work: %v", err)
		}
	}
}

// TestUnsigned reads a public bucket.
func TestUnsigned(t *testing.T) {
	w := newWorld(t, nil)
	w.Set("k", []byte("12345"), nil)
	w.faults.Plan = func(_ int, r *http.Request) s3test.Fault {
		if r.Header.Get("Authorization") != "" {
			t.Error("a request is signed")
		}
		return s3test.Fault{}
	}
	s := w.store
	s.Credentials = ""
	if err := requests["get"](t.Context(), newClient(t, s, Options{Policy: quick}), "k"); err != nil {
		t.Error(err)
	}
}

// TestVersitygw does everything with a real server, which checks signatures.
func TestVersitygw(t *testing.T) { checkServer(t, s3test.Versitygw(t, bucket)) }

// TestMinIO does it with another, which also finds the bucket in the host.
func TestMinIO(t *testing.T) { s3test.MinIO(t, bucket, checkServer) }

func checkServer(t *testing.T, s agentapi.Store) {
	t.Helper()
	patient := attempt.Policy{Stall: quick.NoProgress, NoProgress: quick.NoProgress}
	c := newClient(t, s, Options{Policy: patient})
	if err := requests["put"](t.Context(), c, "there"); err != nil {
		t.Fatal(err)
	}
	t.Run("refusals", func(t *testing.T) { checkRefusals(t, s, patient) })
	t.Run("wrong secret", func(t *testing.T) {
		bad := s
		bad.Credentials = s3test.Credentials(t, s3test.AccessKey, "wrong", "")
		for name, do := range requests {
			if err := do(t.Context(), newClient(t, bad, Options{Policy: quick}), "there"); !fault.Is(err, fault.Credentials) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("names", func(t *testing.T) {
		for _, key := range []string{"é/日本 + % #?&=", "new\nline", "a%2Fb", "~!@$^*()[]{}|;:',<>`\"\\"} {
			key = "names/" + key
			if err := requests["put"](t.Context(), c, key); err != nil {
				t.Errorf("%q: %v", key, err)
			}
			found := false
			for o, err := range c.List(t.Context(), "names/") {
				found = found || err == nil && o.Key == key
			}
			if err := requests["get"](t.Context(), c, key); err != nil || !found {
				t.Errorf("%q: found %t, %v", key, found, err)
			}
		}
	})
	t.Run("changed object", func(t *testing.T) {
		put := func(text string) Info {
			if _, err := c.Put(t.Context(), "changed", Source{File: strings.NewReader(text), Size: int64(len(text))}, Meta{}); err != nil {
				t.Fatal(err)
			}
			i, err := c.Stat(t.Context(), "changed")
			if err != nil {
				t.Fatal(err)
			}
			return i
		}
		before := put("12345")
		after := put("54321")
		for _, offset := range []int64{0, 3} {
			r := Range{Key: "changed", Size: 5, Offset: offset, Length: 5 - offset}
			r.ETag = before.ETag
			if _, err := c.Get(t.Context(), r, io.Discard, make([]byte, 100)); !fault.Is(err, fault.Changed) {
				t.Errorf("from %d: %v", offset, err)
			}
			r.ETag = after.ETag
			if _, err := c.Get(t.Context(), r, io.Discard, make([]byte, 100)); err != nil {
				t.Errorf("from %d, as it is: %v", offset, err)
			}
		}
	})
	t.Run("parts", func(t *testing.T) {
		data := text(11 << 20)
		id, _, err := c.Begin(t.Context(), "parts", Meta{Mode: 0o600})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Begin(t.Context(), "parts", Meta{}); err != nil {
			t.Fatal(err)
		}
		var parts []Part
		for n, size := range []int64{6 << 20, 5 << 20} {
			p, err := c.PutPart(t.Context(), "parts", id, n+1, Source{File: bytes.NewReader(data), Offset: int64(n) * 6 << 20, Size: size})
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, p)
		}
		if err := c.AbortOthers(t.Context(), "parts", id); err != nil {
			t.Fatal(err)
		}
		if err := c.Complete(t.Context(), "parts", id, parts, int64(len(data))); err != nil {
			t.Fatal(err)
		}
		for u, err := range c.Uploads(t.Context(), "parts") {
			t.Errorf("an upload is left: %+v, %v", u, err)
		}
		var got bytes.Buffer
		i, err := c.Get(t.Context(), Range{Key: "parts", Size: 11 << 20, Length: 11 << 20}, &got, make([]byte, 1<<20))
		if err != nil || !bytes.Equal(got.Bytes(), data) || i.Mode != 0o600 {
			t.Errorf("%d bytes, %+v: %v", got.Len(), i, err)
		}
	})
}

// TestNamesThatCannotBe are refused by the library or the server before anything is done: they are not tried again.
func TestNamesThatCannotBe(t *testing.T) {
	for _, bucket := range []string{"", "ab", "a b", "a..b", "-abc", "192.168.1.1", strings.Repeat("b", 64)} {
		_, err := New(agentapi.Store{Endpoint: "http://127.0.0.1:1", Bucket: bucket, PathStyle: true}, Options{Policy: quick})
		if !fault.Is(err, fault.Name) || fault.As(err).Class != agentapi.Permanent {
			t.Errorf("bucket %q: %v", bucket, err)
		}
	}
	c, err := New(agentapi.Store{Endpoint: "http://127.0.0.1:1", Bucket: bucket, PathStyle: true}, Options{Policy: quick})
	if err != nil {
		t.Fatal(err)
	}
	for name, request := range requests {
		for _, key := range []string{"a\xffb", strings.Repeat("k", 1025)} {
			if name == "list" || name == "uploads" || name == "begin" {
				continue // the library leaves these names to the server
			}
			err := request(t.Context(), c, key)
			if !fault.Is(err, fault.Name) || fault.As(err).Class != agentapi.Permanent {
				t.Errorf("%s of %.10q: %v", name, key, err)
			}
		}
	}
}

// TestRefusalsAreFinal: what a server answers with 4xx is not tried again, except what passes.
func TestRefusalsAreFinal(t *testing.T) {
	for code, status := range map[string]int{
		"InvalidBucketName": 400, "InvalidArgument": 400, "InvalidRequest": 400, "MalformedXML": 400, "EntityTooLarge": 400, "InvalidPart": 400,
		"KeyTooLongError": 400, "MethodNotAllowed": 405, "InvalidObjectState": 403, "NotImplemented": 400, "MetadataTooLarge": 400, "SomethingNew": 400,
	} {
		n := 0
		url := s3test.Serve(t, &s3test.Faults{Plan: func(int, *http.Request) s3test.Fault { n++; return s3test.Fault{Status: status, Code: code} }})
		c, err := New(agentapi.Store{Endpoint: url, Bucket: bucket, PathStyle: true}, Options{Policy: quick})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"get", "list", "put", "begin", "uploads"} {
			n = 0
			if err := requests[name](t.Context(), c, "key"); err == nil || fault.As(err).Class != agentapi.Permanent || n != 1 {
				t.Errorf("%s, %s: %d requests, %v", code, name, n, err)
			}
		}
	}
}
