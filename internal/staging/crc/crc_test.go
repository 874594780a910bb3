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
		checkUpdate(t, before, p)
	}
	for n := range 1000 {
		checkUpdate(t, rnd.Uint64(), text[n%7:n%7+n])
	}
}

// checkUpdate compares both implementations with that of the standard library.
func checkUpdate(t *testing.T, before uint64, p []byte) {
	t.Helper()
	want := crc64.Update(before, table, p)
	for name, got := range map[string]uint64{"Update": Update(before, p), "update": update(before, p)} {
		if got != want {
			t.Fatalf("%s of %d bytes: %x, want %x", name, len(p), got, want)
		}
	}
}

func FuzzUpdate(f *testing.F) {
	f.Add(uint64(0), 0, make([]byte, 1000))
	f.Fuzz(func(t *testing.T, before uint64, repeat int, p []byte) {
		for range repeat & 7 {
			p = append(p, p[:len(p)/2]...)
		}
		checkUpdate(t, before, p)
	})
}

// BenchmarkUpdate compares with the standard library.
func BenchmarkUpdate(b *testing.B) {
	text := make([]byte, 128<<10)
	for name, update := range map[string]func(){
		"ours":   func() { Update(0, text) },
		"tables": func() { update(0, text) },
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
