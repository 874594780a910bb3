// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package push

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"sync"
)

// Digest is the SHA-256 of what is stored: for each object, in the order of Expect, a line
//
//	CRC-64 in 16 hexadecimal digits, space, size in decimal, space, key, NUL
//
// It keeps the lines that cannot be added yet, since one before them is missing. A nil Digest does nothing.
type Digest struct {
	mu      sync.Mutex
	sum     hash.Hash
	next    int // the line that is added next
	last    int // how many are expected
	waiting map[int]string
	broken  bool
}

// NewDigest returns a digest of nothing.
func NewDigest() *Digest {
	return &Digest{sum: sha256.New(), waiting: map[int]string{}}
}

// Expect returns the function that adds an object.
func (d *Digest) Expect(key string) func(size int64, sum uint64) {
	if d == nil {
		return func(int64, uint64) {}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.last
	d.last++
	return func(size int64, sum uint64) { d.add(n, fmt.Sprintf("%016x %d %s\x00", sum, size, key)) }
}

// add adds a line, and those that wait for it.
func (d *Digest) add(n int, line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken {
		return
	}
	d.waiting[n] = line
	for {
		line, ok := d.waiting[d.next]
		if !ok {
			return
		}
		d.sum.Write([]byte(line))
		delete(d.waiting, d.next)
		d.next++
	}
}

// Break says that something that was expected is not stored: there will be no digest.
func (d *Digest) Break() {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broken, d.waiting = true, nil
}

// String returns the digest in hexadecimal digits; "" if something that was expected was not added.
func (d *Digest) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken || d.next != d.last {
		return ""
	}
	return hex.EncodeToString(d.sum.Sum(nil))
}
