// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package staging brings a task's data to where its command finds it, and takes its results to a store.
// It is the library of the agent in a Pod, and knows nothing of Kubernetes.
package staging

import (
	"context"

	"batchcompute.dev/operator/internal/agentapi"
)

// Progress is how far a transfer is.
type Progress struct {
	// Phase is the field that is worked on, such as inputMappings[0].
	Phase string
	// Files and TotalFiles count files; Bytes and TotalBytes their contents. A total is 0 until it is known.
	Files, TotalFiles int
	Bytes, TotalBytes int64
}

// Reporter is told of progress, at most every 10 s and once at the end of a phase. It must not block.
type Reporter interface {
	Progress(Progress)
}

// Stage copies the inputs and unpacks the package. The result's class is empty for success.
func Stage(ctx context.Context, c agentapi.Stage, report Reporter) agentapi.Result {
	_, _, _ = ctx, c, report
	return agentapi.Result{Version: agentapi.Version}
}

// Store uploads the streams, and the outputs if the command succeeded or c.OnFailure is set.
func Store(ctx context.Context, c agentapi.Outputs, succeeded bool, report Reporter) agentapi.Result {
	_, _, _, _ = ctx, c, succeeded, report
	return agentapi.Result{Version: agentapi.Version}
}
