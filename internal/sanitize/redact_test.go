// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package sanitize

import "testing"

func TestRedact(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"user and password in a URL":  {`Get "https://me:hunter2@example.com/x?y=1": EOF`, `Get "https://REDACTED@example.com/x?y=1": EOF`},
		"a token as a URL's user":     {"clone https://ghp_abc@github.com/a/b.git", "clone https://REDACTED@github.com/a/b.git"},
		"an @ in the password":        {"s3://k:p@ss@bucket/", "s3://REDACTED@bucket/"},
		"two URLs":                    {"http://a:b@c http://d:e@f", "http://REDACTED@c http://REDACTED@f"},
		"a bearer header":             {"Authorization: Bearer abc123", "Authorization: REDACTED"},
		"a header as Go prints it":    {"map[Authorization:[Bearer abc123] Accept:[*/*]]", "map[Authorization:[REDACTED] Accept:[*/*]]"},
		"a header in JSON":            {`{"authorization": "Basic dXNlcjpwYXNz", "a": 1}`, `{"authorization": "REDACTED", "a": 1}`},
		"a proxy's header":            {"proxy-authorization: basic eHg6eXk=, x", "proxy-authorization: REDACTED, x"},
		"a digest":                    {`Authorization: Digest username="me", realm="r", response="0a1b"`, "Authorization: REDACTED"},
		"a signature of version 4":    {"Authorization: AWS4-HMAC-SHA256 Credential=AK/2026/s3, SignedHeaders=host;date, Signature=0a1b x", "Authorization: REDACTED x"},
		"a bearer token alone":        {"sent bearer mF_9.B5f-4.1JqM to it", "sent bearer REDACTED to it"},
		"a JSON Web Token":            {"token eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln_bmF0-dXJl refused", "token REDACTED refused"},
		"a JSON Web Token cut off":    {"eyJhbGciOiJSUzI1NiJ9.eyJzd", "REDACTED"},
		"an encrypted token":          {"eyJhbGciOiJSU0EifQ.a.b.c.d", "REDACTED"},
		"password=":                   {"login --password=hunter2 --user=me", "login --password=REDACTED --user=me"},
		"a variable":                  {"DB_PASSWORD=hunter2;B=1", "DB_PASSWORD=REDACTED;B=1"},
		"a quoted value":              {`token="a b c" x`, `token="REDACTED" x`},
		"a single quote":              {`secret='a b' x`, `secret='REDACTED' x`},
		"an access key":               {"AWS_SECRET_ACCESS_KEY=abc/def+1", "AWS_SECRET_ACCESS_KEY=REDACTED"},
		"a presigned URL":             {"https://b.example/o?X-Amz-Signature=0a1b&X-Amz-Date=1", "https://b.example/o?X-Amz-Signature=REDACTED&X-Amz-Date=1"},
		"another presigned URL":       {"https://b.example/o?sp=r&sig=0a%2F1b&q-signature=ff", "https://b.example/o?sp=r&sig=REDACTED&q-signature=REDACTED"},
		"a field of JSON":             {`{"password":"hunter2","user":"me"}`, `{"password":"REDACTED","user":"me"}`},
		"JSON in a string":            {`"{\"client_secret\":\"abc\",\"a\":1}"`, `"{\"client_secret\":\"REDACTED\",\"a\":1}"`},
		"YAML":                        {"password: hunter22 user: me", "password: REDACTED user: me"},
		"a value that is a word":      {`password: "swordfish"`, `password: "REDACTED"`},
		"a redacted text":             {"password=REDACTED Authorization: REDACTED https://REDACTED@h/", "password=REDACTED Authorization: REDACTED https://REDACTED@h/"},
		"an image by digest":          {"docker-pullable://busybox@sha256:0a1b", "docker-pullable://busybox@sha256:0a1b"},
		"an address of mail":          {"mail me@example.com", "mail me@example.com"},
		"a path with an @":            {"https://example.com/@scope/x", "https://example.com/@scope/x"},
		"a registry's challenge":      {`WWW-Authenticate: Bearer realm="https://auth.example.com/t",service="r"`, `WWW-Authenticate: Bearer realm="https://auth.example.com/t",service="r"`},
		"a missing Secret":            {`MountVolume.SetUp failed for volume "v" : secret "db" not found`, `MountVolume.SetUp failed for volume "v" : secret "db" not found`},
		"a registry without a token":  {"failed to fetch anonymous token: unexpected status from GET request to https://r.example/t?scope=a: 401 Unauthorized", "failed to fetch anonymous token: unexpected status from GET request to https://r.example/t?scope=a: 401 Unauthorized"},
		"a failure of the API server": {"token: 401 Unauthorized", "token: 401 Unauthorized"},
		"basic words":                 {"basic authentication, bearer tokens", "basic authentication, bearer tokens"},
		"names of Secrets":            {"secretName=db max_tokens=5", "secretName=db max_tokens=5"},
		"a quota":                     {"exceeded quota: q, requested: pods=1, used: pods=5, limited: pods=5", "exceeded quota: q, requested: pods=1, used: pods=5, limited: pods=5"},
		"an unauthorised user":        {`users "x" is forbidden: User "system:serviceaccount:a:b" cannot create`, `users "x" is forbidden: User "system:serviceaccount:a:b" cannot create`},
	} {
		t.Run(name, func(t *testing.T) {
			got := Redact(tc.in)
			if got != tc.want {
				t.Errorf("%s\nbecomes %s\nwant    %s", tc.in, got, tc.want)
			}
			if again := Redact(got); again != got {
				t.Errorf("%s\nbecomes %s at the second time", got, again)
			}
		})
	}
}
