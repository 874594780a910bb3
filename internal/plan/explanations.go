// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"batchcompute.dev/operator/api/v1alpha1"
)

// What explains must not make a status too large to be stored: admission has counted
// messages of v1alpha1.MaxMessageSize bytes for v1alpha1.MaxTaskMessages tasks, and reasons
// for v1alpha1.MaxTaskReasons, see validation.WorstStatusSize. Of the other tasks, the lists
// of indexes and the job's own reason say enough.

// explanationBudget is how many tasks may still be explained.
type explanationBudget struct {
	own   explanations // tasks that wait, failed or are interrupted themselves
	after explanations // those that cannot start since another one failed
}

// explanations are how many reasons and messages there may be.
type explanations struct{ reasons, messages int }

// newExplanationBudget divides what the status may hold: tasks that could not start get what the others
// leave, since theirs says least.
func newExplanationBudget(tasks []taskSummary) explanationBudget {
	all := explanations{v1alpha1.MaxTaskReasons, v1alpha1.MaxTaskMessages}
	r := explanationBudget{all, all}
	for i := range tasks {
		if t := &tasks[i]; t.reason != "" && t.reason != v1alpha1.ReasonPredecessorFailed {
			r.after.spend(t)
		}
	}
	return r
}

// spend returns the reason and message that the status has of t.
func (r *explanationBudget) spend(t *taskSummary) (reason, message string) {
	if t.reason == v1alpha1.ReasonPredecessorFailed {
		return r.after.spend(t)
	}
	return r.own.spend(t)
}

func (e *explanations) spend(t *taskSummary) (reason, message string) {
	if t.reason == "" || e.reasons == 0 {
		return "", ""
	}
	e.reasons--
	if t.message == "" || e.messages == 0 {
		return t.reason, ""
	}
	e.messages--
	return t.reason, t.message
}

// Sentence returns a text that may have come from outside as a status or an event may have it: without
// control characters, and at most v1alpha1.MaxMessageSize bytes as JSON.
func Sentence(text string) string { return cut(text) }

// cut bounds a message that may have come from outside, at the border of a character, to
// v1alpha1.MaxMessageSize bytes as JSON. People read it in a terminal, so nothing in it may steal a
// line, move the cursor or turn the direction of text: spaces of all kinds become a space, and other
// characters that are not to be seen become a question mark.
func cut(s string) string {
	s = strings.Map(printable, strings.ToValidUTF8(s, "?"))
	size, end := 0, 0 // end: where an ellipsis would still fit
	for i, r := range s {
		if size <= v1alpha1.MaxMessageSize-len("…") {
			end = i
		}
		if size += sizeInJSON(r); size > v1alpha1.MaxMessageSize {
			return s[:end] + "…"
		}
	}
	return s
}

// printable returns r if it is to be seen or a space, and else what stands in its place.
func printable(r rune) rune {
	switch {
	case r == ' ' || unicode.IsPrint(r):
		return r
	case unicode.IsSpace(r), r == '\u2028', r == '\u2029':
		return ' '
	}
	return '?' // Cc, such as an escape, and Cf, such as U+202E, which turns the text behind it round
}

// sizeInJSON is the number of bytes that encoding/json writes for r within a string.
func sizeInJSON(r rune) int {
	switch {
	case strings.ContainsRune("\"\\\n\r\t\b\f", r):
		return len(`\n`)
	case r < ' ', r == '<', r == '>', r == '&', r == '\u2028', r == '\u2029':
		return len(`\u0000`)
	}
	return utf8.RuneLen(r)
}
