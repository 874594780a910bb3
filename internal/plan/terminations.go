// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"strings"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/resolve"
)

// Terminations is what the annotation v1alpha1.AnnotationTerminate of a job says. It is not changed.
type Terminations struct {
	text string
	// byTask are the instances to be terminated, by the position of their task.
	byTask map[int]ranges.Set
	// complaint says what is wrong with the text, "" for nothing.
	complaint string
}

// ReadTerminations reads the text of the annotation of a job that resolves to spec. It returns known
// if that was read from the same text; known may be nil. A part that cannot be read is left out, and
// a text longer than v1alpha1.MaxTerminateLength is not read at all: users can change annotations
// whenever they like, and past admission. Cost: O(tasks + n log n) for a text of n bytes.
func ReadTerminations(spec *resolve.Job, text string, known *Terminations) *Terminations {
	if known != nil && known.text == text {
		return known
	}
	t := &Terminations{text: text}
	switch {
	case text == "":
	case len(text) > v1alpha1.MaxTerminateLength:
		t.complaint = fmt.Sprintf("must be at most %d bytes long; all of it is ignored. Write ranges, as in task/0-99, or name the instances in several steps; "+
			"spec.terminate: true ends the whole job", v1alpha1.MaxTerminateLength)
	default:
		t.read(spec)
	}
	return t
}

func (t *Terminations) read(spec *resolve.Job) {
	byName := make(map[string]int, len(spec.Tasks))
	for i := range spec.Tasks {
		byName[spec.Tasks[i].Name] = i
	}
	sets := map[int][]ranges.Set{}
	for part := range strings.FieldsSeq(t.text) {
		name, indexes, _ := strings.Cut(part, "/")
		pos, ok := byName[name]
		if !ok {
			t.complain("there is no task %q", name)
			continue
		}
		last := spec.Tasks[pos].InstanceNum - 1
		set, err := ranges.Parse(indexes)
		if err != nil || set.Empty() || set.Max() > last {
			t.complain("%q must be task/indexes, as in %s/0-%d", part, name, last)
			continue
		}
		sets[pos] = append(sets[pos], set)
	}
	t.byTask = make(map[int]ranges.Set, len(sets))
	for pos, parts := range sets {
		t.byTask[pos] = ranges.UnionAll(parts...)
	}
}

// complain keeps the first complaint.
func (t *Terminations) complain(format string, args ...any) {
	if t.complaint == "" {
		t.complaint = fmt.Sprintf(format, args...)
	}
}
