// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package view

import (
	"encoding/json"
	"fmt"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/convert"
	"batchcompute.dev/operator/internal/naming"
)

// Submitted returns the answer of DescribeJobSubmitInfo: what was submitted, field for field, without passwords and
// keys.
func Submitted(job *v1alpha1.BatchJob) (map[string]json.RawMessage, error) {
	body, _ := convert.ToJSON(&convert.Request{Job: job})
	var request struct{ Job map[string]json.RawMessage }
	if err := json.Unmarshal(body, &request); err != nil {
		return nil, fmt.Errorf("encoding the request of BatchJob %s: %w", job.Name, err)
	}
	return answerOf(request.Job, "JobId", naming.JobID(job.UID), map[string]string{
		"JobName": `""`, "JobDescription": `""`, "Priority": fmt.Sprint(v1alpha1.DefaultPriority), "Tasks": "[]", "Dependences": "[]", "Tags": "[]",
	}), nil
}

// CreateInfo returns the answer of DescribeComputeEnvCreateInfo: what was created, without passwords and keys.
func CreateInfo(env *v1alpha1.ComputeEnv) (map[string]json.RawMessage, error) {
	created, err := AsCreated(env)
	if err != nil {
		return nil, err
	}
	body, _ := convert.ToJSON(&convert.Request{Env: created})
	var request struct {
		ComputeEnv map[string]json.RawMessage
		Placement  json.RawMessage
	}
	if err := json.Unmarshal(body, &request); err != nil {
		return nil, fmt.Errorf("encoding the request of ComputeEnv %s: %w", env.Name, err)
	}
	out := answerOf(request.ComputeEnv, "EnvId", naming.EnvID(env.UID), map[string]string{
		"EnvName": `""`, "EnvDescription": `""`, "EnvType": `"` + v1alpha1.EnvTypeManaged + `"`, "EnvData": "null",
		"MountDataDisks": "[]", "InputMappings": "[]", "Authentications": "[]", "Notifications": "[]", "DesiredComputeNodeCount": "0", "Tags": "[]",
	})
	return out, nil
}

// AsCreated returns a ComputeEnv with the spec that it was created with, as far as the gateway changed it since.
// The error says that what is noted of it cannot be read.
func AsCreated(env *v1alpha1.ComputeEnv) (*v1alpha1.ComputeEnv, error) {
	text := env.Annotations[v1alpha1.AnnotationCreatedAs]
	if text == "" {
		return env, nil
	}
	out := *env
	out.Spec = v1alpha1.ComputeEnvSpec{}
	if err := json.Unmarshal([]byte(text), &out.Spec); err != nil {
		return nil, fmt.Errorf("reading the annotation %s of ComputeEnv %s: %w", v1alpha1.AnnotationCreatedAs, env.Name, err)
	}
	return &out, nil
}

// answerOf returns those fields that the answer has, each with its value in a request or its default.
func answerOf(request map[string]json.RawMessage, idField, id string, defaults map[string]string) map[string]json.RawMessage {
	out := map[string]json.RawMessage{idField: json.RawMessage(`"` + id + `"`)}
	for field, absent := range defaults {
		if out[field] = request[field]; out[field] == nil {
			out[field] = json.RawMessage(absent)
		}
	}
	return out
}
