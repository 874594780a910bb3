// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"bytes"
	"regexp"
	"strings"

	"batchcompute.dev/operator/internal/errcode"
)

// requestLine begins an HTTP request.
var requestLine = regexp.MustCompile(`^\s*POST \S+ HTTP/[0-9.]+[ \t\r]*(\n|$)`)

// The common parameters that stand in headers. Source: Tencent Cloud API, Common Params.
const (
	actionHeader  = "X-TC-Action"
	versionHeader = "X-TC-Version"
)

// withoutHeaders returns the body of an HTTP request as the vendor's pages print it, and checks
// the action and the version in its headers; what is no HTTP request is returned as it is. No
// other header is looked at: some have credentials.
func (d *decoder) withoutHeaders(request []byte) []byte {
	first := requestLine.Find(request)
	if first == nil {
		return request
	}
	rest := request[len(first):]
	for len(rest) > 0 {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		header := strings.TrimSpace(string(line))
		if header == "" {
			break
		}
		if isPlaceholder(header) {
			d.skipped(header)
			continue
		}
		name, value, _ := strings.Cut(header, ":")
		value = strings.TrimSpace(value)
		switch {
		case strings.EqualFold(name, actionHeader):
			if d.named = value; actionOf(value, false).name != value {
				d.Fail(errcode.InvalidParameterValue, actionHeader, "must be %s or %s", submitJob.name, createComputeEnv.name)
			}
		case strings.EqualFold(name, versionHeader) && value != version:
			d.Fail(errcode.InvalidParameterValue, versionHeader, "must be %s", version)
		}
	}
	return rest
}
