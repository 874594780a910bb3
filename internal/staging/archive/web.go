// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"batchcompute.dev/operator/internal/staging/attempt"
	"batchcompute.dev/operator/internal/staging/fault"
	"batchcompute.dev/operator/internal/staging/store"
)

// Source writes the compressed archive to w, from its start to its end, and continues where a connection
// broke.
type Source func(ctx context.Context, w io.Writer) error

// Stream returns a reader of a source. Close ends the transfer.
func Stream(ctx context.Context, s Source) io.ReadCloser {
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(s(ctx, w))
	}()
	return &stream{PipeReader: r, cancel: cancel, done: done}
}

// stream is the end of a pipe that is read.
type stream struct {
	*io.PipeReader

	cancel context.CancelFunc
	done   chan struct{}
}

// Close ends the transfer, and waits for its end.
func (s *stream) Close() error {
	s.cancel()
	err := s.PipeReader.Close()
	<-s.done
	return err
}

// Web returns the source at a URL, which is http or https. Its errors do not name the URL's user and query.
func Web(client *http.Client, address string, p attempt.Policy) Source {
	return func(ctx context.Context, w io.Writer) error {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fault.Final(fault.Name, "", "the address is not of the form https://HOST/PATH", "correct it")
		}
		d := &download{client: client, url: u, key: u.Scheme + "://" + u.Host + u.Path, buf: make([]byte, bufferBytes), size: -1}
		return p.Do(ctx, func(ctx context.Context, watch *attempt.Watch) error {
			err := d.try(ctx, w, watch)
			if err == nil {
				return nil
			}
			if attempt.IsFinal(err) {
				return err // the writer's
			}
			return fault.OfNetwork(d.key, err)
		})
	}
}

// download is the state of one transfer.
type download struct {
	client *http.Client
	url    *url.URL
	key    string
	buf    []byte
	// done is how much was written, size the length, -1 if the server does not tell, and version what the
	// server calls the contents.
	done, size int64
	version    string
}

// try reads from where the last attempt ended.
func (d *download) try(ctx context.Context, w io.Writer, watch *attempt.Watch) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url.String(), http.NoBody)
	if err != nil {
		return err
	}
	if d.done > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.done))
		if d.version != "" {
			request.Header.Set("If-Range", d.version)
		}
	}
	answer, err := d.client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if err := d.check(answer); err != nil {
		return err
	}
	watch.Resume()
	if d.size >= 0 {
		n, err := store.Copy(w, answer.Body, d.size-d.done, d.buf, watch)
		d.done += n
		return err
	}
	n, err := store.Copy(w, answer.Body, 1<<62, d.buf, watch)
	d.done += n
	if errors.Is(err, store.ErrEnd) {
		return nil // the server ended it in order
	}
	return err
}

// check checks an answer's status, and that it continues what is there.
func (d *download) check(answer *http.Response) error {
	status := answer.StatusCode
	switch {
	case d.done > 0 && status == http.StatusPartialContent:
		return nil
	case d.done > 0 && (status == http.StatusOK || status == http.StatusRequestedRangeNotSatisfiable):
		// The server does not resume, or has something else now. What was unpacked cannot be taken back.
		return attempt.Final(fault.Temporary(fault.Changed, d.key, "the server does not resume the transfer, or the file changed", "use a server that supports ranges"))
	case status == http.StatusOK:
		d.size = answer.ContentLength
		d.version = answer.Header.Get("ETag")
		if len(d.version) > 1 && d.version[0] == 'W' { // a weak one is not allowed
			d.version = ""
		}
		return nil
	case status >= 500, status == http.StatusTooManyRequests, status == http.StatusRequestTimeout:
		return fault.Temporary(fault.Busy, d.key, "the server answers "+answer.Status, "check its load")
	case status == http.StatusNotFound, status == http.StatusGone:
		return fault.Final(fault.NoObject, d.key, "the server answers "+answer.Status, "correct the address")
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return fault.Final(fault.Denied, d.key, "the server answers "+answer.Status, "use an address that needs no login, or a store")
	}
	return fault.Final(fault.Refused, d.key, "the server answers "+answer.Status, "correct the address")
}
