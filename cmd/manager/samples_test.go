// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/archtest"
)

// testPageSamples creates the samples of the pages as a reader would, each in a namespace of its own. The API
// server and the webhook must take them without a warning, and the operator must accept each object.
func (c *cluster) testPageSamples(t *testing.T) {
	for i, name := range []string{"README.md", "docs/batchjob.md", "docs/computeenv.md"} {
		page, err := os.ReadFile("../../" + name)
		must(t, err)
		samples := archtest.ParseSamples(string(page))
		if len(samples) == 0 {
			t.Errorf("%s has no sample", name)
		}
		for j, sample := range samples {
			namespace := fmt.Sprintf("sample-%d-%d", i, j)
			must(t, c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}))
			out, err := c.run(t, strings.Join(sample.Objects, "\n---\n"), "create", "--validate=strict", "-n", namespace, "-f", "-")
			if err != nil || strings.Contains(out, "Warning") || strings.Count(out, " created") != len(sample.Objects) {
				t.Errorf("%s, %s: %v\n%s", name, sample.Section, err, out)
				continue
			}
			eventually(t, func() error { return c.accepted(t, namespace, len(sample.Objects)) })
		}
	}
}

// accepted returns nil when all objects of a namespace are accepted, and there are n.
func (c *cluster) accepted(t *testing.T, namespace string, n int) error {
	var jobs v1alpha1.BatchJobList
	var envs v1alpha1.ComputeEnvList
	must(t, c.List(t.Context(), &jobs, client.InNamespace(namespace)))
	must(t, c.List(t.Context(), &envs, client.InNamespace(namespace)))
	for _, job := range jobs.Items {
		if !meta.IsStatusConditionTrue(job.Status.Conditions, v1alpha1.ConditionAccepted) {
			return fmt.Errorf("the job %s has the conditions %v", job.Name, job.Status.Conditions)
		}
	}
	for _, env := range envs.Items {
		if !meta.IsStatusConditionTrue(env.Status.Conditions, v1alpha1.ConditionReady) {
			return fmt.Errorf("the ComputeEnv %s has the conditions %v", env.Name, env.Status.Conditions)
		}
	}
	if got := len(jobs.Items) + len(envs.Items); got != n {
		return fmt.Errorf("there are %d objects, want %d", got, n)
	}
	return nil
}
