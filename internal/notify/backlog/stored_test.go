// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backlog

import (
	"encoding/base64"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/notify/event"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/testutil"
)

// TestNumbering: Find is the inverse of Start, and JobOf counts as the planner does.
func TestNumbering(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(1, 5), 1, 6).Draw(t, "sizes")
		n, number := NewNumbering(len(sizes), func(i int) int { return sizes[i] }), 0
		for task, size := range sizes {
			if n.Start(task) != number {
				t.Fatalf("task %d starts at %d, want %d", task, n.Start(task), number)
			}
			for index := range size {
				if gotTask, got := n.Find(number); gotTask != task || got != index {
					t.Fatalf("%d is instance %d of task %d, want %d of %d", number, got, gotTask, index, task)
				}
				number++
			}
		}
		if n.limit(event.TaskInstanceFailed) != number || n.limit(event.ComputeNodeCreated) != number || n.limit(event.TaskFailed) != len(sizes) {
			t.Fatal("limit is wrong")
		}
	})
	if got := (Numbering{}).limit(event.TaskInstanceFailed); got != 0 {
		t.Errorf("of no tasks: %d", got)
	}
	object := testutil.Job("j").Task("a", testutil.Instances(3)).Task("b").Obj()
	object.Spec.Job.JobName = "J"
	spec, err := resolve.Resolve(object)
	if err != nil {
		t.Fatal(err)
	}
	job := JobOf(object)
	for i := range spec.Tasks {
		if job.Tasks[i] != spec.Tasks[i].Name {
			t.Errorf("task %d is %q", i, job.Tasks[i])
		}
	}
	if job.JobID != spec.ID || job.Name != "j" || job.Namespace != "default" || job.DisplayName != "J" || job.UID != object.UID || job.Numbering.Start(1) != spec.Tasks[0].InstanceNum {
		t.Errorf("got %+v", job)
	}
}

// TestFormatNumbers: numbers are a bitmap where that is shorter, and mean the same.
func TestFormatNumbers(t *testing.T) {
	n := NewNumbering(1, func(int) int { return 300 })
	rapid.Check(t, func(t *rapid.T) {
		set := ranges.Of(rapid.SliceOfN(rapid.IntRange(0, 299), 1, 200).Draw(t, "numbers")...)
		text := FormatNumbers(event.TaskInstanceFailed, set)
		asBits := len(bitmap) + base64.StdEncoding.EncodedLen(set.Max()/8+1)
		if want := min(len(set.String()), asBits); len(text) != want {
			t.Fatalf("%q has %d bytes, want %d", text, len(text), want)
		}
		if back, err := ParseNumbers(event.TaskInstanceFailed, text, n); err != nil || !back.Equal(set) {
			t.Fatalf("%q is %v, %v", text, back, err)
		}
	})
}

// TestParse: what somebody has edited is refused.
func TestParse(t *testing.T) {
	bits := func(b ...byte) string { return bitmap + base64.StdEncoding.EncodeToString(b) }
	now := metav1.NewTime(start)
	for name, tc := range map[string]struct {
		stored v1alpha1.PendingEvents
		want   string // "" : it is good
	}{
		"job":              {v1alpha1.PendingEvents{EventName: "JOB_FAILED"}, ""},
		"ranges":           {v1alpha1.PendingEvents{EventName: "TASK_INSTANCE_FAILED", Numbers: "0-2,5"}, ""},
		"bitmap":           {v1alpha1.PendingEvents{EventName: "TASK_INSTANCE_FAILED", Numbers: bits(0x3f)}, ""},
		"tasks":            {v1alpha1.PendingEvents{EventName: "TASK_FAILED", Numbers: "0-2"}, ""},
		"no name":          {v1alpha1.PendingEvents{}, "is no event of a job"},
		"unknown":          {v1alpha1.PendingEvents{EventName: "JOB_EXPLODED"}, "is no event of a job"},
		"of a ComputeEnv":  {v1alpha1.PendingEvents{EventName: "COMPUTE_ENV_CREATED"}, "is no event of a job"},
		"job with numbers": {v1alpha1.PendingEvents{EventName: "JOB_FAILED", Numbers: "0"}, "must have no numbers"},
		"no numbers":       {v1alpha1.PendingEvents{EventName: "TASK_FAILED"}, "must be from 0 to 2"},
		"too large":        {v1alpha1.PendingEvents{EventName: "TASK_FAILED", Numbers: "3"}, "must be from 0 to 2"},
		"far too large":    {v1alpha1.PendingEvents{EventName: "COMPUTE_NODE_CREATED", Numbers: "0-2147483647"}, "must be from 0 to 5"},
		"no range":         {v1alpha1.PendingEvents{EventName: "TASK_FAILED", Numbers: "x"}, "must be a decimal number"},
		"bit too large":    {v1alpha1.PendingEvents{EventName: "TASK_INSTANCE_FAILED", Numbers: bits(0x7f)}, "must be from 0 to 5"},
		"empty bitmap":     {v1alpha1.PendingEvents{EventName: "TASK_INSTANCE_FAILED", Numbers: bits(0)}, "must be from 0 to 5"},
		"no bits":          {v1alpha1.PendingEvents{EventName: "TASK_INSTANCE_FAILED", Numbers: bitmap}, "must be from 0 to 5"},
		"no base64":        {v1alpha1.PendingEvents{EventName: "TASK_INSTANCE_FAILED", Numbers: bitmap + "?"}, "the bitmap"},
		"long bitmap":      {v1alpha1.PendingEvents{EventName: "TASK_INSTANCE_FAILED", Numbers: bitmap + strings.Repeat("A", 1<<20)}, "less than 6"},
		"negative run":     {v1alpha1.PendingEvents{EventName: "JOB_FAILED", Run: -1}, "no negative run"},
		"negative attempt": {v1alpha1.PendingEvents{EventName: "JOB_FAILED", Attempt: -1}, "no negative run"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.stored.Time = now
			b, err := Parse([]v1alpha1.PendingEvents{tc.stored}, numbering())
			if (err == nil) != (tc.want == "") || err != nil && (!strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "pending event 0: ")) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			if err != nil && b != nil {
				t.Error("there is a backlog as well")
			}
		})
	}
	if _, err := Parse([]v1alpha1.PendingEvents{{EventName: "JOB_FAILED"}}, numbering()); err == nil {
		t.Error("an event has no time")
	}
	if b, err := Parse(nil, Numbering{}); b != nil || err != nil || b.Stored() != nil {
		t.Errorf("nothing is %v, %v", b, err)
	}
	if _, err := Parse([]v1alpha1.PendingEvents{{EventName: "TASK_FAILED", Numbers: "0", Time: now}}, Numbering{}); err == nil {
		t.Error("a job without tasks has an event of one")
	}
}

// FuzzParse proves that what Parse accepts gives valid events, and means the same after a round trip.
func FuzzParse(f *testing.F) {
	for _, name := range event.Names() {
		for _, numbers := range []string{"", "0", "0-4,5", "1,2", "bits:PQ==", "bits:", "bits:////", "0-99999999999"} {
			f.Add(string(name), numbers, int64(1), int64(2), "STARTING")
		}
	}
	f.Fuzz(func(t *testing.T, name, numbers string, run, attempt int64, state string) {
		stored := []v1alpha1.PendingEvents{{EventName: name, Numbers: numbers, Run: run, Attempt: attempt, JobState: v1alpha1.JobState(state), Time: metav1.NewTime(start)}}
		b, err := Parse(stored, numbering())
		if err != nil {
			return
		}
		n := 0
		for due := range b.Events(testJob(), allEvents(), nil) {
			if err := due.Event.Validate(); err != nil {
				t.Errorf("%q, %q: %v", name, numbers, err)
			}
			n++
		}
		if n != b.Len() || n == 0 || n > numbering().limit(event.TaskInstanceFailed) {
			t.Errorf("%q, %q are %d events", name, numbers, n)
		}
		back, err := Parse(b.Stored(), numbering())
		if err != nil || !back[0].Numbers.Equal(b[0].Numbers) || back[0].Key != b[0].Key {
			t.Errorf("%q, %q are %v, and stored %v, %v", name, numbers, b, back, err)
		}
	})
}
