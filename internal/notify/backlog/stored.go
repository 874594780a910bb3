// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backlog

import (
	"encoding/base64"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/notify/event"
	"batchcompute.dev/operator/internal/ranges"
)

const (
	// bitmap is how numbers begin that are stored as a bitmap.
	bitmap = "bits:"
	// entrySize is more than an entry takes in addition to its texts, as JSON. Unit: bytes.
	entrySize = 250
)

// Parse reads the stored backlog of a job with this numbering.
func Parse(stored []v1alpha1.PendingEvents, n Numbering) (Backlog, error) {
	if len(stored) == 0 {
		return nil, nil
	}
	out := make(Backlog, len(stored))
	for i := range stored {
		s := &stored[i]
		name := event.Name(s.EventName)
		set, err := ParseNumbers(name, s.Numbers, n)
		if err != nil {
			return nil, fmt.Errorf("pending event %d: %w", i, err)
		}
		out[i] = Entry{
			Key:     Key{Name: name, Run: int(s.Run), Attempt: int(s.Attempt)},
			Numbers: set, Time: s.Time.Time, JobState: string(s.JobState),
			Details: Details{ExitCode: s.ExitCode, Reason: s.Reason, Message: s.Message, Node: s.NodeName},
		}
	}
	return out, nil
}

// Stored returns the form that Parse reads.
func (b Backlog) Stored() []v1alpha1.PendingEvents {
	if len(b) == 0 {
		return nil
	}
	out := make([]v1alpha1.PendingEvents, len(b))
	for i := range b {
		e := &b[i]
		out[i] = v1alpha1.PendingEvents{
			EventName: string(e.Name), Numbers: FormatNumbers(e.Name, e.Numbers), Run: int64(e.Run), Attempt: int64(e.Attempt),
			Time: metav1.NewTime(e.Time), JobState: v1alpha1.JobState(e.JobState),
			ExitCode: e.ExitCode, Reason: e.Reason, Message: e.Message, NodeName: e.Node,
		}
	}
	return out
}

// size returns about how many bytes the entry takes as JSON.
func (e *Entry) size() int {
	return entrySize + len(FormatNumbers(e.Name, e.Numbers)) + len(e.Reason) + len(e.Message) + len(e.Node)
}

// ofJob reports whether events of this name have no number.
func ofJob(name event.Name) bool {
	level := name.Level()
	return level == event.Job || level == event.ComputeEnv
}

// FormatNumbers returns numbers as v1alpha1.PendingEvents stores them: as ranges, or as a bitmap if that is shorter.
func FormatNumbers(name event.Name, set ranges.Set) string {
	if ofJob(name) {
		return ""
	}
	text := set.String()
	bytes := set.Max()/8 + 1
	if len(text) <= len(bitmap)+base64.StdEncoding.EncodedLen(bytes) {
		return text
	}
	bits := make([]byte, bytes)
	for i := range set.All() {
		bits[i/8] |= 1 << (i % 8)
	}
	return bitmap + base64.StdEncoding.EncodeToString(bits)
}

// ParseNumbers reads the form that FormatNumbers writes.
func ParseNumbers(name event.Name, text string, n Numbering) (ranges.Set, error) {
	switch {
	case name.Level() == event.Unknown:
		return ranges.Set{}, fmt.Errorf("%q is no event", name)
	case ofJob(name) && text != "":
		return ranges.Set{}, fmt.Errorf("%s must have no numbers", name)
	case ofJob(name):
		return ranges.Of(0), nil
	}
	limit := n.limit(name)
	set, err := parseSet(text, limit)
	if err != nil {
		return ranges.Set{}, fmt.Errorf("numbers of %s: %w", name, err)
	}
	if set.Empty() || set.Max() >= limit {
		return ranges.Set{}, fmt.Errorf("numbers of %s: must be from 0 to %d", name, limit-1)
	}
	return set, nil
}

func parseSet(text string, limit int) (ranges.Set, error) {
	encoded, ok := strings.CutPrefix(text, bitmap)
	if !ok {
		return ranges.Parse(text)
	}
	if len(encoded) > base64.StdEncoding.EncodedLen(limit/8+1) {
		return ranges.Set{}, fmt.Errorf("the bitmap must be for numbers less than %d", limit)
	}
	bits, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return ranges.Set{}, fmt.Errorf("the bitmap: %w", err)
	}
	var list []int
	for i, b := range bits {
		for j := range 8 {
			if b&(1<<j) != 0 {
				list = append(list, i*8+j)
			}
		}
	}
	return ranges.Of(list...), nil
}
