// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/resolve"
)

// Bounds of the wait after the cluster has refused to make a Pod. Where several jobs of a
// namespace wait for room in a quota, only the first in line asks often.
const (
	refusalWait     = time.Second
	maxRefusalWait  = time.Minute
	firstInLineWait = 10 * time.Second
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

// refusedError says that the cluster understood the request for a Pod and will not have
// it: a quota, a policy, a limit. Asking again at once is no use.
type refusedError struct {
	task int
	// quota says that there may be room later.
	quota bool
	// reason is one of the API's reasons, for what is not the cluster's refusal; nodes says
	// that other nodes may change it.
	reason string
	nodes  bool
	error
}

func (e *refusedError) Unwrap() error { return e.error }

// refused makes the error that says a Pod is refused, or returns nil for any other error.
func refused(task int, err error) error {
	switch {
	case apierrors.IsTooManyRequests(err):
		return &refusedError{task: task, quota: true, error: fmt.Errorf("the API server asks to wait: %w", err)}
	case apierrors.IsForbidden(err):
		text := err.Error()
		if strings.Contains(text, "exceeded quota") {
			return &refusedError{task: task, quota: true, error: fmt.Errorf("no room in the namespace's quota: %w", err)}
		}
		return &refusedError{task: task, quota: apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause), error: err}
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return &refusedError{task: task, error: err}
	}
	return nil
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
func (m *memory) refused() map[int]plan.Refusal {
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
func (m *memory) refuse(e *refusedError, now time.Time, nodesVersion int64) {
	r := m.refusals[e.task]
	if r == nil {
		r = &refusal{Refusal: plan.Refusal{Since: now}}
		if m.refusals == nil {
			m.refusals = map[int]*refusal{}
		}
		m.refusals[e.task] = r
	}
	r.Message, r.Quota, r.Reason = e.Error(), e.quota, e.reason
	r.nodes, r.version = e.nodes, nodesVersion
	r.until = now.Add(min(refusalWait<<min(r.tries, 10), maxRefusalWait))
	r.tries++
}

// accepted notes that the cluster made a Pod of a task: it does not refuse that any more,
// and where there was no room for others there is some now.
func (m *memory) accepted(task int) {
	delete(m.refusals, task)
	for _, r := range m.refusals {
		if r.Quota {
			r.tries = 0
		}
	}
}

// forgetRefusals drops the refusals of tasks for which nothing is to be made any more.
func (m *memory) forgetRefusals(wanted []resolve.Instance) {
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
func (m *memory) waitsForQuota() bool {
	for _, r := range m.refusals {
		if r.Quota {
			return true
		}
	}
	return false
}

// quotas are the jobs that wait for room in the quota of their namespace.
type quotas struct {
	mu   sync.Mutex
	line map[string]map[types.UID]place // by namespace
}

// place is a job's place in the line: the higher priority first, then the older job.
type place struct {
	priority int
	created  time.Time
	uid      types.UID
}

func (p place) before(o place) bool {
	return cmp.Or(cmp.Compare(o.priority, p.priority), p.created.Compare(o.created), cmp.Compare(p.uid, o.uid)) < 0
}

// enter puts a job in the line and reports whether it is the first.
func (q *quotas) enter(namespace string, p place) (first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.line == nil {
		q.line = map[string]map[types.UID]place{}
	}
	if q.line[namespace] == nil {
		q.line[namespace] = map[types.UID]place{}
	}
	q.line[namespace][p.uid] = p
	for _, other := range q.line[namespace] {
		if other.before(p) {
			return false
		}
	}
	return true
}

func (q *quotas) leave(namespace string, uid types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.line[namespace], uid)
	if len(q.line[namespace]) == 0 {
		delete(q.line, namespace)
	}
}
