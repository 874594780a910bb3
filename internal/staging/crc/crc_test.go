// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package crc

import (
	"math/rand/v2"
	"testing"
)

func TestKnownValue(t *testing.T) {
	// The check value of CRC-64/XZ.
	if got := Update(0, []byte("123456789")); got != 0x995DC9BBDF1939FA {
		t.Errorf("checksum %x", got)
	}
}

func TestCombine(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		text := make([]byte, rnd.IntN(5000))
		for i := range text {
			text[i] = byte(rnd.Uint32())
		}
		cut := rnd.IntN(len(text) + 1)
		got := Combine(Update(0, text[:cut]), Update(0, text[cut:]), int64(len(text)-cut))
		if want := Update(0, text); got != want {
			t.Fatalf("%d bytes cut at %d: %x, want %x", len(text), cut, got, want)
		}
	}
}

func TestFormat(t *testing.T) {
	if sum, ok := Parse(Format(1<<63 + 5)); !ok || sum != 1<<63+5 {
		t.Errorf("%d, %t", sum, ok)
	}
	if _, ok := Parse("x"); ok {
		t.Error("x is a checksum")
	}
}
