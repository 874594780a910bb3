// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package view

import (
	"encoding/base64"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/podspec"
)

// MaxLog is how many bytes of a stream an answer has, its last ones.
// Source: BatchCompute, TaskInstanceLog.StdoutLog.
const MaxLog = agentapi.MaxTail

// Log is the end of the streams of an instance, in base64. Source: BatchCompute, TaskInstanceLog.
type Log struct {
	TaskInstanceIndex      int64
	StdoutLog              *string
	StderrLog              *string
	StdoutRedirectPath     *string
	StderrRedirectPath     *string
	StdoutRedirectFileName *string
	StderrRedirectFileName *string
}

// Streams are the ends of the streams of an instance; nil where nothing is known.
type Streams struct{ Stdout, Stderr []byte }

// Tails returns the ends of the streams that the agent reported in a Pod whose command has ended. ok is false for
// a Pod without an agent, and before the command has ended: then the log of the container named
// podspec.ContainerName is all that there is.
func Tails(pod *corev1.Pod) (s Streams, ok bool) {
	runsAgent := false
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		runsAgent = runsAgent || c.Name == podspec.ContainerName && len(c.Command) > 0 && c.Command[0] == podspec.AgentProgram
	}
	ended := containerState(pod, podspec.ContainerName).Terminated
	if !runsAgent || ended == nil {
		return Streams{}, false
	}
	s.Stdout = []byte(agentapi.ParseResult(ended.Message).Tail)
	if outputs := containerState(pod, podspec.OutputsContainer).Terminated; outputs != nil {
		s.Stderr = []byte(agentapi.ParseResult(outputs.Message).Tail)
	}
	return s, true
}

// HasLog reports whether the container of the command was started, so that it has a log.
func HasLog(pod *corev1.Pod) bool {
	state := containerState(pod, podspec.ContainerName)
	return state.Running != nil || state.Terminated != nil && !state.Terminated.StartedAt.IsZero()
}

// Log returns the log of an instance.
func (t *Task) Log(index int, s Streams) Log {
	v := Log{TaskInstanceIndex: int64(index), StdoutLog: encoded(s.Stdout), StderrLog: encoded(s.Stderr)}
	if r := t.Redirect(index); r != nil {
		v.StdoutRedirectPath, v.StderrRedirectPath = textOrNull(r.StdoutRedirectPath), textOrNull(r.StderrRedirectPath)
		v.StdoutRedirectFileName, v.StderrRedirectFileName = textOrNull(r.StdoutRedirectFileName), textOrNull(r.StderrRedirectFileName)
	}
	return v
}

// encoded returns the last MaxLog bytes in base64, nil for none known.
func encoded(b []byte) *string {
	if b == nil {
		return nil
	}
	return new(base64.StdEncoding.EncodeToString(b[max(0, len(b)-MaxLog):]))
}
