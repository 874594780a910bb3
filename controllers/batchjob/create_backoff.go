// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"errors"
	"fmt"
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

// Bounds of the wait after the cluster has refused to create a Pod. Where several jobs of a namespace wait
// for a quota, only the first in the queue tries often.
const (
	refusalWait         = time.Second
	maxRefusalWait      = time.Minute
	maxFirstRefusalWait = 10 * time.Second
)

// refusal is what this process knows of a task whose Pods the cluster refuses to make.
type refusal struct {
	plan.Refusal
	// tries is how often in a row it was refused; it is not asked again before until.
	tries int
	until time.Time
	// nodes says that other nodes may change it than those of that version.
	nodes   bool
	version int64
}

// refusedError says that the cluster refused to create a Pod: by a quota, a policy, a limit. Trying again
// at once does not help.
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

// refused makes the error that says a Pod is refused, or returns nil for any other error.
func refused(task int, err error) error {
	e := &refusedError{task: task, noTimeout: true, error: err}
	text := err.Error()
	switch {
	case apierrors.IsTooManyRequests(err):
		e.reason, e.error = v1alpha1.ReasonQuota, fmt.Errorf("the API server limits the rate of requests; the Pod is created when it accepts them again: %w", err)
	case apierrors.IsForbidden(err) && strings.Contains(text, "exceeded quota"):
		e.reason, e.error = v1alpha1.ReasonQuota, fmt.Errorf("the namespace's ResourceQuota is used up; the Pod is created when other Pods end, or the quota is raised: %w", err)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause), isWebhookFailure(err):
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		e.noTimeout = false
	default:
		return nil
	}
	return e
}

// isWebhookFailure reports whether the API server could not ask an admission webhook of the cluster that
// must not be passed over. It stores nothing then, so no Pod was created.
func isWebhookFailure(err error) bool {
	return apierrors.IsInternalError(err) && strings.Contains(err.Error(), "failed calling webhook")
}

// unbuildable makes the error that says why there can be no Pod.
func unbuildable(task int, err error) error {
	var e *podspec.Error
	if !errors.As(err, &e) {
		return err
	}
	return &refusedError{task: task, reason: e.Reason, nodes: e.Reason == v1alpha1.ReasonHostNotFound, error: e}
}

// refused returns what plan is to know of the refusals.
func (m *jobState) refused() map[int]plan.Refusal {
	if len(m.refusals) == 0 {
		return nil
	}
	out := make(map[int]plan.Refusal, len(m.refusals))
	for task, r := range m.refusals {
		out[task] = r.Refusal
	}
	return out
}

// refuse notes that the cluster refused to make a Pod, and how long not to ask again.
func (m *jobState) refuse(e *refusedError, now time.Time, nodesVersion int64) {
	r := m.refusals[e.task]
	if r == nil {
		r = &refusal{Refusal: plan.Refusal{Since: now}}
		if m.refusals == nil {
			m.refusals = map[int]*refusal{}
		}
		m.refusals[e.task] = r
	}
	r.Message, r.NoTimeout, r.Reason = e.Error(), e.noTimeout, e.reason
	r.nodes, r.version = e.nodes, nodesVersion
	r.until = now.Add(min(refusalWait<<min(r.tries, 10), maxRefusalWait))
	r.tries++
}

// accepted notes that the cluster created a Pod of a task: it does not refuse that task any more, and
// others that only wait may be accepted, too.
func (m *jobState) accepted(task int) {
	delete(m.refusals, task)
	for _, r := range m.refusals {
		if r.NoTimeout {
			r.tries = 0
		}
	}
}

// forgetRefusals drops the refusals of tasks for which nothing is to be made any more.
func (m *jobState) forgetRefusals(wanted []resolve.Instance) {
	if len(m.refusals) == 0 {
		return
	}
	tasks := map[int]bool{}
	for _, in := range wanted {
		tasks[in.Task] = true
	}
	for task := range m.refusals {
		if !tasks[task] {
			delete(m.refusals, task)
		}
	}
}

// waitsForQuota reports whether a task of the job waits for room in a quota.
func (m *jobState) waitsForQuota() bool {
	for _, r := range m.refusals {
		if r.NoTimeout {
			return true
		}
	}
	return false
}

// quotaQueues are the jobs that wait for the quota of their namespace.
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

// nameConflict is a Pod of somebody else that has the name of an instance's Pod.
type nameConflict struct {
	plan.NameConflict
	// tries is how often in a row it was found; the name is not asked for again before until.
	tries int
	until time.Time
}

// nameConflictError says that the name of a Pod is taken.
type nameConflictError struct {
	name   string
	taken  plan.NameConflict
	detail string
}

func (e *nameConflictError) Error() string { return e.detail }

// nameConflictWith says what is known of a Pod that has the name of one of a job's and is not the job's.
func nameConflictWith(pod *corev1.Pod) *nameConflictError {
	e := &nameConflictError{name: pod.Name, taken: plan.NameConflict{MayRun: !plan.HasFinished(pod)}}
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil && !(owner.Kind == "BatchJob" && isOurs(owner.APIVersion)) {
		e.detail = fmt.Sprintf("Pod %q has been given to %s %q; delete the Pod, or take that owner reference off it", pod.Name, owner.Kind, owner.Name)
	} else {
		e.detail = fmt.Sprintf("the name %q is taken by a Pod that the operator did not make; delete that Pod", pod.Name)
	}
	e.taken.Message = e.detail
	return e
}

// take notes that a name is taken, and how long not to ask for it again.
func (m *jobState) noteConflict(e *nameConflictError, now time.Time) {
	t := m.conflicts[e.name]
	if t == nil {
		t = &nameConflict{NameConflict: plan.NameConflict{Since: now}}
		if m.conflicts == nil {
			m.conflicts = map[string]*nameConflict{}
		}
		m.conflicts[e.name] = t
	}
	t.Message, t.MayRun = e.taken.Message, e.taken.MayRun
	t.until = now.Add(min(refusalWait<<min(t.tries, 10), maxRefusalWait))
	t.tries++
}

// takenNames returns what plan is to know of the names that are taken.
func (m *jobState) nameConflicts() map[string]plan.NameConflict {
	if len(m.conflicts) == 0 {
		return nil
	}
	out := make(map[string]plan.NameConflict, len(m.conflicts))
	for name, t := range m.conflicts {
		out[name] = t.NameConflict
	}
	return out
}

// forgetConflicts drops the names that are not wanted any more.
func (m *jobState) forgetConflicts(spec *resolve.Job, wanted []resolve.Instance) {
	if len(m.conflicts) == 0 {
		return
	}
	still := make(map[string]*nameConflict, len(m.conflicts))
	for _, in := range wanted {
		if name := spec.PodName(in); m.conflicts[name] != nil {
			still[name] = m.conflicts[name]
		}
	}
	m.conflicts = still
}
