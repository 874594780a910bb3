// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/hack/internal/install"
	"batchcompute.dev/operator/hack/internal/receiver"
	"batchcompute.dev/operator/internal/notify/event"
)

// notificationSample is the sample with notifications, and demoTopic their topic.
const (
	notificationSample = "notifications"
	demoTopic          = "demo-events"
)

// eventsTimeout bounds how long events may take after the end of their job.
const eventsTimeout = 5 * time.Minute

// listen starts a receiver in this program, and adds it to the catalogue that will be installed. It does nothing where the
// manager cannot reach this machine.
func (d *demo) listen() error {
	if d.cluster.HostIP == "" {
		return nil
	}
	r, err := receiver.Listen(d.cluster.HostIP)
	if err != nil {
		return err
	}
	d.receiver = r
	d.cluster.Topics = append(d.cluster.Topics, install.Topic(demoTopic, "http://"+r.Address()+"/events"))
	return nil
}

// extraSamples returns the samples that are not for every cluster and can run on this one, and says why others are left out.
func (d *demo) extraSamples() (names []string) {
	if d.cluster.Store != nil {
		names = append(names, dataSamples...)
	} else {
		fmt.Fprintf(d.out, "The samples %s are left out: they need the object store and the volume that the demo makes beside a local cluster with a real node.\n",
			strings.Join(dataSamples, ", "))
	}
	if d.receiver != nil {
		names = append(names, notificationSample)
	} else {
		fmt.Fprintf(d.out, "The sample %s is left out: it needs a receiver of events, and this one runs in the demo, which only the manager of a local cluster can reach.\n",
			notificationSample)
	}
	return names
}

// showEvents prints the events of a job that the receiver got, and compares them with those that the sample is made for.
func (d *demo) showEvents(ctx context.Context, job *v1alpha1.BatchJob) error {
	deadline := time.Now().Add(eventsTimeout)
	var events []cloudevents.Event
	for {
		var err error
		if events, err = d.receiver.Events(job.Status.JobID); err != nil {
			return fmt.Errorf("receiving events: %w", err)
		}
		if len(events) >= len(receiver.Sample) || time.Now().After(deadline) {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	for i := range events {
		fmt.Fprintln(d.out, eventLine(&events[i]))
	}
	if err := receiver.Check(events, receiver.Sample); err != nil {
		return fmt.Errorf("the events of job %s: %w\n%s", job.Name, err, d.whyNotified(ctx, job))
	}
	fmt.Fprintf(d.out, "These are all %d, in order. The receiver ends with this program: events of jobs that you run later wait, at most for a day.\n", len(events))
	return nil
}

// eventLine is what is printed of an event: time, name, subject, id, and the variables that the job gives it.
func eventLine(e *cloudevents.Event) string {
	line := fmt.Sprintf("%s  %-22s %-21s %s", e.Time().UTC().Format(time.RFC3339), receiver.Name(e), e.Subject(), e.ID())
	var data event.Data
	if err := json.Unmarshal(e.Data(), &data); err != nil {
		return line + "  " + err.Error()
	}
	for _, v := range data.EventVars {
		line += fmt.Sprintf("  %s=%s", v.Name, v.Value)
	}
	return line
}

// whyNotified is what the status of a job says of its notifications now.
func (d *demo) whyNotified(ctx context.Context, job *v1alpha1.BatchJob) string {
	now := &v1alpha1.BatchJob{}
	if err := d.client.Get(ctx, client.ObjectKeyFromObject(job), now); err != nil {
		return err.Error()
	}
	for _, c := range now.Status.Conditions {
		if c.Type == v1alpha1.ConditionNotified {
			return fmt.Sprintf("%s is %s: %s", c.Type, c.Status, cmp.Or(c.Message, c.Reason))
		}
	}
	return v1alpha1.ConditionNotified + " is not set"
}

// samplePath is the path of a sample's manifest.
func samplePath(name string) string { return path.Join(samples, name+".yaml") }
