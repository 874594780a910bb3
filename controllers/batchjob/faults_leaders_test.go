// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil"
	"batchcompute.dev/operator/internal/testutil/controlplane"
)

const leaseName = "manager"

// candidate is one of two managers, with the proxy through which it reaches the API server.
type candidate struct {
	*running
	*proxy
}

// claims returns how many statuses it has written and Pods it has created.
func (r candidate) claims() int { return r.sum("POST pods") + r.sum("PATCH batchjobs/status") }

func (r candidate) isElected() bool {
	select {
	case <-r.mgr.Elected():
		return !r.hasEnded()
	default:
		return false
	}
}

// startCandidate starts a manager behind a proxy, without leader election if leadFor is 0. It acts as the leader until
// leadFor after it last renewed the lease.
func (d *faultEnv) startCandidate(name string, seed uint64, leadFor time.Duration) candidate {
	d.t.Helper()
	p, cfg := newProxy(d.t, d.Config, seed)
	return candidate{proxy: p, running: d.manager(cfg, func(o *ctrl.Options) {
		if leadFor == 0 {
			return
		}
		lock := resourcelock.ResourceLockConfig{Identity: name}
		clients, err := kubernetes.NewForConfig(rest.AddUserAgent(cfg, "election"))
		if err == nil {
			o.LeaderElectionResourceLockInterface, err = resourcelock.New(resourcelock.LeasesResourceLock, d.ns, leaseName,
				clients.CoreV1(), clients.CoordinationV1(), lock)
		}
		if err != nil {
			d.t.Fatal(err)
		}
		lease, retry := leadFor+time.Second, 200*time.Millisecond
		o.LeaderElection, o.LeaseDuration, o.RenewDeadline, o.RetryPeriod = true, &lease, &leadFor, &retry
	})}
}

// The number of instances of the job whose running Pods are deleted, and the maximum number of deletions.
const (
	churning  = 24
	deletions = 24
)

// churn is a job whose Pods may be deleted many times. The script of the reference jobs has no exit code for the name of
// its task.
func churn() *testutil.JobBuilder {
	return testutil.Job("churn").Task("churned", testutil.Instances(churning), testutil.Concurrent(8), machineRetries(100))
}

// deleteOne deletes a running Pod of the job, as a user does, and reports whether it found one.
func (d *faultEnv) deleteOne(job string) bool {
	for _, pod := range d.Pods(d.t, d.ns) {
		if jobOf(&pod) == job && pod.Status.Phase == corev1.PodRunning && pod.DeletionTimestamp == nil {
			if err := d.Delete(context.Background(), &pod, client.Preconditions{UID: &pod.UID}); err != nil {
				d.t.Fatal(err)
			}
			return true
		}
	}
	return false
}

// isElection reports whether a call belongs to the leader election.
func isElection(r *http.Request) bool { return strings.Contains(r.URL.Path, "/leases") }

// TestFaultsTwoLeaders: while two managers both act as the leader, an instance has at most one live Pod, and every outcome
// is counted once.
func TestFaultsTwoLeaders(t *testing.T) {
	t.Parallel()
	lease := func(d *faultEnv, change func(*coordinationv1.LeaseSpec)) {
		l := &coordinationv1.Lease{}
		l.Namespace, l.Name = d.ns, leaseName
		controlplane.Change(d.t, d.ControlPlane, l, func(l *coordinationv1.Lease) { change(&l.Spec) })
	}
	for name, tc := range map[string]struct {
		// leadFor is how long the first manager acts as the leader without renewing the lease.
		leadFor time.Duration
		steal   func(d *faultEnv, first candidate)
	}{
		"the lease is edited": {leadFor: 30 * time.Second, steal: func(d *faultEnv, _ candidate) {
			lease(d, func(l *coordinationv1.LeaseSpec) { l.HolderIdentity = new("second") })
		}},
		"renewals do not get through": {leadFor: 30 * time.Second, steal: func(d *faultEnv, first candidate) {
			first.change(func(p *proxy) { p.refuses = isElection })
			lease(d, func(l *coordinationv1.LeaseSpec) { l.LeaseDurationSeconds = new(int32(1)) })
		}},
		"no election": {steal: func(*faultEnv, candidate) {}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newFaultEnv(t, controlplane.Get(t), 5)
			first := d.startCandidate("first", 6, tc.leadFor)
			d.within(time.Minute, "the first manager leads", first.isElected)
			second := d.startCandidate("second", 7, min(tc.leadFor, 5*time.Second))
			const jobs = 6
			for i := range jobs {
				d.create(d.reference(fmt.Sprint("ref-", i)))
			}
			d.create(churn())
			d.within(2*time.Minute, "the first Pod is there", func() bool { return len(d.Pods(t, d.ns)) > 0 })
			tc.steal(d, first)
			d.within(time.Minute, "the second manager leads", second.isElected)
			start, before := time.Now(), [2]int{first.claims(), second.claims()}
			if !first.isElected() {
				t.Fatal("the first manager stopped before the second one leads")
			}
			// The watches of the first manager are late, so its cache is stale.
			first.change(func(p *proxy) { p.lag = 2 * time.Second })
			deleted, unexpected := 0, map[string]bool{} // failures with another reason than the deletions
			var overlap time.Duration
			var both [2]int
			d.within(4*time.Minute, "every job has ended", func() bool {
				if first.isElected() && second.isElected() {
					overlap, both = time.Since(start), [2]int{first.claims(), second.claims()}
				}
				for _, f := range d.job("churn").Status.Failures {
					if f.Reason != v1alpha1.ReasonPodDeleted {
						unexpected[fmt.Sprintf("%s %s: %s", f.PodName, f.Reason, f.Message)] = true
					}
				}
				if deleted < deletions && d.deleteOne("churn") {
					deleted++
				}
				if time.Since(start) > faulty { // on a slow machine the lag may keep the jobs from ending
					first.change(func(p *proxy) { p.lag = 0 })
				}
				return d.allEnded()
			})
			if deleted < deletions/2 {
				t.Errorf("only %d Pods were deleted", deleted)
			}
			t.Logf("both led for %s, and made %d and %d writes of statuses and Pods", overlap.Round(time.Millisecond), both[0]-before[0], both[1]-before[1])
			if both[0] == before[0] || both[1] == before[1] {
				t.Error("the managers did not work at the same time")
			}
			for i := range jobs {
				d.wantReference(fmt.Sprint("ref-", i))
			}
			d.wantNoOverlap()
			// Each deletion of a running Pod causes one more attempt, and nothing else does.
			if got := d.job("churn"); got.Status.State != v1alpha1.JobSucceed || got.Status.TaskInstanceMetrics.SucceedCount != churning {
				t.Errorf("after %d deletions the job is %q; failures for other reasons: %v", deleted, brief(got), unexpected)
			}
			if f := d.witness.Figures(); f.Pods != jobs*referencePods+churning+deleted {
				t.Errorf("there were %d Pods, want %d for the reference jobs and %d, since %d were deleted", f.Pods, jobs*referencePods, churning+deleted, deleted)
			}
		})
	}
}
