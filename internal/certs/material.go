// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

const (
	caLife      = 10 * 365 * 24 * time.Hour
	servingLife = 90 * 24 * time.Hour

	// backdate is how far in the past a certificate begins, for clocks that differ.
	backdate = 5 * time.Minute

	// settle is how old a new authority must be before anything is served that only
	// it vouches for: the time that API servers have to hear of the new bundle.
	settle = time.Minute

	caKeyKey = "ca.key" // beside the three keys of a kubernetes.io/tls Secret with its authority
	caKey    = "ca.crt"
)

// material is the content of the Secret. Whatever the Secret lacks or has in a
// form that cannot be used is nil.
type material struct {
	// authorities are the certificates that vouch for serving pairs, the one that
	// signs first, its predecessors behind it.
	authorities []*x509.Certificate
	caKey       crypto.Signer
	serving     *tls.Certificate
}

// parseMaterial reads what a Secret holds. It has no error: what is invalid
// counts as missing, and what is missing is created again.
func parseMaterial(data map[string][]byte) material {
	var m material
	m.authorities, _ = certutil.ParseCertsPEM(data[caKey])
	m.authorities = slices.DeleteFunc(m.authorities, func(c *x509.Certificate) bool { return !c.IsCA })
	if key, err := keyutil.ParsePrivateKeyPEM(data[caKeyKey]); err == nil {
		m.caKey, _ = key.(crypto.Signer)
	}
	if pair, err := tls.X509KeyPair(data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey]); err == nil {
		m.serving = &pair
	}
	return m
}

// data is the inverse of parseMaterial.
func (m material) data() (map[string][]byte, error) {
	signer, err := keyutil.MarshalPrivateKeyToPEM(m.caKey)
	if err != nil {
		return nil, fmt.Errorf("encoding the authority's key: %w", err)
	}
	key, err := keyutil.MarshalPrivateKeyToPEM(m.serving.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("encoding the serving key: %w", err)
	}
	cert, err := certutil.EncodeCertificates(m.serving.Leaf)
	if err != nil {
		return nil, fmt.Errorf("encoding the serving certificate: %w", err)
	}
	bundle, err := m.bundle()
	return map[string][]byte{
		caKey: bundle, caKeyKey: signer, corev1.TLSCertKey: cert, corev1.TLSPrivateKeyKey: key,
	}, err
}

// bundle is the authorities in PEM.
func (m material) bundle() ([]byte, error) {
	b, err := certutil.EncodeCertificates(m.authorities...)
	if err != nil {
		return nil, fmt.Errorf("encoding the authorities: %w", err)
	}
	return b, nil
}

// renew returns the material that should be there at the time now, and whether it
// differs from m. names are the host names and addresses to serve; those that the
// pair serves already are kept, so that replicas with different names converge.
// injected is the bundle that the API server is known to use.
//
// A new authority never vouches for what is served at once: it joins the bundle
// first, and only when it is seen in injected and has settled is a pair made from
// it. Its predecessors stay in the bundle until whatever they signed has expired.
// Only where there is nothing usable to serve is a pair made without waiting.
func (m material) renew(now time.Time, names []string, injected []byte) (material, bool, error) {
	next := m
	var err error
	if !m.canSign(now) || due(m.authorities[0], now) {
		if next, err = m.withNewAuthority(now); err != nil {
			return m, false, err
		}
	}
	ca := next.authorities[0]
	issuedAt := ca.NotBefore.Add(backdate)
	next.authorities = slices.DeleteFunc(slices.Clone(next.authorities), func(c *x509.Certificate) bool {
		return c != ca && (now.After(c.NotAfter) || now.After(issuedAt.Add(servingLife)))
	})

	usable := next.serves(now, names)
	stale := usable && (due(m.serving.Leaf, now) || m.serving.Leaf.CheckSignatureFrom(ca) != nil)
	trusted := bytes.Contains(injected, encode(ca)) && !now.Before(issuedAt.Add(settle))
	if !usable || stale && trusted {
		if m.serving != nil {
			names = union(hosts(m.serving.Leaf), names)
		}
		if next.serving, err = next.newPair(now, names); err != nil {
			return m, false, err
		}
	}
	changed := next.serving != m.serving || !slices.Equal(next.authorities, m.authorities)
	return next, changed, nil
}

// nextRenewal is when renew will next have something to do, if nothing happens before.
func (m material) nextRenewal(now time.Time) time.Duration {
	at := renewalTime(m.serving.Leaf)
	if ca := m.authorities[0]; renewalTime(ca).Before(at) {
		at = renewalTime(ca)
	}
	if m.serving.Leaf.CheckSignatureFrom(m.authorities[0]) != nil {
		at = now.Add(settle)
	}
	// Looking in twice a day costs nothing, and is right even where the machine slept.
	return min(max(at.Sub(now), settle), 12*time.Hour)
}

// canSign tells whether the first authority is one and its key is there.
func (m material) canSign(now time.Time) bool {
	if len(m.authorities) == 0 || m.caKey == nil {
		return false
	}
	ca := m.authorities[0]
	pub, ok := m.caKey.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && pub.Equal(ca.PublicKey) && validAt(ca, now)
}

// serves tells whether the pair can be served: it is valid now, for every name, and
// one of the authorities vouches for it.
func (m material) serves(now time.Time, names []string) bool {
	if m.serving == nil {
		return false
	}
	roots := x509.NewCertPool()
	for _, c := range m.authorities {
		roots.AddCert(c)
	}
	_, err := m.serving.Leaf.Verify(x509.VerifyOptions{
		Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err == nil && !slices.ContainsFunc(names, func(n string) bool {
		return m.serving.Leaf.VerifyHostname(n) != nil
	})
}

// withNewAuthority returns m with a new authority before those that are still valid.
func (m material) withNewAuthority(now time.Time) (material, error) {
	key, err := newKey()
	if err != nil {
		return m, err
	}
	cert, err := sign(&x509.Certificate{
		Subject:               pkix.Name{CommonName: "batchcompute-webhook-ca"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}, key, nil, key)
	if err != nil {
		return m, err
	}
	m.authorities, m.caKey = append([]*x509.Certificate{cert}, m.authorities...), key
	return m, nil
}

// newPair makes a serving pair for names, signed by the first authority.
func (m material) newPair(now time.Time, names []string) (*tls.Certificate, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "batchcompute-webhook"},
		NotBefore:   now.Add(-backdate),
		NotAfter:    now.Add(servingLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, n)
		}
	}
	leaf, err := sign(tmpl, key, m.authorities[0], m.caKey)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return key, nil
}

// sign makes a certificate of tmpl for key. A nil parent makes it self-signed.
func sign(tmpl *x509.Certificate, key *ecdsa.PrivateKey, parent *x509.Certificate, signer crypto.Signer) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("making a serial number: %w", err)
	}
	tmpl.SerialNumber = serial
	if parent == nil {
		parent = tmpl
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate of %s: %w", tmpl.Subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

func validAt(c *x509.Certificate, now time.Time) bool {
	return !now.Before(c.NotBefore) && now.Before(c.NotAfter)
}

// renewalTime is when two thirds of a certificate's life are over.
func renewalTime(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) / 3 * 2)
}

func due(c *x509.Certificate, now time.Time) bool { return !now.Before(renewalTime(c)) }

// hosts are the names and addresses that a certificate is for.
func hosts(c *x509.Certificate) []string {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

func union(a, b []string) []string {
	for _, s := range b {
		if !slices.Contains(a, s) {
			a = append(a, s)
		}
	}
	return a
}

func encode(c *x509.Certificate) []byte {
	b, _ := certutil.EncodeCertificates(c) // the only error is that of a failing writer
	return b
}
