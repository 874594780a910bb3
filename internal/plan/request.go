// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"batchcompute.dev/operator/api/v1alpha1"
)

// requestOf returns what of a job's spec is the user's request. suspend, terminate, retryToken and
// ttlSecondsAfterFinished steer the job and do not count.
func requestOf(job *v1alpha1.BatchJob) v1alpha1.BatchJobSpec {
	return v1alpha1.BatchJobSpec{Placement: job.Spec.Placement, Job: job.Spec.Job, ClientToken: job.Spec.ClientToken}
}

// SameRequest reports whether two jobs make the same request. Absent and empty lists are the same.
func SameRequest(a, b *v1alpha1.BatchJob) bool {
	return apiequality.Semantic.DeepEqual(requestOf(a), requestOf(b))
}

// Digest returns 32 hexadecimal characters that are equal for two jobs that make the same request.
func Digest(job *v1alpha1.BatchJob) (string, error) {
	text, err := json.Marshal(requestOf(job))
	if err != nil {
		return "", fmt.Errorf("encoding the request: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16]), nil
}
