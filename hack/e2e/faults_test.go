//go:build e2e

// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/hack/internal/install"
)

// fan is a job that takes a few seconds: 12 instances, 4 at once, and a successor.
var fan = job("fan", `
tasks:
- taskName: work
  taskInstanceNum: 12
  maxConcurrentNum: 4
  maxRetryCount: 2
  application: {deliveryForm: LOCAL, command: "trap 'exit 1' TERM; sleep 1 & wait; echo $BATCH_TASK_INSTANCE_INDEX"}
  computeEnv: {}
- taskName: sum
  application: {deliveryForm: LOCAL, command: "echo sum"}
  computeEnv: {}
dependences: [{startTask: work, endTask: sum}]
`)

// TestManagerKilled kills the manager, as by kill -9, again and again while a job runs.
// The job must end as if nothing had happened: no outcome lost, none counted twice, no
// instance run twice.
func TestManagerKilled(t *testing.T) {
	if target.Cluster != "local" {
		t.Skip("left out: the manager's process is only within reach on a local cluster")
	}
	s := begin(t)
	s.apply(fan)
	kills := 0
	for s.get("fan").Status.EndTime == nil && kills < 5 {
		s.killManager()
		kills++
		time.Sleep(1500 * time.Millisecond)
	}
	job := s.end("fan", v1alpha1.JobSucceed)
	t.Logf("the manager was killed %d times", kills)
	if got := task(job, "work").Succeeded; got != "0-11" || job.Status.TaskInstanceProgress != "13/13" || len(job.Status.Failures) != 0 {
		t.Errorf("work.succeeded = %q, progress = %s, failures = %v", got, job.Status.TaskInstanceProgress, job.Status.Failures)
	}
	if got := len(s.pods("")); got != 13 {
		t.Errorf("there are %d Pods, want 13: one an instance", got)
	}
	s.released()
}

// killManager ends the manager's process at once and sees to it that there is another.
func (s *story) killManager() {
	s.Helper()
	if err := cluster.KillManager(s.ctx, kube); err != nil && !errors.Is(err, install.ErrNoManager) { // between two lives
		s.Fatal(err)
	}
}

// TestPodsDeletedByHand deletes Pods under the operator's hands.
func TestPodsDeletedByHand(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.apply(fan)
	deleted := 0
	s.eventually(time.Minute, "two Pods to delete", func() error {
		for _, pod := range s.pods("work") {
			if pod.Status.Phase == corev1.PodRunning && pod.DeletionTimestamp == nil && deleted < 2 && label(pod, v1alpha1.LabelAttempt) == 0 {
				s.must("delete", "pod", pod.Name, "--wait=false")
				deleted++
			}
		}
		if deleted < 2 {
			return fmt.Errorf("deleted %d", deleted)
		}
		return nil
	})
	job := s.end("fan", v1alpha1.JobSucceed)
	if got := task(job, "work").Succeeded; got != "0-11" {
		t.Errorf("work.succeeded = %q, want 0-11", got)
	}
	// A command that had ended in the very second it was deleted counts as it ended.
	retried := 0
	for _, pod := range s.pods("work") {
		if label(pod, v1alpha1.LabelAttempt) > 0 {
			retried++
		}
	}
	if retried != len(job.Status.Failures) || retried > deleted {
		t.Errorf("%d Pods deleted, %d failures counted, %d retries: %+v", deleted, len(job.Status.Failures), retried, job.Status.Failures)
	}
	s.released()
}

// TestJobDeletedHalfWay deletes a job in each of the ways there are. Nothing of it may
// be left, or, for an orphan, nothing that is held.
func TestJobDeletedHalfWay(t *testing.T) {
	t.Parallel()
	for _, cascade := range []string{"background", "foreground", "orphan"} {
		t.Run(cascade, func(t *testing.T) {
			t.Parallel()
			s := begin(t)
			s.apply(fan)
			s.eventually(time.Minute, "a running instance", func() error {
				if n := s.get("fan").Status.TaskInstanceMetrics.RunningCount; n == 0 {
					return fmt.Errorf("none runs")
				}
				return nil
			})
			s.must("delete", "batchjob", "fan", "--cascade="+cascade, "--timeout=60s")
			if cascade != "orphan" {
				s.eventually(time.Minute, "the Pods to go", func() error {
					if n := len(s.pods("")); n > 0 {
						return fmt.Errorf("%d are left", n)
					}
					return nil
				})
				return
			}
			s.eventually(time.Minute, "the finalizers of the Pods to be removed", func() error {
				for _, pod := range s.pods("") {
					if len(pod.Finalizers) > 0 || len(pod.OwnerReferences) > 0 {
						return fmt.Errorf("pod %s has finalizers %v and owners %v", pod.Name, pod.Finalizers, pod.OwnerReferences)
					}
				}
				return nil
			})
		})
	}
}

// TestManagerDown: while the manager is down the cluster is unaffected. Pods keep
// running, jobs can be labelled, deleted and have their status written; only a new job is
// refused, in words that say why. When the manager is back it takes up what happened.
func TestManagerDown(t *testing.T) {
	if target.Cluster != "local" {
		t.Skip("left out: it stops the operator, which others may use on a cluster that is not ours")
	}
	s := begin(t)
	s.apply(fan)
	s.apply(strings.Replace(fan, "name: fan", "name: deleted", 1))
	s.eventually(time.Minute, "running instances", func() error {
		for _, name := range []string{"fan", "deleted"} {
			if s.get(name).Status.TaskInstanceMetrics.RunningCount == 0 {
				return fmt.Errorf("none of job %s runs", name)
			}
		}
		return nil
	})
	s.switchManager(false)
	up := false
	defer func() {
		if !up {
			s.switchManager(true)
		}
	}()
	for _, args := range []string{
		"label batchjob fan team=render",
		"annotate batchjob fan note=still-here",
		`patch batchjob fan --subresource=status --type=merge -p {"status":{"message":"written_without_the_manager"}}`,
		"delete batchjob deleted --timeout=30s",
		"create configmap others-are-unaffected",
	} {
		t.Logf("kubectl %s\n%s", args, s.must(strings.Fields(args)...))
	}
	out, err := s.kubectl(strings.Replace(fan, "name: fan", "name: late", 1), "create", "-f", "-")
	if err == nil || !strings.Contains(out, "webhook") {
		t.Errorf("kubectl create: %v\n%s\nwant a refusal that names the webhook", err, out)
	}
	t.Logf("kubectl create\n%s", out)
	s.eventually(time.Minute, "the running Pods to end by themselves", func() error {
		for _, pod := range s.pods("work") {
			if pod.DeletionTimestamp == nil && pod.Status.Phase != corev1.PodSucceeded {
				return fmt.Errorf("pod %s is %s", pod.Name, pod.Status.Phase)
			}
		}
		return nil
	})
	s.switchManager(true)
	up = true
	job := s.end("fan", v1alpha1.JobSucceed)
	if got := task(job, "work").Succeeded; got != "0-11" || len(job.Status.Failures) != 0 {
		t.Errorf("work.succeeded = %q, failures = %v", got, job.Status.Failures)
	}
	s.released()
}

// switchManager stops the manager, as an upgrade that fails does, or brings it back.
func (s *story) switchManager(on bool) {
	s.Helper()
	if cluster.NodeKind == "process" {
		verb := map[bool]string{true: "start", false: "stop"}[on]
		if out, err := exec.Command("bin/cluster", verb, "--name", target.Name, install.ManagerPart).CombinedOutput(); err != nil {
			s.Fatalf("cluster %s: %v\n%s", verb, err, out)
		}
	} else {
		replicas := map[bool]string{true: "1", false: "0"}[on]
		for _, args := range [][]string{
			{"scale", "deployment/batchcompute-controller-manager", "--replicas", replicas},
			{"rollout", "status", "deployment/batchcompute-controller-manager", "--timeout=120s"},
		} {
			if out, err := cluster.Kubectl(s.ctx, append([]string{"-n", install.Namespace}, args...)...).CombinedOutput(); err != nil {
				s.Fatalf("kubectl %v: %v\n%s", args, err, out)
			}
		}
	}
	s.awaitWebhook(on)
}

// awaitWebhook waits until the webhook answers, or does not any more: the old process may be on its way out, and the new
// one on its way in.
func (s *story) awaitWebhook(on bool) {
	s.Helper()
	s.eventually(time.Minute, "the webhook to be as it should", func() error {
		_, err := s.kubectl(strings.Replace(fan, "name: fan", "name: probe", 1), "create", "--dry-run=server", "-f", "-")
		if (err == nil) != on {
			return fmt.Errorf("it answers: %t", err == nil)
		}
		return nil
	})
}
