// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"iter"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/minio/minio-go/v7"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/staging/attempt"
	"batchcompute.dev/operator/internal/staging/crc"
	"batchcompute.dev/operator/internal/staging/fault"
)

// Source is where the bytes of an object, or of a part, come from.
type Source struct {
	// Name is the path of the file, for errors.
	Name string
	File io.ReaderAt
	// Offset and Size are what is sent.
	Offset, Size int64
}

// Put stores an object in one request, and returns the checksum of what was sent.
func (c *Client) Put(ctx context.Context, key string, s Source, m Meta) (uint64, error) {
	var sum uint64
	var best atomic.Int64
	opts := minio.PutObjectOptions{UserMetadata: m.user(), DisableContentSha256: true}
	err := c.do(ctx, key, func(ctx context.Context, w *attempt.Watch) error {
		b, sum256, err := c.newBody(s, w, &best)
		if err != nil {
			return err
		}
		_, err = c.core.PutObject(ctx, c.bucket, key, b, s.Size, "", sum256, opts)
		sum, err = b.verdict(err)
		return err
	})
	return sum, err
}

// Part is a part that was stored.
type Part struct {
	Number int
	ETag   string
	CRC    uint64
}

// Begin starts an upload in parts. If an answer got lost it may have started several: then other is true, and
// AbortOthers removes them.
func (c *Client) Begin(ctx context.Context, key string, m Meta) (id string, other bool, err error) {
	tries := 0
	err = c.do(ctx, key, func(ctx context.Context, _ *attempt.Watch) (err error) {
		tries++
		id, err = c.core.NewMultipartUpload(ctx, c.bucket, key, minio.PutObjectOptions{UserMetadata: m.user()})
		return err
	})
	return id, tries > 1, err
}

// PutPart stores a part; numbers start with 1.
func (c *Client) PutPart(ctx context.Context, key, id string, number int, s Source) (Part, error) {
	p := Part{Number: number}
	var best atomic.Int64
	err := c.do(ctx, key, func(ctx context.Context, w *attempt.Watch) error {
		b, sum256, err := c.newBody(s, w, &best)
		if err != nil {
			return err
		}
		stored, err := c.core.PutObjectPart(ctx, c.bucket, key, id, number, b, s.Size,
			minio.PutObjectPartOptions{Sha256Hex: sum256, DisableContentSha256: true})
		p.ETag = stored.ETag
		p.CRC, err = b.verdict(err)
		return err
	})
	return p, err
}

// Complete makes an object of the parts, which are in the order of their numbers. If an earlier answer got
// lost, the upload is gone: then the object's size tells whether it worked.
func (c *Client) Complete(ctx context.Context, key, id string, parts []Part, size int64) error {
	all := make([]minio.CompletePart, len(parts))
	for i, p := range parts {
		all[i] = minio.CompletePart{PartNumber: p.Number, ETag: p.ETag}
	}
	tries := 0
	return c.do(ctx, key, func(ctx context.Context, w *attempt.Watch) error {
		tries++
		w.Allow()
		_, err := c.core.CompleteMultipartUpload(ctx, c.bucket, key, id, all, minio.PutObjectOptions{})
		if tries > 1 && code(err) == "NoSuchUpload" {
			switch o, statErr := c.core.StatObject(ctx, c.bucket, key, minio.StatObjectOptions{}); {
			case statErr == nil && o.Size == size:
				return nil
			case statErr != nil && minio.ToErrorResponse(statErr).StatusCode != http.StatusNotFound:
				return statErr // whether it worked is not known yet
			}
		}
		if code(err) == "NoSuchUpload" {
			return fault.Temporary(fault.Changed, key, "somebody else ended the upload of this object", "give each instance a destination of its own").Because(err)
		}
		return err
	})
}

// Abort ends an upload without an object. One that is gone is no error.
func (c *Client) Abort(ctx context.Context, key, id string) error {
	return c.do(ctx, key, func(ctx context.Context, _ *attempt.Watch) error {
		if err := c.core.AbortMultipartUpload(ctx, c.bucket, key, id); code(err) != "NoSuchUpload" {
			return err
		}
		return nil
	})
}

// AbortOthers ends the uploads of a key, except keep.
func (c *Client) AbortOthers(ctx context.Context, key, keep string) error {
	var others []string
	for u, err := range c.Uploads(ctx, key) {
		if err != nil {
			return err
		}
		if u.Key == key && u.ID != keep {
			others = append(others, u.ID)
		}
	}
	for _, id := range others {
		if err := c.Abort(ctx, key, id); err != nil {
			return err
		}
	}
	return nil
}

// Upload is an upload that was started and not completed.
type Upload struct{ Key, ID string }

// Uploads lists the uploads under a prefix. It ends with the first error.
func (c *Client) Uploads(ctx context.Context, prefix string) iter.Seq2[Upload, error] {
	return func(yield func(Upload, error) bool) {
		key, id := "", ""
		for {
			var page minio.ListMultipartUploadsResult
			err := c.do(ctx, prefix, func(ctx context.Context, _ *attempt.Watch) (err error) {
				page, err = c.core.ListMultipartUploads(ctx, c.bucket, prefix, key, id, "", 0)
				return err
			})
			if err != nil {
				yield(Upload{}, err)
				return
			}
			for _, u := range page.Uploads {
				if !yield(Upload{Key: u.Key, ID: u.UploadID}, nil) {
					return
				}
			}
			if !page.IsTruncated || page.NextKeyMarker == key && page.NextUploadIDMarker == id {
				return
			}
			key, id = page.NextKeyMarker, page.NextUploadIDMarker
		}
	}
}

// code returns the code of a server's answer; "" for another error and for nil.
func code(err error) string {
	answer, _ := errors.AsType[minio.ErrorResponse](err)
	return answer.Code
}

// body is what one attempt sends. It hides that the file could be read again, since only this package
// repeats requests.
type body struct {
	name  string
	r     *io.SectionReader
	watch *attempt.Watch

	// best is how much the attempts before have sent at most.
	best *atomic.Int64

	// A connection may still read while the answer is there already.
	mu   sync.Mutex
	sum  uint64
	sent int64
	err  error
}

// newBody returns the body of an attempt, and its SHA-256 for the signature. Over TLS that is empty: what is
// sent is protected already. The library would sign a body in chunks instead, which not every store
// understands, and which takes more memory.
func (c *Client) newBody(s Source, w *attempt.Watch, best *atomic.Int64) (b *body, sum256 string, err error) {
	if !c.secure {
		w.Pause()
		if sum256, err = sumSHA256(io.NewSectionReader(s.File, s.Offset, s.Size)); err != nil {
			return nil, "", attempt.Final(fault.OfFile(s.Name, err))
		}
		w.Resume()
	}
	return &body{name: s.Name, r: io.NewSectionReader(s.File, s.Offset, s.Size), watch: w, best: best}, sum256, nil
}

// buffers are for sumSHA256.
var buffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// sumSHA256 returns the SHA-256 in hexadecimal digits.
func sumSHA256(r io.Reader) (string, error) {
	buf := buffers.Get().(*[64 << 10]byte) //nolint:forcetypeassert // the pool has no other
	defer buffers.Put(buf)
	hash := sha256.New()
	_, err := io.CopyBuffer(hash, r, buf[:])
	return hex.EncodeToString(hash.Sum(nil)), err
}

// Read reads the file, and notes its errors: the library does not return them as they are.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, err := b.r.Read(p)
	if n > 0 {
		b.sum = crc.Update(b.sum, p[:n])
		b.sent += int64(n)
		if b.sent > b.best.Load() {
			b.best.Store(b.sent)
			b.watch.Progress()
		} else {
			b.watch.Alive()
		}
	}
	switch {
	case err == nil:
	case err != io.EOF:
		b.err = fault.OfFile(b.name, err)
	case b.sent < b.r.Size():
		b.err = ChangedFile(b.name)
	}
	return n, err
}

// verdict returns the checksum of what was sent, and the error of an attempt whose request returned err.
func (b *body) verdict(err error) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return 0, attempt.Final(b.err)
	}
	return b.sum, err
}

// ChangedFile is the error of a file that changed while it was read.
func ChangedFile(name string) error {
	return &fault.Error{
		Kind: fault.Changed, Class: agentapi.Permanent, Key: name, Reason: "the file changed while it was uploaded",
		Advice: "let no process write to it after the command has ended",
	}
}
