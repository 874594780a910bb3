// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"batchcompute.dev/operator/internal/gateway/actions"
)

func TestParseOptions(t *testing.T) {
	o, err := parseOptions([]string{"--regions=ap-guangzhou,ap-beijing", "--rate-limit=SubmitJob=0.5", "--rate-limit", "default=0", "--max-in-flight=7"}, actions.Names())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"ap-guangzhou", "ap-beijing"}, o.regions); diff != "" {
		t.Error(diff)
	}
	if o.limits["SubmitJob"].PerSecond != 0.5 || o.limits["DescribeTask"].PerSecond != 3 || o.defaultLimit.PerSecond != 0 || o.maxInFlight != 7 {
		t.Errorf("%+v", o)
	}
	for _, tc := range []struct{ args, want string }{
		{"--rate-limit=Submit=1", "no action"},
		{"--rate-limit=SubmitJob", "such as SubmitJob=7"},
		{"--rate-limit=SubmitJob=-1", "such as SubmitJob=7"},
		{"--regions=a,,b", "such as ap-guangzhou"},
		{"--bind-address=8443", "such as :8443"},
		{"--max-in-flight=0", "at least 1"},
		{"extra", "unexpected argument"},
	} {
		if _, err := parseOptions(strings.Fields(tc.args), actions.Names()); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.args, err, tc.want)
		}
	}
}
