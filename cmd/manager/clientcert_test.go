// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"k8s.io/client-go/util/keyutil"
)

type cryptoSigner = crypto.Signer

// clientCert makes a client certificate, in PEM, that ca vouches for.
func clientCert(t *testing.T, ca *x509.Certificate, signer crypto.Signer) (cert, key []byte) {
	t.Helper()
	key, err := keyutil.MakeEllipticPrivateKeyPEM()
	must(t, err)
	parsed, err := keyutil.ParsePrivateKeyPEM(key)
	must(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "api-server"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, ca, parsed.(crypto.Signer).Public(), signer)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key
}
