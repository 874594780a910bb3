// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dockerrun

import (
	"k8s.io/apimachinery/pkg/api/resource"

	"batchcompute.dev/operator/api/v1alpha1"
)

// Options are placeholder.
type Options struct {
	User, Group *int64
	Env         []v1alpha1.EnvVar
	WorkingDir  string
	ShmSize     *resource.Quantity
	GPUs        int64
	AllGPUs     bool
}

// Parse is placeholder.
func Parse(text string) (Options, error) { return Options{}, nil }
