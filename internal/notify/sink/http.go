// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"

	"batchcompute.dev/operator/internal/notify/event"
	"batchcompute.dev/operator/internal/retry"
)

const (
	// maxRequest bounds the body of a request with several events. Unit: bytes.
	maxRequest = 1 << 20
	// maxHeader bounds an answer's headers. Unit: bytes.
	maxHeader = 16 << 10
	// maxRetryAfter bounds the delay that a receiver can ask for.
	maxRetryAfter = time.Hour
)

var (
	errGuarded = errors.New("the address is not public, and a sink that a user names must be")
	// errTooLarge is never returned by Send, as a single event is sent whatever its size.
	errTooLarge = retry.AsTerminal(errors.New("the request is too large"))
)

// Config describes a receiver that is reached by HTTP.
type Config struct {
	// URL is where events are posted: http or https, without a user.
	URL    string
	Format Format
	Origin event.Origin
	Auth   Auth
	// CA are the certificate authorities of the receiver, as PEM; "" means those of the system.
	CA string
	// Timeout bounds a request with its answer: at most a minute; 0 means 10 s.
	Timeout time.Duration
	// BatchSize is how many events a request of Batch or Vendor has: at most 1,000; 0 means 100.
	BatchSize int
	// Guard is set for sinks that users name. They must be https, and no proxy is used, as it would resolve the name.
	// Without it the proxy of the environment is used.
	Guard *Guard
}

// HTTP is a receiver that is reached by HTTP. It may be used by several goroutines.
type HTTP struct {
	config  Config
	url     *url.URL
	secrets secrets
	client  *http.Client
	now     func() time.Time
}

var _ Sink = (*HTTP)(nil)

// NewHTTP returns a sink. now is the clock, for signatures and Retry-After. An error says what is wrong with the
// configuration, and has nothing secret in it.
func NewHTTP(c Config, now func() time.Time) (*HTTP, error) {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("the URL must be http or https, with a host and without a user and a fragment")
	case c.Guard != nil && u.Scheme != "https":
		return nil, errors.New("the URL must be https")
	case c.Format != Structured && c.Format != Binary && !c.Format.many():
		return nil, errors.New("the format must be structured, binary, batch or batchcompute")
	}
	var badTimeout, badSize error
	c.Timeout, badTimeout = timeoutOf(c.Timeout)
	c.BatchSize, badSize = batchSizeOf(c.BatchSize)
	if err := errors.Join(badTimeout, badSize, c.Auth.validate(c.Format), c.Origin.Validate()); err != nil {
		return nil, err
	}
	if !c.Format.many() {
		c.BatchSize = 1
	}
	transport, err := c.transport()
	if err != nil {
		return nil, err
	}
	return &HTTP{
		config: c, url: u, now: now,
		secrets: append(c.Auth.secrets(), c.URL, u.RequestURI(), u.RawQuery, strings.Trim(u.Path, "/")),
		client: &http.Client{Transport: transport, Timeout: c.Timeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

func (c *Config) transport() (*http.Transport, error) {
	security, err := tlsConfig(c.CA)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: c.Timeout}
	t := &http.Transport{
		DialContext: dialer.DialContext, ForceAttemptHTTP2: true, TLSHandshakeTimeout: c.Timeout,
		MaxConnsPerHost: 4, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute,
		MaxResponseHeaderBytes: maxHeader, DisableCompression: true,
		TLSClientConfig: security,
	}
	if c.Guard != nil {
		dialer.Control = c.Guard.Control
	} else {
		proxy := httpproxy.FromEnvironment().ProxyFunc()
		t.Proxy = func(r *http.Request) (*url.URL, error) { return proxy(r.URL) }
	}
	return t, nil
}

// Close closes idle connections.
func (h *HTTP) Close() { h.client.CloseIdleConnections() }

// Send is that of Sink. A request that the receiver refuses is sent again in halves.
func (h *HTTP) Send(ctx context.Context, events []event.Event) error {
	for sent := 0; sent < len(events); {
		n := min(h.config.BatchSize, len(events)-sent)
		accepted, err := inHalves(events[sent:sent+n], func(events []event.Event) (int, error) { return h.sendBatch(ctx, events) })
		sent += accepted
		if err != nil {
			return &sendError{error: err, sent: sent}
		}
	}
	return nil
}

// sendBatch sends events in one request. It returns how many were acknowledged: all or none.
func (h *HTTP) sendBatch(ctx context.Context, events []event.Event) (int, error) {
	header, body, err := h.config.Format.encode(h.config.Origin, events)
	if err != nil {
		return 0, retry.AsTerminal(err)
	}
	if len(events) > 1 && len(body) > maxRequest {
		return 0, errTooLarge
	}
	if err := h.post(ctx, header, body, events); err != nil {
		return 0, err
	}
	return len(events), nil
}

// post sends one request.
func (h *HTTP) post(ctx context.Context, header http.Header, body []byte, events []event.Event) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.config.URL, bytes.NewReader(body))
	if err != nil {
		return errors.New("the request is not valid") // the URL was parsed before; the error would show it
	}
	r.Header = header
	r.Header.Set("User-Agent", clientName)
	h.config.Auth.apply(r, events, body, h.now())
	answer, err := h.client.Do(r)
	if err != nil {
		return h.noAnswer(ctx, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	switch status := answer.StatusCode; {
	case status >= 200 && status < 300:
		return nil // the rest of the body does not matter
	case err != nil && ctx.Err() != nil:
		return h.noAnswer(ctx, err)
	}
	return h.refusal(answer, text)
}

// noAnswer returns an error without the URL, which may hold a secret.
func (h *HTTP) noAnswer(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("posting to %s: %w", h.url.Host, ctx.Err())
	}
	if u := (*url.Error)(nil); errors.As(err, &u) {
		if u.Timeout() {
			return fmt.Errorf("posting to %s: no answer within %s", h.url.Host, h.config.Timeout)
		}
		err = u.Err
	}
	return fmt.Errorf("posting to %s: %s", h.url.Host, h.secrets.clean(err.Error()))
}

// refusal returns the error for an answer that is no success.
func (h *HTTP) refusal(answer *http.Response, body []byte) error {
	status := answer.StatusCode
	text := fmt.Sprintf("%s answered %d", h.url.Host, status)
	if status >= 300 && status < 400 {
		if to, err := answer.Location(); err == nil {
			text += ", a redirect to " + h.secrets.clean(to.Scheme+"://"+to.Host) + ", which is not followed: set the URL to where it leads"
		}
	} else if s := h.secrets.clean(string(body)); s != "" {
		text += ": " + s
	}
	err := errors.New(text)
	if isFinal(status) {
		return retry.AsTerminal(err)
	}
	if delay, ok := retryAfter(answer.Header.Get("Retry-After"), h.now()); ok {
		return retry.After(delay, err)
	}
	return err
}

// isFinal reports whether an answer refuses the events themselves. Credentials, a path or a receiver's state can be put
// right, so these answers are tried again.
func isFinal(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusNotAcceptable, http.StatusGone, http.StatusRequestEntityTooLarge,
		http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity, http.StatusRequestHeaderFieldsTooLarge:
		return true
	}
	return false
}

// retryAfter returns the delay in a Retry-After header, which has seconds or a date; false if it has neither.
func retryAfter(value string, now time.Time) (time.Duration, bool) {
	if seconds, err := strconv.ParseInt(value, 10, 64); err == nil && seconds >= 0 {
		return time.Duration(min(seconds, int64(maxRetryAfter/time.Second))) * time.Second, true
	}
	if date, err := http.ParseTime(value); err == nil {
		return min(max(date.Sub(now), 0), maxRetryAfter), true
	}
	return 0, false
}
