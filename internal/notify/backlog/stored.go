// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backlog

import (
	"encoding/base64"
	"fmt"
	"math/bits"
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

// Parse reads the stored backlog of an object with this numbering. It returns an error for what Stored would not have
// written, except that it does not find an event that is in two entries. Cost: linear in the text.
func Parse(stored []v1alpha1.PendingEvents, n Numbering) (Backlog, error) {
	if len(stored) == 0 {
		return nil, nil
	}
	out := make(Backlog, len(stored))
	for i := range stored {
		s := &stored[i]
		name := event.Name(s.EventName)
		set, err := ParseNumbers(name, s.Numbers, n)
		if err == nil && (s.Run < 0 || s.Attempt < 0 || s.Time.IsZero()) {
			err = fmt.Errorf("%s must have a time, and no negative run or attempt", name)
		}
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

// size is more than the entry takes as JSON. Unit: bytes.
func (e *Entry) size() int {
	return entrySize + min(e.Numbers.TextLen(), bitmapSize(e.Numbers)) + len(e.Reason) + e.messageSize() + len(e.Node)
}

// messageSize is more than the message takes: JSON may need six bytes for one.
func (e *Entry) messageSize() int {
	if e.Message == "" {
		return 0
	}
	return max(len(e.Message), v1alpha1.MaxMessageSize)
}

// isWhole reports whether events of this name have no number, since they are about the job or the ComputeEnv.
func isWhole(name event.Name) bool {
	return name.Level() == event.Job || name.Level() == event.ComputeEnv
}

// FormatNumbers returns numbers as v1alpha1.PendingEvents stores them: as ranges, or as a bitmap if that is shorter.
func FormatNumbers(name event.Name, set ranges.Set) string {
	if isWhole(name) {
		return ""
	}
	if set.TextLen() <= bitmapSize(set) {
		return set.String()
	}
	out := make([]byte, set.Max()/8+1)
	for i := range set.All() {
		out[i/8] |= 1 << (i % 8)
	}
	return bitmap + base64.StdEncoding.EncodeToString(out)
}

// bitmapSize returns how many bytes the set takes as a bitmap.
func bitmapSize(set ranges.Set) int {
	return len(bitmap) + base64.StdEncoding.EncodedLen(set.Max()/8+1)
}

// ParseNumbers reads the form that FormatNumbers writes.
func ParseNumbers(name event.Name, text string, n Numbering) (ranges.Set, error) {
	switch {
	case n.has(name):
	case n.ofEnv:
		return ranges.Set{}, fmt.Errorf("%q is no event of a ComputeEnv", name)
	default:
		return ranges.Set{}, fmt.Errorf("%q is no event of a job", name)
	}
	return parseNumbers(name, text, n.limit(name))
}

// parseNumbers is ParseNumbers for numbers that are less than limit.
func parseNumbers(name event.Name, text string, limit int) (ranges.Set, error) {
	switch {
	case name.Level() == event.Unknown:
		return ranges.Set{}, fmt.Errorf("%q is no event", name)
	case isWhole(name) && text != "":
		return ranges.Set{}, fmt.Errorf("%s must have no numbers", name)
	case isWhole(name):
		return ranges.Of(0), nil
	}
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
	data, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return ranges.Set{}, fmt.Errorf("the bitmap: %w", err)
	}
	n := 0
	for _, b := range data {
		n += bits.OnesCount8(b)
	}
	list := make([]int, 0, n)
	for i, b := range data {
		for j := range 8 {
			if b&(1<<j) != 0 {
				list = append(list, i*8+j)
			}
		}
	}
	return ranges.Of(list...), nil
}

// Count returns how many events a stored entry has; 0 if it cannot be read.
func Count(s *v1alpha1.PendingEvents) int {
	return numbersOf(s).Len()
}

// KeepStored returns those of acks that a stored backlog has.
func KeepStored(stored []v1alpha1.PendingEvents, acks Acks) Acks {
	b := make(Backlog, len(stored))
	for i := range stored {
		s := &stored[i]
		b[i] = Entry{Key: Key{Name: event.Name(s.EventName), Run: int(s.Run), Attempt: int(s.Attempt)}, Numbers: numbersOf(s)}
	}
	return b.Keep(acks)
}

// numbersOf returns the numbers of a stored entry; none if they cannot be read.
func numbersOf(s *v1alpha1.PendingEvents) ranges.Set {
	set, err := parseNumbers(event.Name(s.EventName), s.Numbers, v1alpha1.MaxTaskInstances)
	if err != nil {
		return ranges.Set{}
	}
	return set
}
