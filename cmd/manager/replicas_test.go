// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	admissionregv1 "k8s.io/api/admissionregistration/v1"
	certutil "k8s.io/client-go/util/cert"

	"batchcompute.dev/operator/internal/errcode"
)

// TestQuotaOfReplicas sends creates to two managers in turn, as a Service may: they know
// nothing of each other, and let in at most one job too many each.
func TestQuotaOfReplicas(t *testing.T) {
	c := startCluster(t)
	cert, key, err := certutil.GenerateSelfSignedCertKey(serviceName+"."+defaultNamespace+".svc", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	must(t, err)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "tls.crt"), cert, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "tls.key"), key, 0o600))
	var managers []*process
	var targets []*url.URL
	for range 2 {
		addr := freeAddr(t)
		managers = append(managers, c.launch(t, "--webhook-bind-address", addr, "--webhook-cert-dir", dir))
		targets = append(targets, &url.URL{Scheme: "https", Host: addr})
	}
	var asked [2]atomic.Int32
	var turn atomic.Int32
	pair, err := tls.X509KeyPair(cert, key)
	must(t, err)
	proxy := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		Rewrite: func(r *httputil.ProxyRequest) {
			i := int(turn.Add(1)) % len(targets)
			asked[i].Add(1)
			r.SetURL(targets[i])
		},
	})
	proxy.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	proxy.StartTLS()
	defer proxy.Close()
	m, v := c.configurations(t)
	var configs []*admissionregv1.WebhookClientConfig
	for i := range m.Webhooks {
		configs = append(configs, &m.Webhooks[i].ClientConfig)
	}
	for i := range v.Webhooks {
		configs = append(configs, &v.Webhooks[i].ClientConfig)
	}
	for _, config := range configs {
		u, err := url.Parse(*config.URL)
		must(t, err)
		to := proxy.URL + u.Path
		config.URL, config.Service, config.CABundle = &to, nil, cert
	}
	must(t, c.Update(t.Context(), m))
	must(t, c.Update(t.Context(), v))
	for _, p := range managers {
		eventually(t, p.ready)
	}

	const limit = 10
	for round := range 5 {
		namespace := fmt.Sprint("round-", round)
		c.namespace(t, namespace, fmt.Sprint(limit))
		s := c.as(t, "", namespace)
		// The API server hears of the new addresses through a watch.
		eventually(t, func() error {
			_, err := s.create(t.Context(), good)
			return err
		})
		begin := time.Now()
		errs := atOnce(50, func(i int) error {
			_, err := s.create(t.Context(), good, named(fmt.Sprint("job-", i)))
			return err
		})
		refused := countErrors(errs, func(err error) bool { return refusedWith(err, errcode.JobQuota) })
		n := c.count(t, namespace)
		t.Logf("50 creates at once by two replicas for %d places: %d jobs, %d refused, in %s", limit, n, refused, time.Since(begin))
		if n < limit || n > limit+len(managers) || refused != 51-n {
			t.Errorf("%d jobs, %d refused: %v", n, refused, errors.Join(errs...))
		}
	}
	if a, b := asked[0].Load(), asked[1].Load(); a < 100 || b < 100 {
		t.Errorf("the replicas were asked %d and %d times", a, b)
	}
}
