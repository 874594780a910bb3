// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/membudget"
	"batchcompute.dev/operator/internal/plan"
)

// jobReader reads jobs from the API server, and bounds the memory that whole large jobs take. Its methods may be called
// concurrently.
type jobReader struct {
	live   client.Reader
	memory *membudget.Gate
}

// current returns the job as the API server has it. The error is NotFound if the job was deleted, also if another job
// has its name now.
func (r *jobReader) current(ctx context.Context, job *v1alpha1.BatchJob) (*v1alpha1.BatchJob, error) {
	now := &v1alpha1.BatchJob{}
	err := r.live.Get(ctx, client.ObjectKeyFromObject(job), now)
	if err == nil && now.UID != job.UID {
		err = apierrors.NewNotFound(v1alpha1.GroupVersion.WithResource("batchjobs").GroupResource(), job.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the job from the API server: %w", err)
	}
	return now, nil
}

// whole returns the whole job. If job is an outline, it reads the current job, once lease has memory for it; the result
// may be newer than job. The error is NotFound if the job was deleted.
func (r *jobReader) whole(ctx context.Context, job *v1alpha1.BatchJob, lease *memoryLease) (*v1alpha1.BatchJob, error) {
	if !plan.IsOutline(job) {
		return job, nil
	}
	if err := r.acquire(ctx, lease, job.Namespace, plan.OutlineSize(job)); err != nil {
		return nil, err
	}
	return r.current(ctx, job)
}

// loadMemory is how much memory the large jobs that passes have read may take; reading a job takes twice its size for
// a moment. Unit: bytes.
const loadMemory = 16 << 20

// memoryLease is the memory that a pass has acquired to read whole jobs; the zero value has none.
type memoryLease struct{ release func() }

// unlimited returns a lease for reads that need no memory of the gate.
func unlimited() *memoryLease { return &memoryLease{release: func() {}} }

// acquire acquires memory for a job of this size. A lease that has memory gets no more, since two passes with memory
// could wait for each other forever.
func (r *jobReader) acquire(ctx context.Context, l *memoryLease, namespace string, size int) error {
	if size == 0 || l.release != nil {
		return nil
	}
	release, err := r.memory.Acquire(ctx, namespace, size)
	if err != nil {
		return fmt.Errorf("reading a large job: %w", err)
	}
	l.release = release
	return nil
}

// end releases the memory.
func (l *memoryLease) end() {
	if l.release != nil {
		l.release()
		l.release = nil
	}
}
