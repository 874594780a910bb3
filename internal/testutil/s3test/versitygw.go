// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package s3test

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"batchcompute.dev/operator/internal/agentapi"
)

// Environment variables of tests with versitygw.
const (
	versitygwVariable = "VERSITYGW"
	requireVariable   = "CI_REQUIRE_INTEGRATION"
)

// Keys of the server that Versitygw starts.
const (
	AccessKey = "test-id"
	SecretKey = "planted-secret-key"
)

// Versitygw starts an S3 server with one bucket, on the loopback interface and in a directory of the test,
// and returns its store. A test is skipped if no server was built, unless all must run.
func Versitygw(t testing.TB, bucket string) agentapi.Store {
	t.Helper()
	return versitygw(t, bucket, false)
}

// VersitygwTLS is Versitygw with a certificate whose authority only the store's CA names.
func VersitygwTLS(t testing.TB, bucket string) agentapi.Store {
	t.Helper()
	return versitygw(t, bucket, true)
}

func versitygw(t testing.TB, bucket string, secure bool) agentapi.Store {
	t.Helper()
	program := os.Getenv(versitygwVariable)
	if program == "" {
		if os.Getenv(requireVariable) == "1" {
			t.Fatalf("%s is not set: run make integration", versitygwVariable)
		}
		t.Skipf("needs versitygw: %s=$(hack/tools/run.sh --path versitygw versitygw) go test", versitygwVariable)
	}
	root := t.TempDir()
	for _, dir := range []string{"data/" + bucket, "meta"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	address := freeAddress(t)
	args := []string{"--port", address, "--access", AccessKey, "--secret", SecretKey, "--quiet", "--keep-alive"}
	s := agentapi.Store{
		Endpoint: "http://" + address, Bucket: bucket, Region: "us-east-1", PathStyle: true,
		Credentials: Credentials(t, AccessKey, SecretKey, ""),
	}
	if secure {
		cert, key := certificate(t)
		s.Endpoint, s.CA = "https://"+address, string(cert)
		for name, text := range map[string][]byte{"cert": cert, "key": key} {
			if err := os.WriteFile(filepath.Join(root, name), text, 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, "--"+name, filepath.Join(root, name))
		}
	}
	run(t, address, exec.Command(program, append(args, "posix", "--sidecar", filepath.Join(root, "meta"), filepath.Join(root, "data"))...))
	return s
}

// run starts a server, waits until it listens at address, and ends it with the test. A test that fails shows what
// the server has printed.
func run(t testing.TB, address string, cmd *exec.Cmd) {
	t.Helper()
	name := filepath.Base(cmd.Path)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL) // it may have ended already
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", name, log.String())
		}
	})
	for range 600 {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s does not answer: %s", name, cmp.Or(log.String(), "it says nothing"))
}

// certificate returns a certificate for the loopback interface and for names, which signs itself, and its key, in
// PEM form.
func certificate(t testing.TB, names ...string) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: names, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

// freeAddress returns an address on the loopback interface that nobody listens on.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Credentials writes a directory as a Secret is mounted, and returns its path.
func Credentials(t testing.TB, id, key, token string) string {
	t.Helper()
	dir := t.TempDir()
	Rotate(t, dir, id, key, token)
	return dir
}

// Rotate replaces the files of Credentials.
func Rotate(t testing.TB, dir, id, key, token string) {
	t.Helper()
	version, err := os.MkdirTemp(dir, "..version-") //nolint:usetesting // it is part of a directory
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"secretId": id, "secretKey": key, "token": token} {
		if text == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(version, name), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(dir, "..new")
	if err := os.Symlink(filepath.Base(version), link); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link, filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
}
