// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package agentapi

import (
	"encoding/json"
	"strings"
)

// ParseResult reads a termination message. What is no Result, as after a crash, is the Message of one, cut to
// MaxResultMessage.
func ParseResult(text string) Result {
	var r Result
	if err := json.Unmarshal([]byte(text), &r); err != nil || r.Version == 0 {
		r = Result{Message: strings.TrimSpace(strings.ToValidUTF8(text, "\uFFFD"))}
	}
	if len(r.Message) > MaxResultMessage {
		r.Message = strings.ToValidUTF8(r.Message[:MaxResultMessage], "")
	}
	return r
}
