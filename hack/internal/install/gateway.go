// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/internal/testutil/freeport"
)

// Names of what config/gateway makes.
const (
	gatewayService    = "batchcompute-gateway"
	gatewaySecret     = "batchcompute-gateway-tls"
	gatewayDeployment = "deployment/batchcompute-gateway"
	gatewayPort       = "443"
	gatewayClientRole = "config/gateway/client_role.yaml"
)

// GatewayPart is the name of a gateway that runs beside the cluster, on the host.
const GatewayPart = "gateway"

// certificateLife is how long the certificate is valid that a gateway gets which has none.
const certificateLife = 365 * 24 * time.Hour

// Gateway is how programs on this machine reach the gateway of a cluster.
type Gateway struct {
	// Endpoint is host and port of its API, which is served over HTTPS.
	Endpoint string
	// CA is whom to trust: a certificate in PEM.
	CA []byte

	end func()
}

// Close ends what leads to the gateway.
func (g *Gateway) Close() {
	if g.end != nil {
		g.end()
	}
}

// Gateway returns the way to the gateway, which was installed by this program: the address of its Service where this
// machine has a route there, else a port of this machine that kubectl forwards.
func (c *Cluster) Gateway(ctx context.Context) (*Gateway, error) {
	if c.besideGateway != nil {
		return c.besideGateway, nil
	}
	kube, err := c.Client()
	if err != nil {
		return nil, err
	}
	secret := &corev1.Secret{}
	if err := kube.Get(ctx, client.ObjectKey{Namespace: Namespace, Name: gatewaySecret}, secret); err != nil {
		return nil, fmt.Errorf("reading the gateway's certificate: %w", err)
	}
	g := &Gateway{CA: secret.Data[corev1.TLSCertKey]}
	if c.target.Cluster != "local" {
		g.Endpoint, g.end, err = c.forward(ctx)
		return g, err
	}
	service, err := c.gatewayAddress(ctx, kube)
	g.Endpoint = net.JoinHostPort(service, gatewayPort)
	return g, err
}

// gatewayAddress returns the IP address of the gateway's Service.
func (c *Cluster) gatewayAddress(ctx context.Context, kube client.Client) (string, error) {
	service := &corev1.Service{}
	if err := kube.Get(ctx, client.ObjectKey{Namespace: Namespace, Name: gatewayService}, service); err != nil {
		return "", fmt.Errorf("reading the gateway's Service: %w", err)
	}
	return service.Spec.ClusterIP, nil
}

// forwarded is what kubectl port-forward prints once it listens.
var forwarded = regexp.MustCompile(`^Forwarding from (127\.0\.0\.1:\d+) ->`)

// forward forwards a port of this machine to the gateway's Service. It returns the address, and what ends it.
func (c *Cluster) forward(ctx context.Context) (string, func(), error) {
	cmd := c.Kubectl(ctx, "-n", Namespace, "port-forward", "service/"+gatewayService, "--address=127.0.0.1", ":"+gatewayPort)
	cmd.Stderr = c.target.Out
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return "", nil, fmt.Errorf("forwarding a port to the gateway: %w", err)
	}
	end := func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	// Only the first line is read: the rest, a short line for each connection, stays in the pipe.
	line, err := bufio.NewReader(out).ReadString('\n')
	match := forwarded.FindStringSubmatch(line)
	if err != nil || match == nil {
		end()
		return "", nil, fmt.Errorf("forwarding a port to the gateway: kubectl printed %q", line)
	}
	return match[1], end, nil
}

// giveCertificate gives the gateway a certificate unless it has one: for the names of its Service, and for the
// addresses by which this machine reaches it. The Pods of the gateway wait for it.
func (c *Cluster) giveCertificate(ctx context.Context) error {
	kube, err := c.Client()
	if err != nil {
		return err
	}
	address, err := c.gatewayAddress(ctx, kube)
	if err != nil {
		return err
	}
	cert, key, err := newCertificate(time.Now(), address)
	if err != nil {
		return err
	}
	err = kube.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: gatewaySecret}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{corev1.TLSCertKey: cert, corev1.TLSPrivateKeyKey: key},
	})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating the gateway's certificate: %w", err)
	}
	return nil
}

// newCertificate returns a certificate and its key in PEM, for the names of the gateway's Service, for this machine
// as it calls itself, and for further addresses. It is its own authority.
func newCertificate(now time.Time, addresses ...string) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, fmt.Errorf("making a serial number: %w", err)
	}
	host := gatewayService + "." + Namespace
	template := &x509.Certificate{
		SerialNumber: serial, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateLife),
		DNSNames: []string{host + ".svc", host, "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	for _, a := range addresses {
		if ip := net.ParseIP(a); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, fmt.Errorf("making a certificate: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("writing a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), nil
}

// gatewayBeside runs the gateway on the host, with the rights of the kubeconfig.
func (c *Cluster) gatewayBeside(ctx context.Context) error {
	if err := c.show(c.Kubectl(ctx, "apply", "--server-side", "-f", gatewayClientRole), "kubectl apply --server-side -f "+gatewayClientRole); err != nil {
		return err
	}
	gateway, err1 := filepath.Abs("bin/gateway")
	catalog, err2 := c.catalogFile()
	addresses, err3 := freeport.Addresses(3)
	cert, key, err4 := newCertificate(time.Now())
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	dir := filepath.Join(filepath.Dir(c.Kubeconfig), GatewayPart)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making a directory for the gateway's certificate: %w", err)
	}
	err := errors.Join(os.WriteFile(filepath.Join(dir, corev1.TLSCertKey), cert, 0o600), os.WriteFile(filepath.Join(dir, corev1.TLSPrivateKeyKey), key, 0o600))
	if err != nil {
		return fmt.Errorf("writing the gateway's certificate: %w", err)
	}
	api, probes, metrics := addresses[0], addresses[1], addresses[2]
	if err := c.run(exec.CommandContext(ctx, program, "run", "--name", c.target.Name, GatewayPart, "--", gateway,
		"--kubeconfig", c.Kubeconfig, "--catalog", catalog, "--tls-cert-dir", dir,
		"--bind-address", api, "--health-probe-bind-address", probes, "--metrics-bind-address", metrics)); err != nil {
		return err
	}
	c.besideGateway = &Gateway{Endpoint: api, CA: cert}
	return c.waitForProbe(ctx, "the gateway", "http://"+probes+"/readyz")
}
