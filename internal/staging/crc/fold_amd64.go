// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package crc

import (
	"hash/crc64"

	"golang.org/x/sys/cpu"
)

// A processor that multiplies polynomials (PCLMULQDQ) computes the checksum several times as fast as with tables,
// so that it is a small part of what a transfer takes. Source: Gopal and others, Fast CRC Computation for Generic
// Polynomials Using PCLMULQDQ Instruction, Intel 2009.

// Register bits are reflected: the lowest bit of the first byte is the highest power of x. So a product has one
// power too many, and factors have one less.

// by512 and by128 move 16 bytes by 512 and 128 bits: factors for the first and for the last 8 bytes.
var (
	by512 = [2]uint64{power(512 + 64 - 1), power(512 - 1)}
	by128 = [2]uint64{power(128 + 64 - 1), power(128 - 1)}
)

// power returns x^n modulo the polynomial, reflected.
func power(n int) uint64 {
	r := uint64(1) << 63
	for range n {
		r = r>>1 ^ polynomial&-(r&1)
	}
	return r
}

// leastFold is from what length on fold is faster. It is a multiple of 64. Unit: bytes.
const leastFold = 256

// fold replaces n bytes, a multiple of 64 and at least 64, that follow a text whose checksum is ^register by 16
// bytes with the same checksum, as if they followed an empty register.
//
//go:noescape
func fold(register uint64, p *byte, n int, by512, by128 *[2]uint64, rest *[16]byte)

// quick is Update for as much of p as a quick processor can do, and returns the rest.
func quick(sum uint64, p []byte) (uint64, []byte) {
	if !cpu.X86.HasPCLMULQDQ || len(p) < leastFold {
		return sum, p
	}
	n := len(p) &^ 63
	var rest [16]byte
	fold(^sum, &p[0], n, &by512, &by128, &rest)
	return crc64.Update(^uint64(0), table, rest[:]), p[n:]
}
