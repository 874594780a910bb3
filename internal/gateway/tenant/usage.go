// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/gateway/refusal"
)

// Usage is what a container used in one window, by the cluster's metrics API.
type Usage struct {
	// At is the end of the window.
	At time.Time
	// Window is the time over which CPU is the average.
	Window time.Duration
	// Resources has cpu and memory.
	Resources corev1.ResourceList
}

// podMetrics is a PodMetrics of metrics.k8s.io/v1beta1.
type podMetrics struct {
	Timestamp  metav1.Time
	Window     metav1.Duration
	Containers []struct {
		Name  string
		Usage corev1.ResourceList
	}
}

// Usage reads the newest sample that the cluster's metrics API has of a container; nil if it has none. The error is a
// Refusal if the cluster has no such API, or if it does not answer.
func (c *Client) Usage(ctx context.Context, pod, container string) (*Usage, error) {
	result := c.core.RESTClient().Get().AbsPath("/apis/metrics.k8s.io/v1beta1/namespaces", c.Namespace, "pods", pod).
		SetHeader("Accept", "application/json").Do(ctx)
	err := result.Error() // with the Status that the API answers, which the error of Raw does not have
	switch {
	case apierrors.IsNotFound(err) && !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse):
		return nil, nil // the API answers that it has no sample
	case apierrors.IsNotFound(err), apierrors.IsServiceUnavailable(err):
		return nil, refusal.New(errcode.ResourceUnavailable, "the cluster has no metrics API that answers (metrics.k8s.io)")
	case err != nil:
		return nil, fmt.Errorf("reading the metrics of Pod %s: %w", pod, err)
	}
	text, err := result.Raw()
	if err != nil {
		return nil, fmt.Errorf("reading the metrics of Pod %s: %w", pod, err)
	}
	var sample podMetrics
	if err := json.Unmarshal(text, &sample); err != nil {
		return nil, fmt.Errorf("decoding the metrics of Pod %s: %w", pod, err)
	}
	for _, s := range sample.Containers {
		if s.Name == container {
			return &Usage{At: sample.Timestamp.Time, Window: sample.Window.Duration, Resources: s.Usage}, nil
		}
	}
	return nil, nil
}
