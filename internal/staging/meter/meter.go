// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package meter counts what is transferred.
package meter

import "sync/atomic"

// Meter is a set of counters, which several goroutines may change.
type Meter struct {
	// Files and Bytes are what is done, including what was there already; the totals are 0 until known.
	Files, Bytes, TotalFiles, TotalBytes atomic.Int64
	// SentFiles and SentBytes are what was transferred.
	SentFiles, SentBytes atomic.Int64
	// Skipped counts files that cannot be transferred.
	Skipped atomic.Int64
}

// Done counts a file that was transferred, or was there already. Its bytes are counted by Add or Present.
func (m *Meter) Done(transferred bool) {
	m.Files.Add(1)
	if transferred {
		m.SentFiles.Add(1)
	}
}

// Add counts bytes that were transferred.
func (m *Meter) Add(n int64) {
	m.Bytes.Add(n)
	m.SentBytes.Add(n)
}

// Present counts bytes that were there already.
func (m *Meter) Present(n int64) { m.Bytes.Add(n) }
