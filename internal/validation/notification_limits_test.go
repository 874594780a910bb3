// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"testing"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/testutil"
)

// TestNumberOfNotifications: the status has space for a bounded number of topics.
func TestNumberOfNotifications(t *testing.T) {
	t.Parallel()
	for n, refused := range map[int]bool{v1alpha1.MaxNotifications: false, v1alpha1.MaxNotifications + 1: true} {
		job := testutil.Job("many").Task("a").Obj()
		for i := range n {
			job.Spec.Job.Notifications = append(job.Spec.Job.Notifications, v1alpha1.Notification{
				TopicName: fmt.Sprint("topic-", i), EventConfigs: []v1alpha1.EventConfig{{EventName: "JOB_SUCCEED"}},
			})
		}
		problems := Validator{}.ValidateCreate(job)
		switch {
		case !refused && len(problems) > 0:
			t.Errorf("%d notifications are refused: %v", n, problems)
		case refused && (len(problems) != 1 || problems[0].Code != errcode.LimitExceeded || problems[0].Field.String() != "spec.job.notifications"):
			t.Errorf("%d notifications: %v", n, problems)
		}
	}
}

// TestSpaceForNotifications: admission leaves space for the events that are to be sent.
func TestSpaceForNotifications(t *testing.T) {
	t.Parallel()
	job := testutil.Job("sized").Task("a").Obj()
	without := WorstStatusSize(&job.Spec)
	job.Spec.Job.Notifications = []v1alpha1.Notification{{TopicName: "films", EventConfigs: []v1alpha1.EventConfig{{EventName: "JOB_SUCCEED"}}}}
	if got := WorstStatusSize(&job.Spec); got != without+v1alpha1.MaxNotificationStatusSize {
		t.Errorf("got %d, want %d more than %d", got, v1alpha1.MaxNotificationStatusSize, without)
	}
}
