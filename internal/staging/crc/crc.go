// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package crc computes the CRC-64 that COS returns for each object (ECMA-182, reflected, as in XZ), also
// from the checksums of an object's parts.
package crc

import (
	"encoding/binary"
	"hash/crc64"
	"math/bits"
	"strconv"
)

// polynomial is ECMA-182, reflected.
const polynomial = crc64.ECMA

var table = crc64.MakeTable(polynomial)

// Update adds p to the checksum sum of what was before it. The checksum of nothing is 0.
//
// It takes much less time than crc64.Update for long texts.
func Update(sum uint64, p []byte) uint64 {
	sum, p = quick(sum, p)
	return update(sum, p)
}

// update is Update for any processor. It takes about half the time of crc64.Update for long texts: a processor
// computes four checksums that do not depend on each other nearly as fast as one.
func update(sum uint64, p []byte) uint64 {
	for len(p) >= 4*laneBytes {
		sum = four(sum, p[:4*laneBytes])
		p = p[4*laneBytes:]
	}
	return crc64.Update(sum, table, p)
}

// laneBytes is the length of each of the four texts.
const laneBytes = 4 << 10

// slicing has the tables of slicing-by-8: slicing[k][b] is the register after byte b and k zero bytes. shift
// has those of laneBytes zero bytes, by the bytes of the register before.
var slicing, shift = tables()

func tables() (slicing, shift [8][256]uint64) {
	slicing[0] = *table
	for b := range slicing[0] {
		for k := 1; k < 8; k++ {
			v := slicing[k-1][b]
			slicing[k][b] = slicing[0][byte(v)] ^ v>>8
		}
	}
	zeros := make([]byte, laneBytes)
	for k := range shift {
		for b := range shift[k] {
			// crc64.Update inverts the register before and after.
			shift[k][b] = ^crc64.Update(^(uint64(b) << (8 * k)), table, zeros)
		}
	}
	return slicing, shift
}

// four is Update for 4*laneBytes bytes.
func four(sum uint64, p []byte) uint64 {
	p0, p1, p2, p3 := p[:laneBytes], p[laneBytes:2*laneBytes], p[2*laneBytes:3*laneBytes], p[3*laneBytes:4*laneBytes]
	r0, r1, r2, r3 := ^sum, uint64(0), uint64(0), uint64(0)
	for i := 0; i <= laneBytes-8; i += 8 {
		r0 = look(&slicing, bits.ReverseBytes64(r0^binary.LittleEndian.Uint64(p0[i:])))
		r1 = look(&slicing, bits.ReverseBytes64(r1^binary.LittleEndian.Uint64(p1[i:])))
		r2 = look(&slicing, bits.ReverseBytes64(r2^binary.LittleEndian.Uint64(p2[i:])))
		r3 = look(&slicing, bits.ReverseBytes64(r3^binary.LittleEndian.Uint64(p3[i:])))
	}
	r1 ^= look(&shift, r0)
	r2 ^= look(&shift, r1)
	return ^(r3 ^ look(&shift, r2))
}

// look returns the sum of a table's rows for the bytes of v, the lowest byte in row 0.
func look(t *[8][256]uint64, v uint64) uint64 {
	return t[0][byte(v)] ^ t[1][byte(v>>8)] ^ t[2][byte(v>>16)] ^ t[3][byte(v>>24)] ^
		t[4][byte(v>>32)] ^ t[5][byte(v>>40)] ^ t[6][byte(v>>48)] ^ t[7][byte(v>>56)]
}

// Combine returns the checksum of two texts one after the other, from their checksums and the length of the
// second. It takes some microseconds, whatever the length. Source: zlib, crc32_combine.
func Combine(first, second uint64, length int64) uint64 {
	switch {
	case length <= 0:
		return first
	case first == 0:
		return second // each object of one part
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
