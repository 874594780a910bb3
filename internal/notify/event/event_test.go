// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package event

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"batchcompute.dev/operator/api/v1alpha1"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var at = time.Date(2026, 11, 30, 8, 0, 0, 0, time.UTC)

// example returns a complete event of each name.
func example(n Name) Event {
	e := Event{Name: n, Time: at, Vars: []v1alpha1.EventVar{{Name: "owner", Value: "ci"}},
		Subject: Subject{Namespace: "films", Object: "trailer", JobID: "job-1a2b3c4d", Run: 1},
		Details: Details{DisplayName: "Trailer", JobState: "RUNNING"}}
	if n.State() == "FAILED" {
		e.Details.Reason, e.Details.Message = "CommandFailed", "The command ended with exit code 3."
	}
	switch n.Level() {
	case Task:
		e.Subject.Task = "render"
	case TaskInstance:
		e.Subject.Task, e.Subject.Index, e.Subject.Attempt = "render", 7, 2
		e.Details.TaskState, e.Details.Machine, e.Details.ExitCode = "RUNNING", "worker-3", new(int32(3))
	case ComputeNode:
		e.Subject = Subject{Namespace: "films", Object: "farm", EnvID: "env-1a2b3c4d", Node: "node-1a2b3c4d"}
		e.Occurrence = 3
		e.Details = Details{DisplayName: "Farm", Machine: "worker-3", CPU: 4, Memory: 8, Created: at.Add(time.Second)}
	case ComputeEnv:
		e.Subject = Subject{Namespace: "films", Object: "farm", EnvID: "env-1a2b3c4d"}
		e.Details = Details{DisplayName: "Farm"}
	}
	return e
}

func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	s, err := jsonschema.NewCompiler().Compile("../../../docs/notification.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// check compares data with the schema.
func check(t *testing.T, s *jsonschema.Schema, data []byte) {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err == nil {
		err = s.Validate(v)
	}
	if err != nil {
		t.Errorf("%s: %v", data, err)
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, got, "", "  "); err != nil {
		t.Fatal(err)
	}
	b.WriteByte('\n')
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// TestExamples compares an event of each name with testdata, in both forms, and its data with the schema.
func TestExamples(t *testing.T) {
	t.Parallel()
	s, seen := schema(t), map[string]bool{}
	for _, n := range Names() {
		e := example(n)
		ce, err := e.CloudEvent(Origin{Cluster: "https://cluster.example"})
		if err != nil {
			t.Fatal(err)
		}
		if seen[ce.ID()] || ce.Type() != TypePrefix+string(n) {
			t.Errorf("%s: id %q, type %q", n, ce.ID(), ce.Type())
		}
		seen[ce.ID()] = true
		check(t, s, ce.Data())
		text, err := json.Marshal(ce)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, string(n)+".cloudevent.json", text)
		body, err := BuildBody(Origin{Region: "ap-guangzhou"}, []Event{e})
		if err != nil {
			t.Fatal(err)
		}
		golden(t, string(n)+".body.json", body)
	}
}

// TestSchema checks that the schema has the fields of Data and refuses others.
func TestSchema(t *testing.T) {
	t.Parallel()
	s := schema(t)
	for i := range reflect.TypeFor[Data]().NumField() {
		name, _, _ := strings.Cut(reflect.TypeFor[Data]().Field(i).Tag.Get("json"), ",")
		if s.Properties[name] == nil {
			t.Errorf("the schema has no %s", name)
		}
	}
	if n := reflect.TypeFor[Data]().NumField(); n != len(s.Properties) {
		t.Errorf("the schema has %d fields, want %d", len(s.Properties), n)
	}
	for _, bad := range []string{
		`{}`, `{"eventName":"JOB_FAILED","namespace":"a","name":"b"}`,
		`{"eventName":"JOB_GONE","namespace":"a","name":"b","envId":"env-1a2b3c4d"}`,
		`{"eventName":"COMPUTE_ENV_CREATED","namespace":"a","name":"b","envId":"env-1a2b3c4d","x":1}`,
	} {
		if v, _ := jsonschema.UnmarshalJSON(strings.NewReader(bad)); s.Validate(v) == nil {
			t.Errorf("the schema accepts %s", bad)
		}
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	node := example(ComputeNodeRunning)
	ofJob := example(TaskInstanceFailed)
	ofJob.Name, ofJob.Subject.Node, ofJob.Occurrence = ComputeNodeCreated, "node-1a2b3c4d", 5
	job, instance := example(JobFailed), example(TaskInstanceFailed)
	for want, e := range map[string]Event{
		"job-1a2b3c4d/1/JOB_FAILED job-1a2b3c4d":                                                             job,
		"job-1a2b3c4d/1/render/7/2/TASK_INSTANCE_FAILED job-1a2b3c4d/render/7":                               instance,
		"job-1a2b3c4d/1/render/7/2/node-1a2b3c4d/5/COMPUTE_NODE_CREATED job-1a2b3c4d/render/7/node-1a2b3c4d": ofJob,
		"env-1a2b3c4d/node-1a2b3c4d/3/COMPUTE_NODE_RUNNING env-1a2b3c4d/node-1a2b3c4d":                       node,
		"env-1a2b3c4d/COMPUTE_ENV_DELETED env-1a2b3c4d":                                                      example(ComputeEnvDeleted),
	} {
		if err := e.Validate(); err != nil {
			t.Error(err)
		}
		if got := e.ID() + " " + e.Path(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		of     Name
		change func(*Event)
	}{
		"unknown name":         {JobFailed, func(e *Event) { e.Name = "JOB_GONE" }},
		"no time":              {JobFailed, func(e *Event) { e.Time = time.Time{} }},
		"no owner":             {JobFailed, func(e *Event) { e.Subject.JobID = "" }},
		"two owners":           {JobFailed, func(e *Event) { e.Subject.EnvID = "env-1a2b3c4d" }},
		"job event of an env":  {ComputeEnvCreated, func(e *Event) { e.Name = JobFailed }},
		"env event of a job":   {JobFailed, func(e *Event) { e.Name = ComputeEnvCreated }},
		"task without a name":  {TaskFailed, func(e *Event) { e.Subject.Task = "" }},
		"job with a task":      {JobFailed, func(e *Event) { e.Subject.Task = "render" }},
		"node without an id":   {ComputeNodeRunning, func(e *Event) { e.Subject.Node = "" }},
		"no object":            {JobFailed, func(e *Event) { e.Subject.Object = "" }},
		"separator in a name":  {TaskFailed, func(e *Event) { e.Subject.Task = "a/b" }},
		"subject is too large": {TaskFailed, func(e *Event) { e.Subject.Task = strings.Repeat("a", maxID) }},
	} {
		e := example(tc.of)
		tc.change(&e)
		if _, err := e.CloudEvent(Origin{}); err == nil {
			t.Errorf("%s: no error from CloudEvent", name)
		}
		if _, err := BuildBody(Origin{}, []Event{e}); err == nil {
			t.Errorf("%s: no error from BuildBody", name)
		}
	}
	for _, o := range []Origin{{Cluster: "cluster"}, {Cluster: "https://u:p@h"}, {Cluster: "https://" + strings.Repeat("a", 300)}, {Region: strings.Repeat("a", 300)}} {
		if o.Validate() == nil {
			t.Errorf("no error for %v", o)
		}
	}
}

// TestBounds checks that an event with the largest and worst texts is less than 64 KiB and fits the schema.
func TestBounds(t *testing.T) {
	t.Parallel()
	e := example(TaskInstanceFailed)
	bad := strings.Repeat("\x1b[1m\"\xff\u202e", 100_000)
	e.Details = Details{DisplayName: bad, Reason: bad, Message: bad, Machine: bad}
	e.Vars = nil
	for range 1000 {
		e.Vars = append(e.Vars, v1alpha1.EventVar{Name: "n", Value: strings.Repeat("x", 5000)})
	}
	e.Vars[0].Value = bad
	ce, err := e.CloudEvent(Origin{})
	if err != nil {
		t.Fatal(err)
	}
	check(t, schema(t), ce.Data())
	text, err := json.Marshal(ce)
	if err != nil || len(text) >= 64<<10 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	d := e.Data()
	if n := len(d.EventVars); n == 0 || n+d.OmittedEventVars != len(e.Vars) {
		t.Errorf("%d variables and %d omitted of %d", n, d.OmittedEventVars, len(e.Vars))
	}
}

// TestPage: the table of docs/notifications.md has each event, and no other.
func TestPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/notifications.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "\n| event | when it is due |\n|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	var got, want []string
	for line := range strings.Lines(table) {
		cell := strings.Split(line, "|")[1]
		for _, m := range regexp.MustCompile("`([A-Z_]+)`").FindAllStringSubmatch(cell, -1) {
			got = append(got, m[1])
		}
	}
	for _, n := range Names() {
		want = append(want, string(n))
	}
	sort := cmpopts.SortSlices(func(a, b string) bool { return a < b })
	if diff := cmp.Diff(want, got, sort); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
