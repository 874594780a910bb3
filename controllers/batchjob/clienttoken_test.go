// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/testutil"
)

// TestClientToken: of several jobs with the same token the first one runs. A job with the same request shows the first job and
// never runs; a job with another request fails.
func TestClientToken(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	first := e.submit(testutil.Job("first").Task("a").Token("t"))
	p.must("first")
	e.submit(testutil.Job("again").Task("a").Token("t"))
	e.submit(testutil.Job("other").Task("b").Token("t"))
	e.submit(testutil.Job("free").Task("a").Token("u"))
	for range 2 {
		for _, name := range []string{"first", "again", "other", "free"} {
			p.must(name)
		}
	}
	again := e.job("again").Status
	if again.State != v1alpha1.JobSubmitted || again.Reason != v1alpha1.ReasonDuplicate || !strings.Contains(again.Message, `"first"`) ||
		again.JobID != e.job("first").Status.JobID || !plan.IsDuplicate(e.job("again")) {
		t.Errorf("the job with the same request is %+v", again)
	}
	other := e.job("other").Status
	if other.State != v1alpha1.JobFailed || other.Reason != "InvalidParameterValue" || !strings.Contains(other.Message, `"first"`) {
		t.Errorf("the job with another request is %+v", other)
	}
	if n := len(e.Pods(t, e.ns)); n != 2 {
		t.Errorf("%d Pods exist, want those of the jobs first and free", n)
	}
	e.work()
	for range 3 {
		p.must("first")
		p.must("free")
	}
	if err := e.Delete(context.Background(), first); err != nil {
		t.Fatal(err)
	}
	e.sync()
	p.must("first")
	e.submit(testutil.Job("later").Task("b").Token("t"))
	p.must("later")
	if got := e.job("later").Status.State; got != v1alpha1.JobRunnable {
		t.Errorf("a job with a token that is free again is %s", got)
	}
	if n := len(p.tokens.holders); n != 1 {
		t.Errorf("%d tokens are remembered, want that of the job later: %v", n, p.tokens.holders)
	}
}

// TestClientTokenConcurrently: of many jobs with the same token that are reconciled at the same time, one runs.
func TestClientTokenConcurrently(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	var names []string
	for _, c := range "abcdefgh" {
		names = append(names, string(c))
		e.submit(testutil.Job(string(c)).Task("a").Token("t"))
	}
	var wg sync.WaitGroup
	for _, name := range names {
		wg.Go(func() {
			if _, err := p.Reconcile(context.Background(), p.request(name)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	accepted := slices.DeleteFunc(names, func(name string) bool { return !plan.IsAccepted(e.job(name)) })
	if len(accepted) != 1 || len(e.Pods(t, e.ns)) != 1 {
		t.Errorf("%v were accepted, and there are %d Pods", accepted, len(e.Pods(t, e.ns)))
	}
	// A new leader reads the accepted job from the stored status.
	e.submit(testutil.Job("z").Task("a").Token("t"))
	e.start(nil).must("z")
	if !plan.IsDuplicate(e.job("z")) {
		t.Errorf("after a restart another job is accepted: %+v", e.job("z").Status)
	}
}

// TestAcceptedStaysAccepted: validation rules that a later version adds do not stop accepted jobs.
func TestAcceptedStaysAccepted(t *testing.T) {
	e := newTestEnv(t)
	e.submit(testutil.Job("j").Task("a"))
	e.start(nil).must("j")
	stricter := e.start(nil)
	stricter.options.Validate = func(*v1alpha1.BatchJob) (code, message string) { return "InvalidParameter", "no longer" }
	stricter.play("j")
	e.want("j", "SUCCEED 1/1 1/1", "a SUCCEED succeeded=0")
}
