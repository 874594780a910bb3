// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"batchcompute.dev/operator/internal/sanitize"
)

const (
	defaultTimeout = 10 * time.Second
	maxTimeout     = time.Minute
	defaultBatch   = 100
	maxBatch       = 1000
	// maxAddresses is how many servers or brokers a sink can name.
	maxAddresses = 10
	// maxAnswer is how much of an answer's text is read or shown. Unit: bytes.
	maxAnswer = 1 << 10
	// clientName is how this program names itself to receivers.
	clientName = "batchcompute-operator"
)

// errClosed is the error of Send after Close.
var errClosed = errors.New("the sink is closed")

// timeoutOf returns the timeout that a configuration asks for.
func timeoutOf(d time.Duration) (time.Duration, error) {
	if d < 0 || d > maxTimeout {
		return 0, fmt.Errorf("the timeout must be at most %s", maxTimeout)
	}
	if d == 0 {
		return defaultTimeout, nil
	}
	return d, nil
}

// batchSizeOf returns the batch size that a configuration asks for.
func batchSizeOf(n int) (int, error) {
	if n < 0 || n > maxBatch {
		return 0, fmt.Errorf("the batch size must be at most %d", maxBatch)
	}
	if n == 0 {
		return defaultBatch, nil
	}
	return n, nil
}

// tlsConfig returns how TLS is used. ca are certificate authorities as PEM; "" means those of the system.
func tlsConfig(ca string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM([]byte(ca)) {
			return nil, errors.New("the certificate authorities must be PEM")
		}
	}
	return c, nil
}

// secrets are texts that must not be in an error.
type secrets []string

// clean returns a text from outside without the secrets, bounded and without control characters.
func (s secrets) clean(text string) string {
	for _, secret := range s {
		if len(secret) >= 4 { // shorter ones are parts of words
			text = strings.ReplaceAll(text, secret, "REDACTED")
		}
	}
	return sanitize.Text(text, maxAnswer)
}
