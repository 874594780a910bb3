// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/conditions"
)

// ErrUnreadable says that the stored status of a job cannot be read: somebody who may write statuses
// has edited it, or a version of the operator that this one does not know has written it.
var ErrUnreadable = errors.New("the stored status cannot be read")

// Compute returns what is to be done for the observed job at the time now. The error
// is ErrUnreadable. Cost: O(tasks + dependences + Pods +
// ranges in the status).
func Compute(obs Observation, now time.Time) (Plan, error) {
	switch {
	case obs.Job.DeletionTimestamp != nil:
		return planDeleted(&obs, now), nil
	//mutation:retry-beside-running-pods
	case RetryDue(obs.Job) && obs.Unfinished == 0:
		job, retried := restart(obs.Job, now)
		obs.Job = job
		return run(obs, now, retried)
	//mutation:final-status-computed-again
	case HasEnded(&obs.Job.Status):
		if len(obs.Pods) > 0 && !obs.Live {
			// A job ends when none of its Pods is tracked any more. These may be of a later
			// run, of which Job does not know yet.
			return Plan{NeedLive: true}, nil
		}
		return planEnded(&obs, now), nil
	}
	return run(obs, now, nil)
}

// run takes a job that has not ended through the stages. Each takes what those before it returned;
// the lists of instances are passed from stage to stage, and each updates them. earlier are the
// events before those that the status brings.
func run(obs Observation, now time.Time, earlier events) (Plan, error) {
	j, at, err := load(&obs, now)
	if err != nil {
		return Plan{}, err
	}
	pods := newOutcomes(&j)
	pods.announcer = newAnnouncer(&j, at)
	for _, pod := range obs.Pods {
		a := attempt{job: &j, pod: pod}
		switch a.classify(at) {
		case ahead:
			return Plan{NeedLive: true}, nil
		case unidentified:
			pods.unidentified = append(pods.unidentified, pod)
		case past:
			pods.cleanUp(pod, now)
		case lastOfInterrupted:
			pods.addInterrupted(&a)
		case current:
			pods.addCurrent(&a)
		}
	}
	pods.addMissing(at)
	pods.applyMoves(at)
	ready := computeReadiness(&j, at, &pods)
	claims := claim(&j, at, &pods, ready)
	pods.cleanUpUnidentified(claims.create)
	s := summarize(&j, at, &pods, ready, claims)
	pods.announcer.summarize(&s)
	return s.plan(earlier), nil
}

// planDeleted is the plan for a job that is being deleted. The garbage collector, or nobody with
// --cascade=orphan, deletes the Pods: all that is left to do is to remove their finalizers.
func planDeleted(obs *Observation, now time.Time) Plan {
	var a actions
	for _, pod := range obs.Pods {
		//mutation:deletion-keeps-finalizers
		if !HoldsNode(pod, now) {
			a.removeFinalizers = append(a.removeFinalizers, pod)
			continue
		}
		a.awaitEnd(pod, now)
	}
	p := a.plan(*obs.Job.Status.DeepCopy())
	p.InEnv = InEnv(obs.Spec, &obs.Job.Status, obs.Envs)
	p.Events = noteEvents(obs, &p.Status, nil, nil, now)
	return p
}

// planEnded is the plan for a job that has ended: nothing, until its time is over.
func planEnded(obs *Observation, now time.Time) Plan {
	var a actions
	a.cleanUpAll(obs.Pods, now)
	job, expire := obs.Job, false
	switch ttl := job.Spec.TTLSecondsAfterFinished; {
	case RetryDue(job): // and Pods of an earlier run may still be at work
		a.lookAgain(confirmWait / 12)
	case ttl != nil && job.Status.EndTime != nil && len(obs.Pods) == 0 && job.Status.Reason != v1alpha1.ReasonAlreadyRan:
		// Half a century is as good as for ever, and does not overflow a Duration.
		left := job.Status.EndTime.Add(time.Duration(min(*ttl, 50*365*86400)) * time.Second).Sub(now)
		if expire = left <= 0; !expire {
			a.lookAgain(left)
		}
	}
	status := *job.Status.DeepCopy()
	status.ObservedGeneration = job.Generation
	e := noteEvents(obs, &status, nil, nil, now)
	p := a.plan(status)
	p.Expire, p.Events = expire && !OwesEvents(&status), e
	return p
}

// Unreadable returns the plan for a job of which Compute gives ErrUnreadable: nothing is done before the
// status is repaired, and a condition says so.
func Unreadable(obs Observation, err error, now time.Time) Plan {
	p := Plan{Status: *obs.Job.Status.DeepCopy()}
	message := cut(err.Error() + "; nothing of the job runs until the status is repaired (kubectl edit --subresource=status), the operator is upgraded if a newer version wrote it, or the job is deleted")
	was := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionStalled)
	if was == nil || was.Status != metav1.ConditionTrue || was.Message != message {
		var e events
		e.warn(v1alpha1.ReasonStatusUnreadable, message)
		p.Events = e
	}
	set := conditions.OfBatchJob(&p.Status, obs.Job.Generation, now)
	set.True(v1alpha1.ConditionStalled, v1alpha1.ReasonStatusUnreadable, message)
	set.Remove(v1alpha1.ConditionReconciling)
	return p
}
