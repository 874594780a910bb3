// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/resolve"
)

// This file has the reasons why a claimed Pod is not created yet: the cluster has refused it, or another Pod has its
// name. Each reason has a backoff, and the status reports it.

// Bounds of the backoff. If several jobs of a namespace wait for a quota, only the first job in the queue retries at
// least every maxFirstCreateBackoff.
const (
	minCreateBackoff      = time.Second
	maxCreateBackoff      = time.Minute
	maxFirstCreateBackoff = 10 * time.Second
)

// refusal is what this process remembers of a task whose Pods the cluster refuses to create.
type refusal struct {
	plan.Refusal
	// tries counts the refusals in a row; the backoff ends at until.
	tries int
	until time.Time
	// nodes says that a change of the cluster's nodes ends the backoff: another nodesVersion than version.
	nodes   bool
	version int64
}

// refusedError says that the cluster refused to create a Pod: by a quota, a policy, a limit. Trying again
// immediately does not help.
type refusedError struct {
	task int
	// reason is one of the API's reasons; empty means ReasonCreateRefused.
	reason string
	// noTimeout says that the refusal passes without a change of the job, and nodes that other nodes may
	// end it.
	noTimeout, nodes bool
	error
}

func (e *refusedError) Unwrap() error { return e.error }

// refused returns the refusedError for an error of a creation; nil if the error is no refusal.
func refused(task int, err error) error {
	e := &refusedError{task: task, noTimeout: true, error: err}
	text := err.Error()
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return nil
	}
	code := status.Status().Code
	switch {
	case isDenied(err): // with whatever code
		e.noTimeout = false
	case apierrors.IsTooManyRequests(err):
		e.reason, e.error = v1alpha1.ReasonQuota, fmt.Errorf("the API server limits the rate of requests; the Pod is created when it accepts them again: %w", err)
	case apierrors.IsForbidden(err) && strings.Contains(text, "exceeded quota"):
		e.reason, e.error = v1alpha1.ReasonQuota, fmt.Errorf("the namespace's ResourceQuota is used up; the Pod is created when other Pods end, or the quota is raised: %w", err)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause), code == http.StatusUnauthorized,
		code == http.StatusInternalServerError && !apierrors.IsServerTimeout(err):
		// The last is a webhook that does not answer, for instance. If the Pod exists all the same, the next try
		// finds it.
	case code >= 400 && code < 500 && code != http.StatusRequestTimeout && code != http.StatusConflict:
		e.noTimeout = false
	default:
		return nil
	}
	return e
}

// isDenied reports whether an admission webhook or policy of the cluster refused the Pod, which it may do with any
// code, such as that of an object that exists.
func isDenied(err error) bool {
	text := err.Error()
	return strings.Contains(text, "denied the request") || strings.Contains(text, "denied request: ")
}

// buildRefusal returns the refusedError for a Pod that podspec cannot build.
func buildRefusal(task int, err error) error {
	var e *podspec.Error
	if !errors.As(err, &e) {
		return err
	}
	return &refusedError{task: task, reason: e.Reason, nodes: e.Reason == v1alpha1.ReasonHostNotFound, error: e}
}

// refused returns the refusals for the planner, by task.
func (s *jobState) refused() map[int]plan.Refusal {
	if len(s.refusals) == 0 {
		return nil
	}
	out := make(map[int]plan.Refusal, len(s.refusals))
	for task, r := range s.refusals {
		out[task] = r.Refusal
	}
	return out
}

// noteRefusal remembers that the cluster refused to create a Pod, and increases the backoff.
func (s *jobState) noteRefusal(e *refusedError, now time.Time, nodesVersion int64) {
	r := s.refusals[e.task]
	if r == nil {
		r = &refusal{Refusal: plan.Refusal{Since: now}}
		if s.refusals == nil {
			s.refusals = map[int]*refusal{}
		}
		s.refusals[e.task] = r
	}
	r.Message, r.NoTimeout, r.Reason = e.Error(), e.noTimeout, e.reason
	r.nodes, r.version = e.nodes, nodesVersion
	r.until = now.Add(min(minCreateBackoff<<min(r.tries, 10), maxCreateBackoff))
	r.tries++
}

// noteCreated resets the backoff of a task after one of its Pods was created. Other tasks that waited may be accepted
// as well, so it also resets their increase.
func (s *jobState) noteCreated(task int) {
	delete(s.refusals, task)
	for _, r := range s.refusals {
		if r.NoTimeout {
			r.tries = 0
		}
	}
}

// forgetRefusals removes the refusals of tasks of which no Pods are wanted anymore.
func (s *jobState) forgetRefusals(wanted []resolve.Instance) {
	if len(s.refusals) == 0 {
		return
	}
	tasks := map[int]bool{}
	for _, in := range wanted {
		tasks[in.Task] = true
	}
	for task := range s.refusals {
		if !tasks[task] {
			delete(s.refusals, task)
		}
	}
}

// waitsForQuota reports whether a task of the job waits for a refusal that passes without a change of the job, such as
// a quota.
func (s *jobState) waitsForQuota() bool {
	for _, r := range s.refusals {
		if r.NoTimeout {
			return true
		}
	}
	return false
}

// quotaQueues has the jobs that wait for the quota of their namespace. Its methods may be called concurrently.
type quotaQueues struct {
	mu          sync.Mutex
	byNamespace map[string]map[types.UID]plan.QueuePosition
}

// enter adds a job to the queue and reports whether it is the first.
func (q *quotaQueues) enter(namespace string, p plan.QueuePosition) (first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.byNamespace == nil {
		q.byNamespace = map[string]map[types.UID]plan.QueuePosition{}
	}
	if q.byNamespace[namespace] == nil {
		q.byNamespace[namespace] = map[types.UID]plan.QueuePosition{}
	}
	q.byNamespace[namespace][p.UID] = p
	for _, other := range q.byNamespace[namespace] {
		if other.Compare(p) < 0 {
			return false
		}
	}
	return true
}

func (q *quotaQueues) leave(namespace string, uid types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.byNamespace[namespace], uid)
	if len(q.byNamespace[namespace]) == 0 {
		delete(q.byNamespace, namespace)
	}
}

// nameConflict is a Pod that is not the job's and has the name of an instance's Pod.
type nameConflict struct {
	plan.NameConflict
	// tries counts the conflicts in a row; the backoff ends at until.
	tries int
	until time.Time
}

// nameConflictError says that another Pod has the name of a Pod.
type nameConflictError struct {
	name     string
	conflict plan.NameConflict
}

func (e *nameConflictError) Error() string { return e.conflict.Message }

// nameConflictWith returns the error for a Pod that has the name of a job's Pod and is not the job's.
func nameConflictWith(pod *corev1.Pod) *nameConflictError {
	e := &nameConflictError{name: pod.Name, conflict: plan.NameConflict{MayRun: !plan.HasFinished(pod)}}
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil && !(owner.Kind == "BatchJob" && isOurs(owner.APIVersion)) {
		e.conflict.Message = fmt.Sprintf("Pod %q now belongs to %s %q; delete the Pod, or remove that owner reference", pod.Name, owner.Kind, owner.Name)
	} else {
		e.conflict.Message = fmt.Sprintf("Pod %q exists, and the operator did not create it; delete that Pod", pod.Name)
	}
	return e
}

// noteConflict remembers a name conflict, and increases the backoff.
func (s *jobState) noteConflict(e *nameConflictError, now time.Time) {
	t := s.conflicts[e.name]
	if t == nil {
		t = &nameConflict{NameConflict: plan.NameConflict{Since: now}}
		if s.conflicts == nil {
			s.conflicts = map[string]*nameConflict{}
		}
		s.conflicts[e.name] = t
	}
	t.Message, t.MayRun = e.conflict.Message, e.conflict.MayRun
	t.until = now.Add(min(minCreateBackoff<<min(t.tries, 10), maxCreateBackoff))
	t.tries++
}

// nameConflicts returns the name conflicts for the planner, by name.
func (s *jobState) nameConflicts() map[string]plan.NameConflict {
	if len(s.conflicts) == 0 {
		return nil
	}
	out := make(map[string]plan.NameConflict, len(s.conflicts))
	for name, t := range s.conflicts {
		out[name] = t.NameConflict
	}
	return out
}

// forgetConflicts removes the conflicts of Pods that are not wanted anymore.
func (s *jobState) forgetConflicts(spec *resolve.Job, wanted []resolve.Instance) {
	if len(s.conflicts) == 0 {
		return
	}
	kept := make(map[string]*nameConflict, len(s.conflicts))
	for _, in := range wanted {
		if name := spec.PodName(in); s.conflicts[name] != nil {
			kept[name] = s.conflicts[name]
		}
	}
	s.conflicts = kept
}
