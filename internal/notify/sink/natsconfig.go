// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"batchcompute.dev/operator/internal/notify/event"
)

// maxSubject bounds a subject. Unit: bytes.
const maxSubject = 255

// NATSConfig describes a subject of NATS that a JetStream stream captures.
type NATSConfig struct {
	// Servers are 1 to 10 URLs of servers of one cluster: nats or tls, with a host and maybe a port, without a user. If
	// one has tls, TLS is used with all; otherwise if CA is set, or if a server asks for it.
	Servers []string
	// Subject is where events are published: at most 255 bytes, without wildcards, not of the server's own, which
	// start with $.
	Subject string
	Origin  event.Origin
	Auth    NATSAuth
	// CA are the certificate authorities of the servers, as PEM; "" means those of the system.
	CA string
	// Timeout bounds a round of publishing with its acknowledgements, and with the connection attempts before it: at
	// most a minute; 0 means 10 s.
	Timeout time.Duration
}

// NATSAuth is how a client of NATS proves who it is. At most one of Username, Token and Credentials is set; none means
// no proof. The user must have permission to publish to the subject and to subscribe to _INBOX.>, where acknowledgements
// arrive.
type NATSAuth struct {
	Username, Password string
	Token              string
	// Credentials is the content of a file with a JWT and its NKey seed (.creds), or of one with an NKey seed (.nk).
	Credentials string
}

// options sets the default timeout, and returns the client's options and what must not be in an error.
func (c *NATSConfig) options() (nats.Options, secrets, error) {
	var badTimeout error
	c.Timeout, badTimeout = timeoutOf(c.Timeout)
	security, badCA := tlsConfig(c.CA)
	if err := errors.Join(validServers(c.Servers), validSubject(c.Subject), c.Origin.Validate(), badTimeout, badCA); err != nil {
		return nats.Options{}, nil, err
	}
	o := nats.GetDefaultOptions()
	o.Name = clientName
	o.Servers = c.Servers
	o.TLSConfig = security
	o.Secure = c.CA != ""
	o.Timeout = c.Timeout / time.Duration(len(c.Servers)) // so that a server that hangs does not hide the others
	// A connection that is repaired by itself could lose events in the middle. A host is resolved by the dialer, which
	// has a context. A server can name no others.
	o.AllowReconnect = false
	o.SkipHostLookup = true
	o.IgnoreDiscoveredServers = true
	hidden, err := c.Auth.apply(&o)
	return o, hidden, err
}

func validServers(servers []string) error {
	if len(servers) == 0 || len(servers) > maxAddresses {
		return fmt.Errorf("servers must have 1 to %d URLs", maxAddresses)
	}
	for _, s := range servers {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "nats" && u.Scheme != "tls" || u.Hostname() == "" || u.User != nil ||
			strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
			return errors.New("servers must be URLs with nats or tls, a host and maybe a port, and no user")
		}
	}
	return nil
}

func validSubject(subject string) error {
	valid := len(subject) <= maxSubject && !strings.HasPrefix(subject, "$")
	for token := range strings.SplitSeq(subject, ".") {
		valid = valid && token != "" && !strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' || r == '*' || r == '>' })
	}
	if !valid {
		return fmt.Errorf("subject must be 1 to %d bytes of printable ASCII, with dots between its parts, without * and > and without a $ at its start", maxSubject)
	}
	return nil
}

// apply sets the proof in the options, and returns what must not be in an error.
func (a *NATSAuth) apply(o *nats.Options) (secrets, error) {
	n := 0
	for _, set := range []bool{a.Username != "", a.Token != "", a.Credentials != ""} {
		if set {
			n++
		}
	}
	switch {
	case n > 1:
		return nil, errors.New("a sink must have at most one of user name, token and credentials")
	case a.Password != "" && a.Username == "":
		return nil, errors.New("a password must have a user name")
	case a.Credentials != "":
		return a.applyCredentials(o)
	}
	o.User, o.Password, o.Token = a.Username, a.Password, a.Token
	return secrets{a.Password, a.Token}, nil
}

// applyCredentials sets an NKey, with or without a JWT.
func (a *NATSAuth) applyCredentials(o *nats.Options) (secrets, error) {
	invalid := errors.New("credentials must be the content of a file with a user's NKey seed, with or without a JWT before it")
	key, err := nkeys.ParseDecoratedUserNKey([]byte(a.Credentials))
	if err != nil {
		return nil, invalid // the error could show a part
	}
	seed, err := key.Seed()
	if err != nil {
		return nil, invalid
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, invalid
	}
	hidden := secrets{string(seed)}
	o.SignatureCB = key.Sign
	if !strings.Contains(a.Credentials, "NATS USER JWT") {
		o.Nkey = public
		return hidden, nil
	}
	token, err := nkeys.ParseDecoratedJWT([]byte(a.Credentials))
	if err != nil || token == "" {
		return nil, invalid
	}
	o.UserJWT = func() (string, error) { return token, nil }
	return append(hidden, token), nil
}
