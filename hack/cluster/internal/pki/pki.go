// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package pki makes the keys, certificates and kubeconfigs of one cluster.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// lifetime of everything made here. A demo cluster is not meant to get older.
const lifetime = 365 * 24 * time.Hour

// Authority is a cluster's certificate authority, whose files are in Dir.
type Authority struct {
	Dir  string
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

// Files below the directory of an [Authority].
const (
	CAFile            = "ca.crt"
	CAKeyFile         = "ca.key"
	ServiceAccountKey = "sa.key"
	ServiceAccountPub = "sa.pub"
)

// New makes an authority and the key pair that signs ServiceAccount tokens.
func New(dir, commonName string) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory for certificates: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the authority's key: %w", err)
	}
	tmpl, err := template(pkix.Name{CommonName: commonName})
	if err != nil {
		return nil, err
	}
	tmpl.IsCA, tmpl.BasicConstraintsValid = true, true
	tmpl.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("making the authority's certificate: %w", err)
	}
	a := &Authority{Dir: dir, key: key, pem: encode("CERTIFICATE", der)}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("reading the authority's certificate back: %w", err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	if err := a.write(CAFile, a.pem); err != nil {
		return nil, err
	}
	if err := a.write(CAKeyFile, keyPEM); err != nil {
		return nil, err
	}
	return a, a.serviceAccountKeys()
}

// serviceAccountKeys are RSA: the API server publishes them to token verifiers,
// all of which know RS256.
func (a *Authority) serviceAccountKeys() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("making the key for ServiceAccount tokens: %w", err)
	}
	pub, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("encoding the key for ServiceAccount tokens: %w", err)
	}
	if err := a.write(ServiceAccountKey, encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))); err != nil {
		return err
	}
	return a.write(ServiceAccountPub, encode("PUBLIC KEY", pub))
}

// Path returns the absolute path of one of the authority's files.
func (a *Authority) Path(file string) string { return filepath.Join(a.Dir, file) }

// Serving writes name.crt and name.key for a server that is reached under hosts,
// which are IP addresses and DNS names.
func (a *Authority) Serving(name string, subject pkix.Name, hosts ...string) error {
	_, _, err := a.issue(name, subject, hosts)
	return err
}

// Client writes name.crt and name.key for a client that the API server or a
// kubelet knows as user, a member of groups.
func (a *Authority) Client(name, user string, groups ...string) error {
	_, _, err := a.issue(name, pkix.Name{CommonName: user, Organization: groups}, nil)
	return err
}

// Kubeconfig writes a client's certificate and a kubeconfig for it to file. The
// context, the cluster and the user in it are called cluster.
func (a *Authority) Kubeconfig(file, cluster, server, user string, groups ...string) error {
	cert, key, err := a.issue("client-"+filepath.Base(file), pkix.Name{CommonName: user, Organization: groups}, nil)
	if err != nil {
		return err
	}
	err = clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{cluster: {Server: server, CertificateAuthorityData: a.pem}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{cluster: {ClientCertificateData: cert, ClientKeyData: key}},
		Contexts:       map[string]*clientcmdapi.Context{cluster: {Cluster: cluster, AuthInfo: cluster}},
		CurrentContext: cluster,
	}, file)
	if err != nil {
		return fmt.Errorf("writing the kubeconfig %s: %w", filepath.Base(file), err)
	}
	return nil
}

// issue signs a certificate; with hosts it also is one for a server.
func (a *Authority) issue(name string, subject pkix.Name, hosts []string) (cert, key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making the key of %s: %w", name, err)
	}
	tmpl, err := template(subject)
	if err != nil {
		return nil, nil, err
	}
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if len(hosts) > 0 {
		tmpl.ExtKeyUsage = append(tmpl.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, k.Public(), a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("signing the certificate of %s: %w", name, err)
	}
	cert = encode("CERTIFICATE", der)
	if key, err = encodeKey(k); err != nil {
		return nil, nil, err
	}
	if err := a.write(name+".crt", cert); err != nil {
		return nil, nil, err
	}
	return cert, key, a.write(name+".key", key)
}

func template(subject pkix.Name) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, fmt.Errorf("choosing a serial number: %w", err)
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial, Subject: subject,
		NotBefore: now.Add(-time.Hour), // another clock may be a little behind
		NotAfter:  now.Add(lifetime),
	}, nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a key: %w", err)
	}
	return encode("PRIVATE KEY", der), nil
}

func (a *Authority) write(name string, data []byte) error {
	if err := os.WriteFile(a.Path(name), data, 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}
