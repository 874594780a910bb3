// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"

	"batchcompute.dev/operator/internal/notify/event"
	"batchcompute.dev/operator/internal/notify/sink"
)

// events returns the events of a job from lines such as those of Sample.
func events(t *testing.T, lines ...string) []event.Event {
	t.Helper()
	var out []event.Event
	for _, line := range lines {
		name, subject, _ := strings.Cut(line, " ")
		e := event.Event{Name: event.Name(name), Time: time.Unix(1, 0), Subject: event.Subject{Namespace: "a", Object: "b", JobID: "job-1a2b3c4d"}}
		task, index, ofInstance := strings.Cut(subject, "/")
		if e.Subject.Task = task; ofInstance {
			e.Subject.Index = int64(index[0] - '0')
		}
		out = append(out, e)
	}
	return out
}

// TestReceiver: what the operator sends arrives in its order, also after the receiver was down, and repeats are dropped.
func TestReceiver(t *testing.T) {
	r, err := Listen("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { r.Stop() }()
	to, err := sink.NewHTTP(sink.Config{URL: "http://" + r.Address() + "/hook", Format: sink.Structured}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	all, address := events(t, Sample...), r.Address()
	if err := to.Send(t.Context(), all[:3]); err != nil {
		t.Fatal(err)
	}
	r.Stop()
	if err := to.Send(t.Context(), all[3:]); err == nil {
		t.Error("events are acknowledged while the receiver is down")
	}
	if err := r.Start(); err != nil || r.Address() != address {
		t.Fatalf("started at %s, not %s: %v", r.Address(), address, err)
	}
	if err := to.Send(t.Context(), all[2:]); err != nil {
		t.Fatal(err)
	}
	got, err := r.Events("job-1a2b3c4d")
	if err != nil {
		t.Error(err)
	}
	if err := Check(got, Sample); err != nil {
		t.Error(err)
	}
	if other, _ := r.Events("job-11111111"); len(other) > 0 {
		t.Errorf("%d events of another job", len(other))
	}
	answer, err := http.Post("http://"+address, cloudevents.ApplicationCloudEventsJSON, strings.NewReader(`{"id": "1"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if _, err := r.Events(""); err == nil || answer.StatusCode != http.StatusBadRequest {
		t.Errorf("what is no event is answered %s, error %v", answer.Status, err)
	}
}

func TestCheck(t *testing.T) {
	swapped := func(i, j int) []string {
		out := slices.Clone(Sample)
		out[i], out[j] = out[j], out[i]
		return out
	}
	for name, tc := range map[string]struct {
		lines []string
		ok    bool
	}{
		"as it should be":        {Sample, true},
		"instances of one task":  {swapped(2, 3), true},
		"a task and an instance": {swapped(3, 4), false},
		"two tasks":              {swapped(2, 6), false},
		"one is missing":         {Sample[1:], false},
		"none":                   {nil, false},
	} {
		var list []cloudevents.Event
		for _, e := range events(t, tc.lines...) {
			ce, err := e.CloudEvent(event.Origin{})
			if err != nil {
				t.Fatal(err)
			}
			text, _ := json.Marshal(ce)
			var read cloudevents.Event
			if err := json.Unmarshal(text, &read); err != nil {
				t.Fatal(err)
			}
			list = append(list, read)
		}
		if err := Check(list, Sample); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
