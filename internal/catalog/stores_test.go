// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func certificate(t *testing.T) string {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// TestStore: what the file says comes before what the host says.
func TestStore(t *testing.T) {
	ca := certificate(t)
	indented := "    " + strings.ReplaceAll(strings.TrimSpace(ca), "\n", "\n    ") + "\n"
	c, err := Parse([]byte(head + `stores:
- match: "films-*.cos.ap-guangzhou.myqcloud.com"
  endpoint: https://s3.storage.svc:9000
  bucket: films
  prefix: moved/here/
  region: eu-1
  style: path
  secretName: film-keys
  ca: |
` + indented + `- match: "*.cos.ap-beijing.myqcloud.com"
  identity: {endpoint: https://sts.example.com/, role: "arn:batch", audience: sts}
- {match: plain, endpoint: "http://store:7070", style: path}
fileSystems:
- {match: "10.0.0.*", csiDriver: nfs.csi.k8s.io}
`))
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]Store{
		"films-1.cos.ap-guangzhou.myqcloud.com": {
			Endpoint: "https://s3.storage.svc:9000", Bucket: "films", Prefix: "moved/here/", Region: "eu-1", PathStyle: true, CA: ca, SecretName: "film-keys",
		},
		"b-1.cos.ap-beijing.myqcloud.com": {
			Endpoint: "https://cos.ap-beijing.myqcloud.com", Bucket: "b-1", Region: "ap-beijing",
			Identity: &Identity{Endpoint: "https://sts.example.com/", Role: "arn:batch", Audience: "sts"},
		},
		"b-1.cos.ap-shanghai.myqcloud.com": {Endpoint: "https://cos.ap-shanghai.myqcloud.com", Bucket: "b-1", Region: "ap-shanghai"},
		"b-1.cosgz.myqcloud.com":           {Endpoint: "https://cos.ap-guangzhou.myqcloud.com", Bucket: "b-1", Region: "ap-guangzhou"},
		"b-1.cosxx.myqcloud.com":           {Endpoint: "https://cosxx.myqcloud.com", Bucket: "b-1", Region: "us-east-1"},
		"b.s3.example.com":                 {Endpoint: "https://s3.example.com", Bucket: "b", Region: "us-east-1"},
		"plain":                            {Endpoint: "http://store:7070", Bucket: "plain", Region: "us-east-1", PathStyle: true},
	} {
		got, ok := c.Store(host)
		if diff := cmp.Diff(want, got); diff != "" || !ok {
			t.Errorf("%s: %t (-want +got):\n%s", host, ok, diff)
		}
	}
	for host, want := range map[string]bool{
		"films-1.cos.ap-guangzhou.myqcloud.com": true, "b-1.cos.ap-shanghai.myqcloud.com": true, "b-c-1.cosgz.myqcloud.com": true, "plain": true,
		"b.cos.ap-shanghai.myqcloud.com": false, "b-1.cosxx.myqcloud.com": false, "b-1.cos.myqcloud.com": false, "b-1.s3.example.com": false,
		"b-1.cos.ap-shanghai.myqcloud.com.example.com": false, "other": false,
	} {
		if got := c.KnowsHost(host); got != want {
			t.Errorf("%s is known: %t, want %t", host, got, want)
		}
	}
	for host, want := range map[string]bool{
		"films-1.other.example.com": false, "b-1.cos.ap-beijing.myqcloud.com": true, "b-1.cos.ap-shanghai.myqcloud.com": true, "plain": true,
		"b.evil.cos.ap-beijing.myqcloud.com": false, "b-1.cos.ap-shanghai.myqcloud.com:80": false,
	} {
		if got := c.NamesEndpoint(host); got != want {
			t.Errorf("%s: the endpoint is named: %t, want %t", host, got, want)
		}
	}
	if _, ok := c.Store("other"); ok {
		t.Error("a host without a store has one")
	}
	if a, b := c.FileSystem("10.0.0.7"), c.FileSystem("10.0.1.7"); a.CSIDriver != "nfs.csi.k8s.io" || b.CSIDriver != "" {
		t.Errorf("file systems %+v, %+v", a, b)
	}
}

// TestNamesEndpoint: an entry for many hosts does not let who writes one choose the endpoint.
func TestNamesEndpoint(t *testing.T) {
	for match, hosts := range map[string]map[string]bool{
		"{match: '*', secretName: s}":                  {"b.evil.example.com": false, "b.169.254.169.254": false, "b-1.cos.ap-x.myqcloud.com": true},
		"{match: '*', endpoint: 'http://s3.svc:9000'}": {"b.evil.example.com": true},
		"{match: '*.s3.example.com'}":                  {"b.s3.example.com": true, "b.evil.s3.example.com": false},
		"{match: 'b.*.example.com'}":                   {"b.s3.example.com": false},
		"{match: '*example.com'}":                      {"b.example.com": false, "b.evilexample.com": false},
		"{match: 'b.s3.example.com'}":                  {"b.s3.example.com": true, "c.s3.example.com": false},
	} {
		c, err := Parse([]byte(head + "stores:\n- " + match + "\n"))
		if err != nil {
			t.Fatal(match, err)
		}
		for host, want := range hosts {
			if got := c.NamesEndpoint(host); got != want {
				t.Errorf("%s, %s: %t, want %t", match, host, got, want)
			}
		}
	}
}

func TestStoreErrors(t *testing.T) {
	for in, want := range map[string]string{
		`{endpoint: "https://a"}`:                       `stores[0].match: must be a host, in which * stands for any characters`,
		`{match: "a b"}`:                                `stores[0].match: must be a host`,
		`{match: a, endpoint: "s3.example.com"}`:        `stores[0].endpoint: must be a URL of a host such as https://s3.example.com:9000, got "s3.example.com"`,
		`{match: a, endpoint: "https://u:p@h"}`:         `stores[0].endpoint: must be a URL`,
		`{match: a, endpoint: "https://h/path"}`:        `stores[0].endpoint: must be a URL of a host`,
		`{match: a, bucket: A_B}`:                       `stores[0].bucket: must be the name of a bucket`,
		`{match: a, prefix: /x/}`:                       `stores[0].prefix: must be directories that each end with /`,
		`{match: a, prefix: x/../}`:                     `stores[0].prefix: must be directories`,
		`{match: a, prefix: ../}`:                       `stores[0].prefix: must be directories`,
		`{match: a, style: dns}`:                        `stores[0].style: must be one of virtual, path, got "dns"`,
		`{match: a, ca: none}`:                          `stores[0].ca: must be certificates in PEM form`,
		`{match: a, secretName: B}`:                     `stores[0].secretName: must be the name of an object`,
		`{match: a, identity: {endpoint: "https://s"}}`: `stores[0].identity.audience: must be the audience of the token`,
		`{match: a, secretName: s, identity: {endpoint: "https://s", audience: a}}`: `stores[0]: must have secretName or identity, not both`,
		`{match: a, colour: red}`: `stores[0].colour: unknown field`,
	} {
		if _, err := Parse([]byte(head + "stores:\n- " + in + "\n")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", in, err, want)
		}
	}
	for in, want := range map[string]string{
		`- {match: a}`:                      `fileSystems[0].csiDriver: must be the name of a CSI driver`,
		`- {match: a, csiDriver: "a b"}`:    `fileSystems[0].csiDriver: must be the name`,
		`- {match: a, csiDriver: d, at: b}`: `fileSystems[0].at: unknown field`,
	} {
		if _, err := Parse([]byte(head + "fileSystems:\n" + in + "\n")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", in, err, want)
		}
	}
	var many strings.Builder
	for i := range maxStores + 1 {
		fmt.Fprintf(&many, "- {match: h%d}\n", i)
	}
	if _, err := Parse([]byte(head + "stores:\n" + many.String())); err == nil || !strings.Contains(err.Error(), "stores: must have at most 100 entries, got 101") {
		t.Errorf("too many: %v", err)
	}
}
