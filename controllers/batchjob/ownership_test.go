// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"batchcompute.dev/operator/internal/proof"
	"batchcompute.dev/operator/internal/testutil"
)

// TestPodKeyLost: the Secret with the key is lost, and the next process has another key. Running Pods stay the job's, new
// Pods have a proof of the new key, and the job ends. The same holds for a job of a version that had no keys.
func TestPodKeyLost(t *testing.T) {
	other := func(context.Context) (*proof.Key, error) {
		return proof.New([]byte("the key that replaces the lost one"))
	}
	for name, oldKey := range map[string]func(context.Context) (*proof.Key, error){"lost": testKey, "there was none": nil} {
		t.Run(name, func(t *testing.T) {
			e := newTestEnv(t)
			p := e.start(nil)
			p.options.PodKey = oldKey
			e.submit(testutil.Job("j").Task("a", testutil.Instances(4), testutil.Concurrent(2)))
			p.must("j")
			was := map[types.UID]bool{}
			for _, pod := range e.Pods(t, e.ns) {
				was[pod.UID] = true
			}
			p = e.start(nil)
			p.options.PodKey = other
			for range 3 {
				p.passes("j", 2)
			}
			if n := len(e.tracked()); n != 2 {
				t.Errorf("%d Pods are tracked, want 2", n)
			}
			p.play("j")
			e.want("j", "SUCCEED 1/1 4/4", "a SUCCEED succeeded=0-3")
			if n := len(e.Pods(t, e.ns)); n != 4 {
				t.Errorf("%d Pods were created, want 4", n)
			}
			want := 2
			if oldKey == nil {
				want = 0 // its Pods need no proof
			}
			if got := e.job("j").Status.PodKeys; len(got) != want {
				t.Errorf("the job's keys are %q, want %d", got, want)
			}
		})
	}
}
