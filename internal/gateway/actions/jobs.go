// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package actions

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/gateway/objects"
	"batchcompute.dev/operator/internal/gateway/refusal"
	"batchcompute.dev/operator/internal/gateway/view"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/validation"
)

// ofJob are the parameters of an action on one job.
type ofJob struct {
	JobID string `json:"JobId" params:"required"`
}

func describeJob(ctx context.Context, c *call, in *ofJob) (any, error) {
	job, err := c.Objects.Job(ctx, c.client, in.JobID)
	if err != nil {
		return nil, err
	}
	return view.JobDetails(job), nil
}

func describeJobSubmitInfo(ctx context.Context, c *call, in *ofJob) (any, error) {
	job, err := c.wholeJob(ctx, in.JobID)
	if err != nil {
		return nil, err
	}
	return view.Submitted(job)
}

// wholeJob reads the job with an identifier from the API server.
func (c *call) wholeJob(ctx context.Context, id string) (*v1alpha1.BatchJob, error) {
	job, err := c.Objects.Job(ctx, c.client, id)
	if err != nil {
		return nil, err
	}
	whole, err := objects.WholeJob(ctx, c.client, job.Name)
	if err == nil && (whole == nil || whole.UID != job.UID) {
		return nil, refusal.New(errcode.JobNotFound, "there is no job %s", id)
	}
	return whole, err
}

// describeJobsRequest are the parameters of DescribeJobs.
type describeJobsRequest struct {
	JobIDs  []string `json:"JobIds"`
	Filters []filter `params:"orItem"`
	Offset  *int64
	Limit   *int64
}

// jobList is the answer of DescribeJobs.
type jobList struct {
	JobSet     []view.JobView
	TotalCount int64
}

// jobFilters are the filters of DescribeJobs. Source: BatchCompute, DescribeJobs, Filters.
var jobFilters = map[string]property[*v1alpha1.BatchJob]{
	"job-id":    equal(func(j *v1alpha1.BatchJob) string { return naming.JobID(j.UID) }),
	"job-name":  equal(func(j *v1alpha1.BatchJob) string { return j.Spec.Job.JobName }),
	"job-state": equal(view.JobState),
	"zone":      equal(func(j *v1alpha1.BatchJob) string { return j.Spec.Placement.Zone }),
}

// jobStates are the values of the filter job-state, and of that of instances.
var jobStates = set([]string{
	string(v1alpha1.JobSubmitted), string(v1alpha1.JobPending), string(v1alpha1.JobRunnable), string(v1alpha1.JobStarting),
	string(v1alpha1.JobRunning), string(v1alpha1.JobSucceed), string(v1alpha1.JobFailed), string(v1alpha1.JobFailedInterrupted),
})

// describeJobs lists jobs, the newest first. Identifiers that no job has are left out.
func describeJobs(ctx context.Context, c *call, in *describeJobsRequest) (any, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	all, err := c.Objects.AllJobs(ctx, c.client)
	if err != nil {
		return nil, err
	}
	return selectJobs(all, in)
}

// check refuses what can be refused before the jobs are read.
func (in *describeJobsRequest) check() error {
	if err := checkChoice("JobIds", in.JobIDs, in.Filters); err != nil {
		return err
	}
	for _, id := range in.JobIDs {
		if err := objects.CheckJobID(id); err != nil {
			return err
		}
	}
	if err := checkStates(in.Filters, "job-state"); err != nil {
		return err
	}
	_, err := selectJobs(nil, in)
	return err
}

// selectJobs returns the page of jobs that a request asks for. It reorders the list.
// Cost: O(jobs * filters + matches * log matches).
func selectJobs(all []*v1alpha1.BatchJob, in *describeJobsRequest) (jobList, error) {
	out := jobList{JobSet: []view.JobView{}}
	page, err := pagingOf(in.Offset, in.Limit, defaultLimit, maxLimit, errcode.LimitExceeded)
	if err != nil {
		return out, err
	}
	matches, err := matcherOf(in.Filters, jobFilters, func(j *v1alpha1.BatchJob) []v1alpha1.Tag { return j.Spec.Job.Tags })
	if err != nil {
		return out, err
	}
	ids := set(in.JobIDs)
	found := slices.DeleteFunc(all, func(job *v1alpha1.BatchJob) bool {
		return !matches(job) || len(ids) > 0 && !ids[naming.JobID(job.UID)]
	})
	slices.SortFunc(found, newestFirst)
	out.TotalCount = int64(len(found))
	for _, job := range pageOf(found, page) {
		out.JobSet = append(out.JobSet, view.OfJob(job))
	}
	return out, nil
}

func newestFirst(a, b *v1alpha1.BatchJob) int {
	return cmp.Or(b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(a.UID, b.UID))
}

// checkStates refuses values of a filter that are no states.
func checkStates(filters []filter, name string) error {
	for i, f := range filters {
		for _, value := range f.Values {
			if f.Name == name && !jobStates[value] {
				return refusal.New(errcode.InvalidFilterValue, "Filters.%d.Values must be states such as %s, got %s", i, v1alpha1.JobRunning, validation.Quote(value))
			}
		}
	}
	return nil
}

// terminateJob ends a job. Whether it may is decided by its state in the API server, since the cache may lag.
func terminateJob(ctx context.Context, c *call, in *ofJob) (any, error) {
	job, err := c.wholeJob(ctx, in.JobID)
	if err != nil {
		return nil, err
	}
	return nil, c.changeJob(ctx, job.Name, job, func(now *v1alpha1.BatchJob) (map[string]any, error) {
		switch {
		case now.UID != job.UID:
			return nil, refusal.New(errcode.JobNotFound, "there is no job %s", in.JobID)
		case now.Spec.Terminate, plan.HasEnded(&now.Status) && !plan.RetryDue(now):
			return nil, nil
		case view.JobState(now) == string(v1alpha1.JobSubmitted) && !plan.IsDuplicate(now) && now.Annotations[v1alpha1.AnnotationAwaitsCredentials] == "":
			return nil, refusal.New(errcode.JobInUse, "job %s is SUBMITTED; it can be terminated when it has been looked at, in a moment", in.JobID)
		}
		return map[string]any{"spec": map[string]any{"terminate": true}}, nil
	})
}

// retryJobsRequest are the parameters of RetryJobs.
type retryJobsRequest struct {
	JobIDs []string `json:"JobIds" params:"required"`
}

// retryJobs runs the failed instances of jobs again. It changes none before it has looked at all.
func retryJobs(ctx context.Context, c *call, in *retryJobsRequest) (any, error) {
	switch {
	case len(in.JobIDs) == 0:
		return nil, refusal.New(errcode.MissingParameter, "JobIds: must be given")
	case len(in.JobIDs) > maxIDs:
		return nil, refusal.New(errcode.InvalidParameterValue, "JobIds must have at most %d items, got %d", maxIDs, len(in.JobIDs))
	}
	var jobs []*v1alpha1.BatchJob
	seen := map[string]bool{}
	for _, id := range in.JobIDs {
		if seen[id] {
			continue
		}
		seen[id] = true
		job, err := c.wholeJob(ctx, id)
		if err != nil {
			return nil, err
		}
		if err := mayRetry(job, id); err != nil {
			return nil, err
		}
		jobs = append(jobs, job)
	}
	for _, job := range jobs {
		if err := c.retry(ctx, job); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// retry runs the failed instances of a job again. Instances that TerminateTaskInstance ended run again as well, so the
// annotation is removed.
func (c *call) retry(ctx context.Context, job *v1alpha1.BatchJob) error {
	token := strings.ToLower(rand.Text())
	err := c.changeJob(ctx, job.Name, job, func(now *v1alpha1.BatchJob) (map[string]any, error) {
		if now.UID != job.UID {
			return nil, refusal.New(errcode.JobNotFound, "the job was deleted")
		}
		if err := mayRetry(now, naming.JobID(now.UID)); err != nil {
			return nil, err
		}
		return map[string]any{
			"metadata": map[string]any{"annotations": map[string]any{v1alpha1.AnnotationTerminate: nil}},
			"spec":     map[string]any{"retryToken": token},
		}, nil
	})
	if err == nil {
		c.Objects.AwaitRetry(ctx, job.Namespace, naming.JobID(job.UID), token)
	}
	return err
}

// mayRetry refuses a job that cannot be retried.
func mayRetry(job *v1alpha1.BatchJob, id string) error {
	switch {
	case job.Status.State != v1alpha1.JobFailed:
		return refusal.New(errcode.UnsupportedOperation, "only jobs in FAILED can be retried; %s is %s", id, view.JobState(job))
	case job.Spec.Terminate:
		return refusal.New(errcode.UnsupportedOperation, "%s was terminated, and a terminated job cannot be started again; submit another", id)
	}
	return nil
}

// deleteJob removes a job that has ended.
func deleteJob(ctx context.Context, c *call, in *ofJob) (any, error) {
	job, err := c.wholeJob(ctx, in.JobID)
	if err != nil {
		return nil, err
	}
	if state := job.Status.State; state != v1alpha1.JobSucceed && state != v1alpha1.JobFailed && !plan.IsDuplicate(job) {
		advice := "terminate it first"
		if state == "" || state == v1alpha1.JobSubmitted {
			advice = "it was just submitted; terminate it first, in a moment"
		}
		return nil, refusal.New(errcode.JobInUse, "only jobs in SUCCEED and FAILED can be deleted; %s is %s: %s", in.JobID, view.JobState(job), advice)
	}
	// Only the job in the state that was looked at: a retry may have started it again.
	err = c.client.Delete(ctx, job, client.Preconditions{UID: &job.UID, ResourceVersion: &job.ResourceVersion},
		client.PropagationPolicy(metav1.DeletePropagationBackground))
	switch {
	case apierrors.IsConflict(err):
		return nil, refusal.New(errcode.JobInUse, "job %s changed in this moment; repeat the request", in.JobID)
	case apierrors.IsNotFound(err):
		err = nil
	case err != nil:
		return nil, err
	}
	c.Objects.AwaitJobGone(ctx, job.Namespace, in.JobID)
	return nil, err
}

// asNotFound gives the refusal of an object that does not exist the code that an action has for it.
func asNotFound(err error, code errcode.Code) error {
	var r *refusal.Refusal
	if errors.As(err, &r) && r.Code == errcode.JobNotFound {
		return refusal.New(code, "%s", r.Message)
	}
	return err
}
