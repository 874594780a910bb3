// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"reflect"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
)

var (
	metaShape   = shapeOf(reflect.TypeFor[metav1.ObjectMeta]())
	statusShape = shapeOf(reflect.TypeFor[v1alpha1.BatchJobStatus]())
)

// storedFrame is what surrounds metadata, spec and status in the JSON form of a BatchJob.
const storedFrame = len(`{"kind":"BatchJob","apiVersion":"batchcompute.dev/v1alpha1","metadata":,"spec":,"status":}`)

// StoredSize returns how many bytes of etcd a BatchJob takes up: its JSON form, the managed
// fields included. While the job may still run, its status counts as the largest that it can
// reach (WorstStatusSize), so the number does not grow with the job's progress; that of a job
// that has ended, or that never runs since another one has its client token, counts as it is.
// So the number only grows when somebody adds metadata, or has a job that ended retried.
//
// It needs the whole job. Cost: linear in its size, a small part of what decoding it takes, and
// no memory that grows with its texts.
func StoredSize(job *v1alpha1.BatchJob) int64 {
	size := storedFrame + encodedSize(metaShape, reflect.ValueOf(&job.ObjectMeta).Elem()) + SpecSize(&job.Spec)
	if job.Status.EndTime != nil || meta.IsStatusConditionTrue(job.Status.Conditions, v1alpha1.ConditionDuplicate) {
		size += encodedSize(statusShape, reflect.ValueOf(&job.Status).Elem())
	} else {
		size += WorstStatusSize(&job.Spec)
	}
	return int64(size)
}

// mapSize is the length of the JSON form of a map of texts.
func mapSize(m map[string]string) int {
	size := len("{}") + max(len(m)-1, 0)
	for key, value := range m {
		size += stringSize(key) + len(":") + stringSize(value)
	}
	return size
}
