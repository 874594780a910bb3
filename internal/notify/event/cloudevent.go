// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package event

import (
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/sanitize"
)

const (
	// TypePrefix and the name of the event are the CloudEvent's type.
	TypePrefix = "dev.batchcompute."
	// DataSchema names the version of the CloudEvent's data. It is an identifier; nothing need be served there.
	DataSchema = "https://batchcompute.dev/schemas/notification-v1.json"
	// PartitionKey is the extension of CloudEvents by which a broker keeps the events of one job in order.
	PartitionKey = "partitionkey"

	// maxText bounds names and reasons, and maxVar the name or the value of a variable; longer ones are truncated. Of
	// more than maxVars of variables, counted as JSON, the last are left out. Unit: bytes.
	maxText = 256
	maxVar  = 4 << 10
	maxVars = 32 << 10
)

// Origin is where events come from. It is the same for all events of an operator.
type Origin struct {
	// Cluster is a URI, without a / at its end, that tells this cluster from others. "" if there is only one.
	Cluster string
	// Region is that of BatchCompute's body; "" if there is none.
	Region string
}

// Validate returns an error if Cluster is no absolute URI or a text is too long.
func (o Origin) Validate() error {
	if u, err := url.Parse(o.Cluster); o.Cluster != "" && (err != nil || !u.IsAbs() || u.User != nil || len(o.Cluster) > maxText) {
		return fmt.Errorf("cluster must be an absolute URI without a user and with at most %d bytes", maxText)
	}
	if len(o.Region) > maxText {
		return fmt.Errorf("region must have at most %d bytes", maxText)
	}
	return nil
}

// Var is a pair of a notification, in the data of a CloudEvent.
type Var struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Data is the data of a CloudEvent. docs/notification.schema.json is its schema.
type Data struct {
	EventName             string `json:"eventName"`
	Namespace             string `json:"namespace"`
	Name                  string `json:"name"`
	JobID                 string `json:"jobId,omitempty"`
	JobName               string `json:"jobName,omitempty"`
	JobState              string `json:"jobState,omitempty"`
	Run                   *int64 `json:"run,omitempty"`
	TaskName              string `json:"taskName,omitempty"`
	TaskState             string `json:"taskState,omitempty"`
	TaskInstanceIndex     *int64 `json:"taskInstanceIndex,omitempty"`
	Attempt               *int64 `json:"attempt,omitempty"`
	TaskInstanceState     string `json:"taskInstanceState,omitempty"`
	ExitCode              *int32 `json:"exitCode,omitempty"`
	Reason                string `json:"reason,omitempty"`
	Message               string `json:"message,omitempty"`
	EnvID                 string `json:"envId,omitempty"`
	EnvName               string `json:"envName,omitempty"`
	ComputeNodeID         string `json:"computeNodeId,omitempty"`
	ComputeNodeInstanceID string `json:"computeNodeInstanceId,omitempty"`
	ComputeNodeState      string `json:"computeNodeState,omitempty"`
	CPU                   int64  `json:"cpu,omitempty"`
	Mem                   int64  `json:"mem,omitempty"`
	ResourceCreatedTime   string `json:"resourceCreatedTime,omitempty"`
	EventVars             []Var  `json:"eventVars,omitempty"`
	// OmittedEventVars is the number of variables that were too large together.
	OmittedEventVars int `json:"omittedEventVars,omitempty"`
}

// Data returns the event's data.
func (e *Event) Data() Data {
	s, d := &e.Subject, &e.Details
	out := Data{
		EventName: string(e.Name), Namespace: s.Namespace, Name: s.Object, JobID: s.JobID, TaskName: s.Task,
		JobState: text(d.JobState), TaskState: text(d.TaskState),
		ExitCode: d.ExitCode, Reason: text(d.Reason), Message: sanitize.Message(d.Message),
		EnvID: s.EnvID, ComputeNodeID: s.Node, ComputeNodeInstanceID: text(d.Machine), CPU: d.CPU, Mem: d.Memory,
	}
	if !d.Created.IsZero() {
		out.ResourceCreatedTime = stamp(d.Created)
	}
	if s.JobID != "" {
		out.JobName, out.Run = text(d.DisplayName), new(s.Run)
	} else {
		out.EnvName = text(d.DisplayName)
	}
	if e.hasInstance() {
		out.TaskInstanceIndex, out.Attempt = new(s.Index), new(s.Attempt)
	}
	switch state := e.Name.State(); e.Name.Level() {
	case Job:
		out.JobState = state
	case Task:
		out.TaskState = state
	case TaskInstance:
		out.TaskInstanceState = state
	case ComputeNode:
		out.ComputeNodeState = state
	}
	out.EventVars, out.OmittedEventVars = boundedVars(e.Vars)
	return out
}

// CloudEvent returns the event as a CloudEvent 1.0. An error means that the event or the origin is not valid.
func (e *Event) CloudEvent(o Origin) (event.Event, error) {
	out := event.New()
	if err := e.Validate(); err != nil {
		return out, err
	}
	kind := "batchjobs"
	if e.Subject.JobID == "" {
		kind = "computeenvs"
	}
	out.SetID(e.ID())
	out.SetSource(o.Cluster + "/namespaces/" + e.Subject.Namespace + "/" + kind + "/" + e.Subject.Object)
	out.SetType(TypePrefix + string(e.Name))
	out.SetSubject(e.Path())
	out.SetTime(e.Time.UTC())
	out.SetDataSchema(DataSchema)
	out.SetExtension(PartitionKey, e.Owner())
	data, err := json.Marshal(e.Data())
	if err != nil {
		return out, fmt.Errorf("encoding %s: %w", e.ID(), err)
	}
	// As []byte, the SDK would write it as base64.
	if err := out.SetData(event.ApplicationJSON, json.RawMessage(data)); err != nil {
		return out, fmt.Errorf("encoding %s: %w", e.ID(), err)
	}
	if err := out.Validate(); err != nil {
		return out, fmt.Errorf("%s is no valid CloudEvent: %w", e.ID(), err)
	}
	return out, nil
}

// boundedVars returns the variables that fit, in order, and how many do not.
func boundedVars(vars []v1alpha1.EventVar) ([]Var, int) {
	var out []Var
	size := 0
	for i, v := range vars {
		bounded := Var{Name: sanitize.Truncate(v.Name, maxVar), Value: sanitize.Truncate(v.Value, maxVar)}
		size += len(`{"name":,"value":},`) + sizeInJSON(bounded.Name) + sizeInJSON(bounded.Value)
		if size > maxVars {
			return out, len(vars) - i
		}
		out = append(out, bounded)
	}
	return out, 0
}

// sizeInJSON returns the number of bytes that s takes as a JSON string.
func sizeInJSON(s string) int {
	b, _ := json.Marshal(s) // a string has no error
	return len(b)
}

func text(s string) string { return sanitize.Text(s, maxText) }

// stamp returns a time in the API's form.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
