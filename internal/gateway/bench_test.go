// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/go-logr/logr"
)

// BenchmarkAnswer is what a request costs beside its action: header, key, signature, limits, decoding, answer.
func BenchmarkAnswer(b *testing.B) {
	f := newFixture(b, func(o *Options) { o.Log = logr.Discard() })
	const body = `{"JobIds": ["job-0a1b2c3d"], "Limit": 3}`
	s := f.signer("DescribeJob")
	f.o.Actions["DescribeJob"] = f.o.Actions["Free"]
	r := s.POST(target, body)
	w := &discard{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		r.Body = io.NopCloser(strings.NewReader(body))
		f.ServeHTTP(w, r)
	}
}
