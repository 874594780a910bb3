// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseSamples(t *testing.T) {
	page := "# Title\n\n## One\n\n```yaml\napiVersion: batchcompute.dev/v1\na: 1\n---\napiVersion: batchcompute.dev/v1\nb: 2\n```\n" +
		"```yaml\napiVersion: v1\n```\n```sh\napiVersion: batchcompute.dev/v1\n```\n\n### Two, of one\n\nText.\n\n```yaml\napiVersion: batchcompute.dev/v1\nc: 3\n```\n"
	want := []Sample{
		{"One", []string{"apiVersion: batchcompute.dev/v1\na: 1", "apiVersion: batchcompute.dev/v1\nb: 2\n"}},
		{"Two, of one", []string{"apiVersion: batchcompute.dev/v1\nc: 3\n"}},
	}
	if diff := cmp.Diff(want, ParseSamples(page)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
