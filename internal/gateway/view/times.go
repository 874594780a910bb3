// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package view

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// stamp returns a time as the API writes it: 2020-08-01T08:00:00Z.
func stamp(t metav1.Time) string { return t.UTC().Format(time.RFC3339) }

// stampOrNull is stamp, and nil for no time.
func stampOrNull(t *metav1.Time) *string {
	if t == nil || t.IsZero() {
		return nil
	}
	return new(stamp(*t))
}

// textOrNull returns nil for an empty text.
func textOrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
