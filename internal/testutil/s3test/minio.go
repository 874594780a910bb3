// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package s3test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"batchcompute.dev/operator/internal/agentapi"
)

// minioVariable names the program of MinIO: see make data-minio. It is licensed under the AGPL, so it is only ever run
// as a process of its own, and nothing of it is linked.
const minioVariable = "MINIO"

// minioDomain is where MinIO finds a bucket in the host of a request. No server has such a name (RFC 2606).
const minioDomain = "s3.test"

// minioRegion is the one that MinIO takes signatures for.
const minioRegion = "ap-guangzhou"

// MinIO runs a test against MinIO four times, each with a server and an empty bucket of its own: over HTTP and HTTPS,
// and with the bucket in the host (virtual) and in the path of URLs. Names of hosts with a bucket are resolved by a
// proxy, which the environment variables HTTP_PROXY and HTTPS_PROXY name, so the test cannot be parallel. It is
// skipped if no server was built, since that takes minutes.
func MinIO(t *testing.T, bucket string, test func(t *testing.T, s agentapi.Store)) {
	t.Helper()
	program := os.Getenv(minioVariable)
	if program == "" {
		t.Skip("needs MinIO: make data-minio")
	}
	for _, scheme := range []string{"http", "https"} {
		for _, style := range []string{"virtual", "path"} {
			t.Run(scheme+"-"+style, func(t *testing.T) {
				s := startMinIO(t, program, scheme, bucket)
				if style == "virtual" {
					s.Endpoint, s.PathStyle = scheme+"://"+minioDomain, false
				}
				test(t, s)
			})
		}
	}
}

// startMinIO returns the store in path style.
func startMinIO(t *testing.T, program, scheme, bucket string) agentapi.Store {
	t.Helper()
	root, address := t.TempDir(), freeAddress(t)
	certs := filepath.Join(root, "certs")
	if err := os.Mkdir(certs, 0o700); err != nil {
		t.Fatal(err)
	}
	s := agentapi.Store{
		Endpoint: scheme + "://" + address, Bucket: bucket, Region: minioRegion, PathStyle: true,
		Credentials: Credentials(t, AccessKey, SecretKey, ""),
	}
	transport, err := minio.DefaultTransport(scheme == "https")
	if err != nil {
		t.Fatal(err)
	}
	if scheme == "https" {
		cert, key := certificate(t, minioDomain, "*."+minioDomain)
		s.CA = string(cert)
		transport.TLSClientConfig.InsecureSkipVerify = true // it is a server of the test, whose bucket is made
		for name, text := range map[string][]byte{"public.crt": cert, "private.key": key} {
			if err := os.WriteFile(filepath.Join(certs, name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd := exec.Command(program, "server", "--quiet", "--address", address, "--certs-dir", certs, filepath.Join(root, "data"))
	cmd.Env = append(os.Environ(), "MINIO_ROOT_USER="+AccessKey, "MINIO_ROOT_PASSWORD="+SecretKey, "MINIO_DOMAIN="+minioDomain,
		"MINIO_SITE_REGION="+minioRegion, "MINIO_BROWSER=off", "MINIO_UPDATE=off", "MINIO_CALLHOME_ENABLE=off", "HOME="+root)
	run(t, address, cmd)
	api, err := minio.New(address, &minio.Options{
		Creds: credentials.NewStaticV4(AccessKey, SecretKey, ""), Secure: scheme == "https", Region: minioRegion, Transport: transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	// It listens before it is ready; the library tries again meanwhile.
	if err := api.MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	proxy := Serve(t, &resolver{address: address, next: Proxy(t, s.Endpoint)})
	for name, value := range map[string]string{"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "NO_PROXY": "", "no_proxy": ""} {
		t.Setenv(name, value)
	}
	return s
}

// resolver is a proxy to whom each name below minioDomain is that of one server, at address.
type resolver struct {
	address string
	next    http.Handler
}

// ServeHTTP passes on a request, or the bytes of a connection.
func (p *resolver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	if host != minioDomain && !strings.HasSuffix(host, "."+minioDomain) {
		http.Error(w, "no such host", http.StatusBadGateway)
		return
	}
	if r.Method != http.MethodConnect {
		p.next.ServeHTTP(w, r)
		return
	}
	server, err := (&net.Dialer{}).DialContext(context.WithoutCancel(r.Context()), "tcp", p.address)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer server.Close()
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	if _, err := io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(server, buffered) // either side may close the connection
		_ = server.Close()
	}()
	_, _ = io.Copy(client, server)
}
