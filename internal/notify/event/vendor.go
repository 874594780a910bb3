// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package event

import (
	"encoding/json"
	"fmt"
)

// vendorEvent is an event in BatchCompute's body. Source: BatchCompute, Event Notice & Callback.
type vendorEvent struct {
	EventVersion string
	EventTime    string
	Region       string `json:",omitempty"`
	EventName    string
	EventVars    []vendorVar
	Batch        vendorBatch
}

type vendorVar struct{ Name, Value string }

// vendorBatch is what an event is about. The names are those of the structures of the Describe actions. The API
// documents the fields of node events only.
type vendorBatch struct {
	JobID                 string `json:"JobId,omitempty"`
	JobName               string `json:",omitempty"`
	JobState              string `json:",omitempty"`
	TaskName              string `json:",omitempty"`
	TaskState             string `json:",omitempty"`
	TaskInstanceIndex     *int64 `json:",omitempty"`
	TaskInstanceState     string `json:",omitempty"`
	ExitCode              *int32 `json:",omitempty"`
	StateReason           string `json:",omitempty"`
	StateDetailedReason   string `json:",omitempty"`
	EnvID                 string `json:"EnvId,omitempty"`
	EnvName               string `json:",omitempty"`
	ComputeNodeID         string `json:"ComputeNodeId,omitempty"`
	ComputeNodeInstanceID string `json:"ComputeNodeInstanceId,omitempty"`
	ComputeNodeState      string `json:",omitempty"`
	CPU                   int64  `json:"Cpu,omitempty"`
	Mem                   int64  `json:",omitempty"`
	ResourceCreatedTime   string `json:",omitempty"`
}

// BuildBody returns events in BatchCompute's body, {"Events":[…]}, in their order. It has no ids. An error means that
// an event is not valid.
func BuildBody(o Origin, events []Event) ([]byte, error) {
	body := struct{ Events []vendorEvent }{Events: []vendorEvent{}}
	for i := range events {
		if err := events[i].Validate(); err != nil {
			return nil, err
		}
		body.Events = append(body.Events, events[i].vendor(o))
	}
	out, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encoding %d events: %w", len(events), err)
	}
	return out, nil
}

func (e *Event) vendor(o Origin) vendorEvent {
	d := e.Data()
	out := vendorEvent{
		EventVersion: "1.0", EventTime: stamp(e.Time), Region: o.Region, EventName: d.EventName, EventVars: []vendorVar{},
		Batch: vendorBatch{
			JobID: d.JobID, JobName: d.JobName, JobState: d.JobState, TaskName: d.TaskName, TaskState: d.TaskState,
			TaskInstanceIndex: d.TaskInstanceIndex, TaskInstanceState: d.TaskInstanceState, ExitCode: d.ExitCode,
			StateReason: d.Reason, StateDetailedReason: d.Message, EnvID: d.EnvID, EnvName: d.EnvName,
			ComputeNodeID: d.ComputeNodeID, ComputeNodeInstanceID: d.ComputeNodeInstanceID,
			ComputeNodeState: d.ComputeNodeState, CPU: d.CPU, Mem: d.Mem, ResourceCreatedTime: d.ResourceCreatedTime,
		},
	}
	for _, v := range d.EventVars {
		out.EventVars = append(out.EventVars, vendorVar(v))
	}
	return out
}
