// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"batchcompute.dev/operator/internal/notify/event"
	"batchcompute.dev/operator/internal/retry"
)

// inHalves sends events with send, and those that are refused together in halves, so that one event that is refused
// holds up none before it, and a request that is too large becomes smaller. It returns how many of the first events
// were acknowledged, as does send; without an error that can be fewer than all. An error of send that is Terminal
// refuses the events behind those together; the same error of inHalves refuses the event behind those by itself.
func inHalves(events []event.Event, send func([]event.Event) (int, error)) (int, error) {
	sent, err := send(events)
	rest := events[sent:]
	if err == nil || len(rest) <= 1 {
		return sent, err
	}
	if class, _ := retry.Of(err); class != retry.Terminal {
		return sent, err
	}
	for _, half := range [][]event.Event{rest[:len(rest)/2], rest[len(rest)/2:]} {
		n, err := inHalves(half, send)
		sent += n
		if err != nil || n < len(half) {
			return sent, err
		}
	}
	return sent, nil
}
