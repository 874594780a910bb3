// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"

	"batchcompute.dev/operator/internal/staging/attempt"
	"batchcompute.dev/operator/internal/staging/fault"
)

// Object is an entry of a listing.
type Object struct {
	Key  string
	Size int64
	ETag string
}

// List returns the objects under a prefix in the order of the server, which is that of the keys' bytes. It
// ends with the first error. A page is fetched when it is needed.
func (c *Client) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		after, more := "", true
		err := c.do(ctx, prefix, func(ctx context.Context, w *attempt.Watch) error {
			for o := range c.core.ListObjectsIter(ctx, c.bucket, minio.ListObjectsOptions{
				Prefix: prefix, Recursive: true, StartAfter: after, FetchOwner: new(false),
			}) {
				if o.Err != nil {
					return o.Err
				}
				w.Pause()
				more = yield(Object{Key: o.Key, Size: o.Size, ETag: o.ETag}, nil)
				if !more {
					return nil
				}
				after = o.Key
				w.Progress()
			}
			return ctx.Err()
		})
		if err != nil && more {
			yield(Object{}, err)
		}
	}
}

// Stat returns what the store says of an object.
func (c *Client) Stat(ctx context.Context, key string) (Info, error) { return c.stat(ctx, key, c.told) }

// Find is Stat with one request less for an object that is missing: it does not say whether the bucket is
// missing, too.
func (c *Client) Find(ctx context.Context, key string) (Info, error) {
	return c.stat(ctx, key, func(ctx context.Context, key string, err error) error {
		if minio.ToErrorResponse(err).StatusCode == http.StatusNotFound {
			return err
		}
		return c.told(ctx, key, err)
	})
}

func (c *Client) stat(ctx context.Context, key string, told func(context.Context, string, error) error) (Info, error) {
	var i Info
	err := c.do(ctx, key, func(ctx context.Context, _ *attempt.Watch) error {
		o, err := c.core.StatObject(ctx, c.bucket, key, minio.StatObjectOptions{})
		if err != nil {
			return told(ctx, key, err)
		}
		i = infoOf(o.Size, o.ETag, o.Metadata)
		return nil
	})
	return i, err
}

// told returns the error of a HEAD request, whose answer has no body and so no code, as a listing tells it.
func (c *Client) told(ctx context.Context, key string, err error) error {
	if answer := minio.ToErrorResponse(err); answer.StatusCode < 400 || answer.StatusCode >= 500 {
		return err
	}
	for o := range c.core.ListObjectsIter(ctx, c.bucket, minio.ListObjectsOptions{Prefix: key, Recursive: true, MaxKeys: 1}) {
		if o.Err != nil && minio.ToErrorResponse(o.Err).Code != "AccessDenied" {
			return o.Err
		}
		break
	}
	return err
}

// Range is a part of an object.
type Range struct {
	Key string
	// ETag is that of the listing: an object that has changed since is an error of kind Changed.
	ETag string
	// Size is that of the whole object; Offset and Length are what is read.
	Size, Offset, Length int64
	// Told gets what the store says of the object before its first byte is written; nil means that nobody
	// needs it.
	Told func(Info)
}

// Get copies a range to w, in order, and continues where a connection broke. buf is used for it. An error of
// w ends it at once.
func (c *Client) Get(ctx context.Context, r Range, w io.Writer, buf []byte) (Info, error) {
	var info Info
	var done int64
	err := c.do(ctx, r.Key, func(ctx context.Context, watch *attempt.Watch) error {
		body, i, err := c.open(ctx, r, done)
		if err != nil {
			return err
		}
		defer body.Close()
		info = i
		if r.Told != nil {
			r.Told(i)
		}
		watch.Resume()
		n, err := Copy(w, body, r.Length-done, buf, watch)
		done += n
		return err
	})
	return info, err
}

// open starts to read a range, less what is done.
func (c *Client) open(ctx context.Context, r Range, done int64) (io.ReadCloser, Info, error) {
	offset, end := r.Offset+done, r.Offset+r.Length
	var opts minio.GetObjectOptions
	ranged := r.Length > 0 && (offset > 0 || end < r.Size)
	if ranged {
		opts.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, end-1))
	}
	if r.ETag != "" {
		if err := opts.SetMatchETag(r.ETag); err != nil {
			return nil, Info{}, fault.Final(fault.Refused, r.Key, "the store's ETag cannot be used", "").Because(err)
		}
	}
	body, _, header, err := c.core.GetObject(ctx, c.bucket, r.Key, opts)
	if err != nil {
		return nil, Info{}, err
	}
	c.accepted.Store(true)
	if err := checkHeader(r, header, ranged, offset); err != nil {
		return nil, Info{}, errors.Join(err, body.Close())
	}
	return body, infoOf(r.Size, strings.Trim(header.Get("ETag"), `"`), header), nil
}

// checkHeader checks that an answer is the range that was asked for, of the object that was listed.
func checkHeader(r Range, h http.Header, ranged bool, offset int64) error {
	if etag := strings.Trim(h.Get("ETag"), `"`); r.ETag != "" && etag != "" && etag != r.ETag {
		return changed(r.Key)
	}
	answered := h.Get("Content-Range")
	switch {
	case ranged && answered == "" && offset > 0:
		return fault.Final(fault.Refused, r.Key, "the store does not support ranges", "")
	case ranged && answered != "" && !strings.HasPrefix(answered, fmt.Sprintf("bytes %d-", offset)):
		return fault.Temporary(fault.Corrupt, r.Key, "the store sent another range than it was asked for", "")
	case !ranged && h.Get("Content-Length") != "" && h.Get("Content-Length") != fmt.Sprint(r.Size):
		return changed(r.Key)
	}
	return nil
}

// ErrEnd says that the bytes ended in order, before there were n. It is an io.ErrUnexpectedEOF.
var ErrEnd = fmt.Errorf("%w: fewer bytes than expected", io.ErrUnexpectedEOF)

// Copy copies exactly n bytes, and tells watch. It fills buf before it writes: a connection with TLS returns few
// bytes at a time. The time that w takes is not the server's.
func Copy(w io.Writer, r io.Reader, n int64, buf []byte, watch *attempt.Watch) (done int64, err error) {
	for {
		chunk := buf[:min(int64(len(buf)), n-done)]
		got := 0
		// With less room than the connection's buffer the bytes would be copied twice.
		for err == nil && (got == 0 && len(chunk) > 0 || len(chunk)-got >= bufferBytes) {
			var more int
			more, err = r.Read(chunk[got:])
			if got += more; more > 0 {
				watch.Progress()
			}
		}
		if got > 0 {
			watch.Pause()
			if _, werr := w.Write(chunk[:got]); werr != nil {
				return done, attempt.Final(werr)
			}
			done += int64(got)
			watch.Resume()
		}
		switch {
		case done == n:
			return done, nil
		case err == io.EOF:
			return done, ErrEnd
		case err != nil:
			return done, err
		}
	}
}
