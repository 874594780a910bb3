// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package crc computes the CRC-64 that COS returns for each object (ECMA-182, reflected, as in XZ), also
// from the checksums of an object's parts.
package crc

import (
	"hash/crc64"
	"strconv"
)

// polynomial is ECMA-182, reflected.
const polynomial = crc64.ECMA

var table = crc64.MakeTable(polynomial)

// Update adds p to the checksum sum of what was before it. The checksum of nothing is 0.
func Update(sum uint64, p []byte) uint64 { return crc64.Update(sum, table, p) }

// Combine returns the checksum of two texts one after the other, from their checksums and the length of the
// second. It takes some microseconds, whatever the length. Source: zlib, crc32_combine.
func Combine(first, second uint64, length int64) uint64 {
	if length <= 0 {
		return first
	}
	// odd is the operator that appends one zero bit, as a matrix over GF(2).
	var even, odd matrix
	odd[0] = polynomial
	for i, row := 1, uint64(1); i < len(odd); i, row = i+1, row<<1 {
		odd[i] = row
	}
	even.square(&odd)
	odd.square(&even)
	for {
		even.square(&odd)
		if length&1 != 0 {
			first = even.times(first)
		}
		if length >>= 1; length == 0 {
			break
		}
		odd.square(&even)
		if length&1 != 0 {
			first = odd.times(first)
		}
		if length >>= 1; length == 0 {
			break
		}
	}
	return first ^ second
}

// Format returns a checksum as COS writes it: decimal.
func Format(sum uint64) string { return strconv.FormatUint(sum, 10) }

// Parse reads what Format wrote.
func Parse(s string) (sum uint64, ok bool) {
	sum, err := strconv.ParseUint(s, 10, 64)
	return sum, err == nil
}

// matrix is a linear operator over GF(2) on 64 bits.
type matrix [64]uint64

// times applies the operator.
func (m *matrix) times(v uint64) (sum uint64) {
	for i := 0; v != 0; i, v = i+1, v>>1 {
		if v&1 != 0 {
			sum ^= m[i]
		}
	}
	return sum
}

// square stores the operator that applies of twice.
func (m *matrix) square(of *matrix) {
	for i := range m {
		m[i] = of.times(of[i])
	}
}
