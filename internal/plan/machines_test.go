// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/nodes"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/testutil"
)

// machines is a catalogue with three machine types.
var machines = func() *catalog.Catalog {
	c, err := catalog.Parse([]byte(`{apiVersion: config.batchcompute.dev/v1alpha1, kind: Catalog,
  instanceTypes: {A.1: {cpu: 1, memory: 1Gi}, B.1: {cpu: 2, memory: 1Gi}, C.1: {cpu: 3, memory: 1Gi}}}`))
	if err != nil {
		panic(err)
	}
	return c
}()

var threeTypes = testutil.InstanceTypes("A.1", "B.1", "C.1")

// notAcquired has the Pod of an attempt wait for a node until the acquisition timeout is over.
func (w *world) notAcquired(attempt string) *world {
	w.t.Helper()
	return w.do(attempt, func(pod *corev1.Pod) { testutil.Unschedulable(pod, "0/3 nodes are available") }).step().wait(DefaultResourceWait).step().step()
}

// offer has the ComputeEnv pool have one node of these types, and retries of its own.
func (w *world) offer(retries int, types ...string) *world {
	w.envs = pool(1, 1)
	env := w.envs["pool"].Env
	env.Data.InstanceTypes, env.ResourceMaxRetryCount = types, retries
	return w
}

func (w *world) wantActive(want string) *world {
	w.t.Helper()
	if got := w.job.Status.Tasks[0].Active; got != want {
		w.t.Errorf("active is %q, want %q", got, want)
	}
	return w
}

// wantCPU checks of which machine type the Pod of an attempt is.
func (w *world) wantCPU(attempt, want string) *world {
	w.t.Helper()
	if got := w.pods[w.pod(attempt)].Spec.Containers[0].Resources.Requests.Cpu().String(); got != want {
		w.t.Errorf("the Pod of %s asks for %s cores, want %s", attempt, got, want)
	}
	return w
}

// TestInstanceTypes: each machine type is tried once before a machine counts as not acquired; a
// machine that is lost starts a new round, with the first type.
func TestInstanceTypes(t *testing.T) {
	t.Run("one round", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a", threeTypes)).step().wantCPU("a/0", "1")
		w.notAcquired("a/0").wantActive("m1:0").wantCPU("a/0/r1", "2")
		w.notAcquired("a/0/r1").wantActive("m2:0").wantCPU("a/0/r2", "3")
		w.notAcquired("a/0/r2").step().want("FAILED", "a FAILED failed=0 (TaskInstanceFailed)")
	})
	t.Run("two rounds, and then the command's budget", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a", threeTypes, testutil.ResourceRetries(1), testutil.Retries(1))).step()
		for i, attempt := range []string{"a/0", "a/0/r1", "a/0/r2", "a/0/r3", "a/0/r4"} {
			w.notAcquired(attempt).wantActive([]string{"m1:0", "m2:0", "m3:0", "m4:0", "m5:0"}[i])
		}
		w.wantCPU("a/0/r5", "3").notAcquired("a/0/r5").wantActive("r1m5:0")
	})
	t.Run("a lost machine is a round", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a", threeTypes, testutil.ResourceRetries(1))).step()
		lose := func(attempt string) *world {
			w.start(attempt).step().stop(attempt).wait(time.Second)
			return w.do(attempt, func(pod *corev1.Pod) { testutil.Finish(pod, 143, w.now) }).step().step()
		}
		w.notAcquired("a/0")
		lose("a/0/r1").wantActive("m3:0").wantCPU("a/0/r3", "1")
		lose("a/0/r3")
		if s := w.job.Status; s.State != v1alpha1.JobFailed || s.Failures[2].Reason != v1alpha1.ReasonPodDeleted {
			t.Errorf("after two lost machines, of which one is allowed, the job is %s: %+v", s.State, s.Failures)
		}
	})
	t.Run("RUNNABLE waits with the last type", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").WaitForMachine().Task("a", threeTypes)).step()
		w.notAcquired("a/0").notAcquired("a/0/r1").wantActive("m2:0")
		for range 5 {
			w.wait(10 * DefaultResourceWait).step()
		}
		w.wantActive("m2:0").wantCPU("a/0/r2", "3").finishAll().want("SUCCEED", "a SUCCEED succeeded=0")
	})
	inEnv := func(t *testing.T, retries int, types ...string) *world {
		w := newWorld(t, testutil.Job("j").Task("a", testutil.EnvID("pool"), testutil.ResourceRetries(5)))
		return w.offer(retries, types...).step()
	}
	t.Run("of a ComputeEnv, one round", func(t *testing.T) {
		w := inEnv(t, 0, "A.1", "B.1", "C.1").wantCPU("a/0", "1")
		w.notAcquired("a/0").wantActive("m1:0").wantCPU("a/0/r1", "2")
		w.notAcquired("a/0/r1").wantActive("m2:0").wantCPU("a/0/r2", "3")
		w.notAcquired("a/0/r2").step().want("FAILED", "a FAILED failed=0 (TaskInstanceFailed)")
	})
	t.Run("of a ComputeEnv, two rounds", func(t *testing.T) {
		w := inEnv(t, 1, "A.1", "B.1")
		w.notAcquired("a/0").notAcquired("a/0/r1").wantActive("m2:0").wantCPU("a/0/r2", "1")
		w.notAcquired("a/0/r2").wantCPU("a/0/r3", "2").notAcquired("a/0/r3").step().want("FAILED", "a FAILED failed=0 (TaskInstanceFailed)")
	})
	t.Run("of a ComputeEnv that gets other types", func(t *testing.T) {
		w := inEnv(t, 1, "A.1", "B.1", "C.1").notAcquired("a/0").wantCPU("a/0/r1", "2")
		w.offer(1, "C.1").notAcquired("a/0/r1").step().want("FAILED", "a FAILED failed=0 (TaskInstanceFailed)")
		w = inEnv(t, 1, "C.1").notAcquired("a/0").offer(1, "A.1", "B.1").wantActive("m1:0").wantCPU("a/0/r1", "3")
		w.notAcquired("a/0/r1").wantActive("m2:0").wantCPU("a/0/r2", "1").notAcquired("a/0/r2").wantCPU("a/0/r3", "2")
	})
	t.Run("of a ComputeEnv that goes", func(t *testing.T) {
		w := inEnv(t, 1, "A.1", "B.1", "C.1").notAcquired("a/0").notAcquired("a/0/r1").wantActive("m2:0")
		w.envs = nil
		w.notAcquired("a/0/r2").wantActive("")
		if got := w.job.Status.Tasks[0].Retrying; got != "m3:0" {
			t.Errorf("without it, retrying is %q, want m3:0", got)
		}
		w.offer(1, "A.1", "B.1", "C.1").step().step().wantCPU("a/0/r3", "1")
	})
}

// TestStorageExceeded: a Pod that is put out for what it wrote itself spends the command's
// budget, and one whose node is short of room the machine's.
func TestStorageExceeded(t *testing.T) {
	for message, want := range map[string]string{
		"Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ":            v1alpha1.ReasonStorageExceeded,
		`Usage of EmptyDir volume "data-disk-0" exceeds the limit "10Gi". `:                        v1alpha1.ReasonStorageExceeded,
		"Container task exceeded its local ephemeral storage limit \"1Gi\". ":                      v1alpha1.ReasonStorageExceeded,
		"The node was low on resource: ephemeral-storage. Threshold quantity: 1, available: 1Ki. ": v1alpha1.ReasonEvicted,
	} {
		w := newWorld(t, testutil.Job("j").Task("a", testutil.Retries(1), testutil.ResourceRetries(1))).step().start("a/0").step()
		w.do("a/0", func(pod *corev1.Pod) {
			testutil.Finish(pod, 137, w.now)
			pod.Status.Phase, pod.Status.Reason, pod.Status.Message = corev1.PodFailed, "Evicted", message
			pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{
				Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonTerminationByKubelet, LastTransitionTime: metav1.NewTime(w.now),
			})
		}).step()
		active := "r1:0"
		if want == v1alpha1.ReasonEvicted {
			active = "m1:0"
		}
		w.wantActive(active)
		if f := w.job.Status.Failures; len(f) != 1 || f[0].Reason != want {
			t.Errorf("%q is %+v, want the reason %s", message, f, want)
		}
	}
}

// TestZoneNotFound: that no node is in the zone is told better than by the scheduler.
func TestZoneNotFound(t *testing.T) {
	x := &nodes.Index{}
	saw := func(name, zone string) {
		x.Saw(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: zone}}})
	}
	w := newWorld(t, testutil.Job("j").Zone("zone-x").Task("a")).step()
	w.do("a/0", func(pod *corev1.Pod) { testutil.Unschedulable(pod, "0/3 nodes are available") })
	w.nodes = x
	told := func() string {
		t.Helper()
		s := w.compute().Status
		return s.Reason + ": " + s.Waiting[0].Message
	}
	if got, want := told(), "ZoneNotFound: no node is in zone zone-x; no node has the label topology.kubernetes.io/zone"; got != want {
		t.Errorf("without nodes it is\n%s, want\n%s", got, want)
	}
	for _, zone := range []string{"g", "f", "e", "d", "c", "b", "a"} {
		saw("node-"+zone, zone)
	}
	if got, want := told(), "ZoneNotFound: no node is in zone zone-x; there are nodes in zones a, b, c, d, e and 2 more"; got != want {
		t.Errorf("it is\n%s, want\n%s", got, want)
	}
	saw("node-x", "zone-x")
	if got, want := told(), "Unschedulable: no node fits in zone zone-x: 0/3 nodes are available"; got != want {
		t.Errorf("with a node in the zone it is\n%s, want\n%s", got, want)
	}
}

// TestEnvCapacity: what a job may have of a ComputeEnv bounds all its tasks there together.
func TestEnvCapacity(t *testing.T) {
	env := resolve.Named(&v1alpha1.ComputeEnv{ObjectMeta: metav1.ObjectMeta{Name: "pool", UID: "u"}}, nil)
	for name, tc := range map[string]struct {
		view   EnvView
		issued int
		wanted int
	}{
		"open":                    {EnvView{Size: 9, Limit: 3, Grant: 3}, 3, 3},
		"more than there is":      {EnvView{Size: 9, Limit: 9, Grant: 9}, 6, 0},
		"full":                    {EnvView{Size: 9}, 0, 6},
		"others are first":        {EnvView{Size: 9, Limit: 5, Closed: true}, 0, 6},
		"others are first, grant": {EnvView{Size: 9, Limit: 5, Grant: 2, Closed: true}, 2, 4},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(4), testutil.EnvID("pool")).Task("b", testutil.Instances(2), testutil.EnvID("pool")).Task("c"))
			obs := w.observation()
			tc.view.Env = env
			obs.Envs = map[string]EnvView{"pool": tc.view}
			p := w.must(obs)
			if got := len(p.Create) - 1; got != tc.issued || p.InEnv["pool"] != tc.issued || p.Wanted["pool"] != tc.wanted {
				t.Errorf("%d are issued, %d claimed, %d wanted; want %d, %d", got, p.InEnv["pool"], p.Wanted["pool"], tc.issued, tc.wanted)
			}
			if got := InEnv(w.spec, &p.Status, obs.Envs)["pool"]; got != tc.issued {
				t.Errorf("the status has %d claims, want %d", got, tc.issued)
			}
		})
	}
}
