// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"io"
	"sync"

	"batchcompute.dev/operator/internal/errcode"
)

// Budget bounds the memory that requests take, from their bodies to what these are decoded to. One source may have half
// of it. Its methods may be called at the same time.
type Budget struct {
	limit int64

	mu      sync.Mutex
	used    int64
	peak    int64 // the most that was ever used, for tests
	sources map[string]int64
}

// MinBudget is the least that a Budget must have, so that one request of any legal size fits into half of it.
// Unit: bytes.
const MinBudget = 256 << 20

// NewBudget returns a budget of limit bytes.
func NewBudget(limit int64) *Budget {
	return &Budget{limit: limit, sources: map[string]int64{}}
}

// take adds n bytes to what source has, and reports whether there was capacity for them.
func (b *Budget) take(source string, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+n > b.limit || b.sources[source]+n > b.limit/2 {
		return false
	}
	b.used += n
	b.peak = max(b.peak, b.used)
	b.sources[source] += n
	return true
}

// release gives n bytes back.
func (b *Budget) release(source string, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	if b.sources[source] -= n; b.sources[source] == 0 {
		delete(b.sources, source)
	}
}

// Used returns how many bytes are taken.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// share is what one request takes of a budget.
type share struct {
	budget *Budget
	source string
	taken  int64
}

// take takes n bytes more.
func (s *share) take(n int64) error {
	if !s.budget.take(s.source, n) {
		return NewError(errcode.RequestLimitExceeded, "the gateway has too many requests to hold; send the request again later")
	}
	s.taken += n
	return nil
}

// close gives all back.
func (s *share) close() {
	s.budget.release(s.source, s.taken)
	s.taken = 0
}

// pieceSize is how much of a body is read at least before memory for more is taken.
const pieceSize = 4 << 10

// read reads a body of at most limit bytes. What it takes is at most three times what arrived, and pieceSize: a
// header that promises much takes nothing.
func (s *share) read(r io.Reader, limit int64) ([]byte, error) {
	var body []byte
	for {
		if len(body) == cap(body) {
			n := int64(max(pieceSize, cap(body)))
			if err := s.take(n); err != nil {
				return nil, err
			}
			body = append(make([]byte, 0, int64(cap(body))+n), body...)
		}
		n, err := r.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case int64(len(body)) > limit:
			return nil, tooLarge(limit)
		case errors.Is(err, io.EOF):
			return body, nil
		case err != nil:
			// The connection is lost, or too slow. The text of the error may have the client's address.
			return nil, NewError(errcode.InvalidRequest, "the body could not be read to its end")
		}
	}
}

func tooLarge(limit int64) error {
	return NewError(errcode.RequestSizeLimitExceeded, "the request is larger than %d KiB", limit>>10)
}
