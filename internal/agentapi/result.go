// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package agentapi

import "strings"

// ParseResult reads a termination message. One whose end was cut off gives what is left of it. What is no
// Result, as after a crash, is the Message of one, cut to MaxResultMessage.
func ParseResult(text string) Result {
	r, err := decodeResult(text)
	if err != nil {
		r = Result{Message: cutEnd(strings.TrimSpace(strings.ToValidUTF8(text, "\uFFFD")), MaxResultMessage)}
	}
	return r
}
