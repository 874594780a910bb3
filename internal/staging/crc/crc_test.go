// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package crc

import (
	"hash/crc64"
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

func TestUpdate(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	text := make([]byte, 10*laneBytes)
	for i := range text {
		text[i] = byte(rnd.Uint32())
	}
	for range 200 {
		p, before := text[rnd.IntN(100):rnd.IntN(len(text)-100)+100], rnd.Uint64()
		if got, want := Update(before, p), crc64.Update(before, table, p); got != want {
			t.Fatalf("%d bytes: %x, want %x", len(p), got, want)
		}
	}
}

// BenchmarkUpdate compares with the standard library.
func BenchmarkUpdate(b *testing.B) {
	text := make([]byte, 128<<10)
	for name, update := range map[string]func(){
		"ours":   func() { Update(0, text) },
		"theirs": func() { crc64.Update(0, table, text) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				update()
			}
		})
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
