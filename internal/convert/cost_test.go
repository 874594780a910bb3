// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"fmt"
	"strings"
	"testing"

	"batchcompute.dev/operator/internal/testutil/cputime"
)

// TestCost: the time for a body, of whatever form, grows with its length, and not with the square
// of it. Four times the length would take 16 times as long then.
func TestCost(t *testing.T) {
	form := func(item, between string) func(n int) string {
		return func(n int) string {
			var b strings.Builder
			b.WriteString("Placement.Zone=ap-guangzhou-2" + between + "Job.Tasks.0.TaskName=a")
			for i := range n {
				fmt.Fprintf(&b, between+item, i)
			}
			return b.String()
		}
	}
	bodies := map[string]func(n int) string{
		"tasks":           form("Job.Tasks.%d.Application.Command=true", "&"),
		"variables":       form("Job.Tasks.0.EnvVars.%d.Name=x", "&"),
		"tasks in lines":  form("Job.Tasks.%d.Application.Command=true", "\n"),
		"gaps":            form("Job.Tasks.0.EnvVars.%d7.Name=x", "&"),
		"unknown fields":  form("Job.Tasks.0.Nothing%d=x", "&"),
		"the same":        form("Job.Tasks.0.TaskName=x%.0d", "&"),
		"the same, JSON":  func(n int) string { return `{"Job":{` + strings.Repeat(`"JobName":"a",`, n) + `"Tasks":[]}}` },
		"unknown, JSON":   func(n int) string { return `{"Job":{` + strings.Repeat(`"Nothing":"a",`, n) + `"Tasks":[]}}` },
		"long text, JSON": func(n int) string { return `{"Job":{"JobName":"` + strings.Repeat(`\"`, n*8) + `"}}` },
		"percents":        func(n int) string { return "Job.JobName=" + strings.Repeat("%25", n*8) },
	}
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			few, many := []byte(body(250)), []byte(body(4000))
			read := func(b []byte) func() { return func() { _, _ = FromBody(b, Options{}) } }
			if got := cputime.Ratio(read(many), read(few)); got > 64 { // by the square it would be 256
				t.Errorf("a body of sixteen times the length takes %.1f times as long", got)
			}
		})
	}
}
