// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package computeenv

import (
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/events"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/nodepool"
)

// TestLog: at level 1 the log has each change of a ComputeEnv, at level 0 nothing.
func TestLog(t *testing.T) {
	for level, want := range [][]string{nil, {
		`"level"=1 "msg"="ComputeEnv changed" "envId"="env-7" "reason"="Scaled" "message"="desiredComputeNodeCount is 1, was 2; 2 in use"`,
		`"level"=1 "msg"="ComputeEnv changed" "envId"="env-7" "reason"="ScalingDown" "message"="scaling down: new instances are blocked until usage drops below the new size"`,
	}} {
		var got []string
		ctx := logr.NewContext(t.Context(), funcr.New(func(_, args string) { got = append(got, args) }, funcr.Options{Verbosity: level}))
		count := int64(1)
		env := &v1alpha1.ComputeEnv{Spec: v1alpha1.ComputeEnvSpec{DesiredComputeNodeCount: &count}}
		obs := &observation{env: env, stats: nodepool.Stats{InUse: 2}}
		old := &v1alpha1.ComputeEnvStatus{ObservedGeneration: 1, DesiredComputeNodeCount: 2}
		next, _ := computeStatus(obs, time.Now())
		next.EnvID = "env-7"
		(&Reconciler{recorder: events.NewFakeRecorder(10)}).emit(ctx, obs, old, next)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("level %d (-want +got):\n%s", level, diff)
		}
	}
}
