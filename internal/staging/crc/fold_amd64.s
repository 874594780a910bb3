// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// FOLD multiplies the halves of X by the factors in K, adds both products to the next 16 bytes at OFF(SI), and has
// the result in X.
#define FOLD(X, K, T, OFF) \
	MOVO X, T           \
	PCLMULQDQ $0x00, K, X \
	PCLMULQDQ $0x11, K, T \
	PXOR T, X           \
	MOVOU OFF(SI), T    \
	PXOR T, X

// INTO does the same with register Y instead of bytes, and has the result in Y.
#define INTO(X, K, T, Y) \
	MOVO X, T           \
	PCLMULQDQ $0x00, K, X \
	PCLMULQDQ $0x11, K, T \
	PXOR T, Y           \
	PXOR X, Y

// func fold(register uint64, p *byte, n int, by512, by128 *[2]uint64, rest *[16]byte)
TEXT ·fold(SB), NOSPLIT, $0-48
	MOVQ register+0(FP), X0
	MOVQ p+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ by512+24(FP), AX
	MOVQ by128+32(FP), BX
	MOVQ rest+40(FP), DI
	MOVOU (AX), X8
	MOVOU (BX), X9

	MOVOU 0(SI), X4
	PXOR  X4, X0
	MOVOU 16(SI), X1
	MOVOU 32(SI), X2
	MOVOU 48(SI), X3
	ADDQ  $64, SI
	SUBQ  $64, CX

more:
	CMPQ CX, $64
	JLT  last
	FOLD(X0, X8, X4, 0)
	FOLD(X1, X8, X5, 16)
	FOLD(X2, X8, X6, 32)
	FOLD(X3, X8, X7, 48)
	ADDQ $64, SI
	SUBQ $64, CX
	JMP  more

last:
	INTO(X0, X9, X4, X1)
	INTO(X1, X9, X5, X2)
	INTO(X2, X9, X6, X3)
	MOVOU X3, (DI)
	RET
