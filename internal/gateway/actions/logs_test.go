// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package actions

import (
	"strings"
	"testing"

	"batchcompute.dev/operator/api/v1alpha1"
)

// TestLogsWithoutPods: of an instance that stored its streams, the objects are still known when its Pod is gone.
func TestLogsWithoutPods(t *testing.T) {
	w := newWorld(t)
	id := w.submit(strings.Replace(oneTask(""), `"TaskName": "a"`, `"TaskName": "a", "RedirectInfo": {"StdoutRedirectPath": "cos://b.cos.ap-x.myqcloud.com/out/",
		"StderrRedirectPath": "cos://b.cos.ap-x.myqcloud.com/err/", "StderrRedirectFileName": "e-${BATCH_TASK_INSTANCE_INDEX}"}`, 1))
	w.setStatus(id, v1alpha1.BatchJobStatus{State: v1alpha1.JobSucceed, Tasks: []v1alpha1.TaskStatus{{Name: "a", State: v1alpha1.TaskSucceed, Succeeded: "0-2"}}})
	var got struct {
		TotalCount         int
		TaskInstanceLogSet []struct {
			StdoutLog, StderrLog                           *string
			StdoutRedirectPath, StderrRedirectPath         string
			StdoutRedirectFileName, StderrRedirectFileName string
		}
	}
	w.do("DescribeTaskLogs", `{"JobId": "`+id+`", "TaskName": "a", "TaskInstanceIndexes": [2]}`, &got)
	if len(got.TaskInstanceLogSet) != 1 {
		t.Fatalf("the logs are %+v", got)
	}
	l := got.TaskInstanceLogSet[0]
	if l.StdoutLog != nil || l.StderrLog != nil || l.StdoutRedirectPath != "cos://b.cos.ap-x.myqcloud.com/out/" || l.StderrRedirectPath != "cos://b.cos.ap-x.myqcloud.com/err/" ||
		l.StdoutRedirectFileName != "stdout."+id+".a.2.log" || l.StderrRedirectFileName != "e-2" {
		t.Errorf("the log is %+v", l)
	}
}
