// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/internal/errcode"
)

// TestUnknownZones: with --unknown-zones=reject a request for a zone is refused until a node is
// in it.
func TestUnknownZones(t *testing.T) {
	c := startCluster(t)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "one", Labels: map[string]string{corev1.LabelTopologyZone: "ap-guangzhou-7"}}}
	must(t, c.Create(t.Context(), node))
	c.startManager(t, "--unknown-zones=reject")
	c.namespace(t, "zones", "")
	s := c.as(t, "", "zones")
	_, err := s.create(t.Context(), good)
	if !refusedWith(err, errcode.UnavailableZone) || !strings.Contains(err.Error(), "zones here: ap-guangzhou-7") {
		t.Fatalf("a job for a zone that no node is in: %v", err)
	}
	t.Log(err)
	node = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "two", Labels: map[string]string{corev1.LabelTopologyZone: "z-1"}}}
	must(t, c.Create(t.Context(), node))
	eventually(t, func() error {
		_, err := s.create(t.Context(), good)
		return err
	})
}
