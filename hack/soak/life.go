// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/hack/soak/ledger"
)

// namespace is where the jobs are.
const namespace = "soak"

// How long things may take: a job, with the node dead for a while, and a crowd before it;
// the Pods of a job that is gone; and the watches, to have seen what has happened.
const (
	jobLimit   = 10 * time.Minute
	clearLimit = 2 * time.Minute
	watchLag   = time.Minute
	look       = 200 * time.Millisecond
	// submitEvery spreads the first jobs: a node that is sent a hundred Pods at once has
	// started none of them before it has nearly started them all, and a core starts about
	// one in a second.
	submitEvery = time.Second
)

// tally counts what became of jobs.
type tally struct {
	active, asExpected, deleted atomic.Int64
}

// soak submits jobs until the time is over, and returns when the last has ended.
func (s *soak) soak(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := s.kube.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		return fmt.Errorf("making the namespace: %w", err)
	}
	faulty, peace := context.WithTimeout(ctx, s.duration)
	defer peace()
	g := &group{fail: cancel}
	g.run(func() error { return s.killManager(faulty) })
	g.run(func() error { return s.killNode(ctx) })
	watching, stopWatching := context.WithCancel(ctx)
	watchers := &group{fail: cancel}
	watchers.run(func() error { return s.watchAll(watching) })
	go s.reportProgress(watching)

	s.submit(ctx, faulty, g)
	g.wait()
	s.checkClean(ctx)
	stopWatching()
	watchers.wait()
	return context.Cause(ctx)
}

// submit keeps atOnce jobs active until faulty ends.
func (s *soak) submit(ctx, faulty context.Context, g *group) {
	places := make(chan struct{}, s.atOnce)
	list := s.shapes()
	if len(list) == 0 {
		g.fail(errors.New("there is no such shape"))
	}
	for n := 0; ; n++ {
		select {
		case <-faulty.Done():
			return
		case places <- struct{}{}:
		}
		if !pause(faulty, submitEvery) {
			return
		}
		sh := list[n%len(list)]
		g.run(func() error {
			defer func() { <-places }()
			s.tally.active.Add(1)
			defer s.tally.active.Add(-1)
			return s.live(ctx, sh, fmt.Sprintf("%s-%d", sh.name, n))
		})
	}
}

// shapes are those that were asked for and that this cluster can run.
func (s *soak) shapes() (list []shape) {
	for _, sh := range shapes {
		asked := s.only == "" || slices.Contains(strings.Split(s.only, ","), sh.name)
		if asked && (!sh.byName || s.cluster.NodeKind != "process") {
			list = append(list, sh)
		}
	}
	return list
}

// live is the life of one job, from its submission until nothing is left of it.
func (s *soak) live(ctx context.Context, sh shape, name string) error {
	job, err := s.create(ctx, sh, name)
	if err != nil {
		return err
	}
	l := &life{soak: s, shape: sh, job: job}
	if !l.steer(ctx) {
		l.giveUp(ctx, "it has not ended")
		return context.Cause(ctx)
	}
	if !sh.deleted && l.judge(ctx) {
		s.tally.asExpected.Add(1)
	}
	return l.clear(ctx)
}

// create submits a job, again and again while the webhook is away.
func (s *soak) create(ctx context.Context, sh shape, name string) (*v1alpha1.BatchJob, error) {
	job := &v1alpha1.BatchJob{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}}
	sh.spec(&job.Spec)
	for i := range job.Spec.Job.Tasks {
		job.Spec.Job.Tasks[i].EnvVars = []v1alpha1.EnvVar{{Name: "UNIT_SECONDS", Value: fmt.Sprint(s.unitSeconds)}}
	}
	job.Spec.Placement.Zone = "ap-guangzhou-2" // as a local cluster has it
	for {
		err := s.kube.Create(ctx, job.DeepCopy())
		if err == nil || apierrors.IsAlreadyExists(err) { // the answer got lost
			err = s.kube.Get(ctx, client.ObjectKeyFromObject(job), job)
			if err == nil {
				return job, nil
			}
		}
		if apierrors.IsInvalid(err) || !pause(ctx, look) {
			return nil, fmt.Errorf("creating job %s: %w", name, err)
		}
	}
}

// life is one active job.
type life struct {
	*soak
	shape
	job *v1alpha1.BatchJob
}

// steer does the shape's deeds and returns true when the job has ended after that, or is
// gone.
func (l *life) steer(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, jobLimit)
	defer cancel()
	for deeds := l.deeds; pause(ctx, look); {
		last, gone := l.books.Last(l.job.UID)
		switch {
		case last == nil:
		case gone:
			return true
		case len(deeds) > 0 && deeds[0].when(last):
			if pause(ctx, deeds[0].after) && l.do(ctx, deeds[0]) {
				deeds = deeds[1:]
			}
		case l.isOver(last) && !l.deleted:
			return true
		}
	}
	return false
}

// do does a deed until it is done.
func (l *life) do(ctx context.Context, d deed) bool {
	for {
		if err := d.do(ctx, l.kube, l.job); err == nil {
			return true
		}
		if !pause(ctx, look) {
			return false
		}
	}
}

// isOver reports whether the job has come to an end after all that was asked of it. What
// the watch has seen may be older than the last deed.
func (l *life) isOver(last *v1alpha1.BatchJob) bool {
	order, err := resourceversion.CompareResourceVersion(last.ResourceVersion, l.job.ResourceVersion)
	s := last.Status
	return err == nil && order >= 0 && s.EndTime != nil && s.ObservedGeneration == last.Generation &&
		s.RetryToken == last.Spec.RetryToken && (s.State == v1alpha1.JobSucceed || s.State == v1alpha1.JobFailed)
}

// judge compares the end with how it should be.
func (l *life) judge(ctx context.Context) bool {
	var findings []ledger.Finding
	for deadline := time.Now().Add(watchLag); ; {
		if findings = l.books.Judge(l.job.UID, l.want); len(findings) == 0 {
			return true
		}
		if time.Now().After(deadline) || !pause(ctx, look) {
			l.report(findings)
			return false
		}
	}
}

// clear deletes the job and sees to it that all of it goes.
func (l *life) clear(ctx context.Context) error {
	if !l.do(ctx, deed{do: remove}) {
		return context.Cause(ctx)
	}
	var findings []ledger.Finding
	for deadline := time.Now().Add(clearLimit); ; {
		findings = l.books.Remains(l.job.UID)
		if _, gone := l.books.Last(l.job.UID); gone && len(findings) == 0 {
			l.tally.deleted.Add(1)
			return nil
		}
		if !pause(ctx, look) {
			return context.Cause(ctx)
		}
		if time.Now().After(deadline) {
			if len(findings) == 0 {
				l.giveUp(ctx, "it was deleted and does not go")
			}
			l.report(findings)
			return nil
		}
	}
}

func (l *life) giveUp(ctx context.Context, what string) {
	if ctx.Err() != nil {
		return // somebody has ended the soak
	}
	state := "it was never seen"
	if last, _ := l.books.Last(l.job.UID); last != nil {
		state = fmt.Sprintf("%s, %s %s, %+v, waiting %+v", last.Status.State, last.Status.Reason, last.Status.Message, last.Status.Tasks, last.Status.Waiting)
	}
	l.report([]ledger.Finding{{Kind: ledger.Stuck, Job: l.job.Name, Text: what + ": " + state}})
}

// report puts findings on record and shows them at once.
func (s *soak) report(findings []ledger.Finding) {
	for _, f := range findings {
		s.books.Add(f)
		s.say("WRONG %s", f)
	}
}

// checkClean looks, without the books, for what is left when all jobs are gone.
func (s *soak) checkClean(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	var pods corev1.PodList
	if err := s.kube.List(ctx, &pods, client.InNamespace(namespace)); err != nil {
		s.report([]ledger.Finding{{Kind: ledger.Left, Job: "(all)", Text: fmt.Sprintf("listing the Pods: %v", err)}})
		return
	}
	for _, pod := range pods.Items {
		kind := ledger.Left
		if len(pod.Finalizers) > 0 {
			kind = ledger.Held
		}
		s.report([]ledger.Finding{{Kind: kind, Job: pod.Annotations[v1alpha1.AnnotationJobName], Text: "Pod " + pod.Name + " is left in the end"}})
	}
}
