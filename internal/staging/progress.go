// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package staging

import (
	"time"

	"batchcompute.dev/operator/internal/staging/fault"
	"batchcompute.dev/operator/internal/staging/meter"
)

// Progress is how far a transfer is.
type Progress struct {
	// Phase is the field that is worked on, such as inputMappings[0].
	Phase string
	// Files and TotalFiles count files; Bytes and TotalBytes their contents. A total is 0 until it is
	// known, and grows while a directory is read. What was there already is included.
	Files, TotalFiles int
	Bytes, TotalBytes int64
}

// Reporter is told of progress, at most every 10 s and once at the end of a phase, by one goroutine at a
// time. It must not block.
type Reporter interface {
	Progress(Progress)
	// Retrying is called, at most every 10 s and by any goroutine, with the reason why a request is tried again. The
	// reason has no secret.
	Retrying(reason string)
}

// interval is the time between two reports of a phase.
const interval = 10 * time.Second

// retrying tells the reporter why a request is tried again, if it was told nothing for a while.
func (a *agent) retrying(err *fault.Error) {
	if a.report == nil {
		return
	}
	a.told.Lock()
	defer a.told.Unlock()
	if now := time.Now(); a.toldAt.IsZero() || now.Sub(a.toldAt) >= interval {
		a.toldAt = now
		a.report.Retrying(err.Error())
	}
}

// phase reports what m counts until the function that it returns is called.
func (a *agent) phase(name string, m *meter.Meter) (end func()) {
	if a.report == nil {
		return func() {}
	}
	report := func() {
		a.report.Progress(Progress{
			Phase: name, Files: int(m.Files.Load()), TotalFiles: int(m.TotalFiles.Load()),
			Bytes: m.Bytes.Load(), TotalBytes: m.TotalBytes.Load(),
		})
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(interval)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				report()
			case <-stop:
				report()
				return
			}
		}
	}()
	return func() {
		close(stop)
		<-done
	}
}
