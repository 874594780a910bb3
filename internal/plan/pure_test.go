// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/internal/conditions"
	"batchcompute.dev/operator/internal/nodes"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/testutil"
)

// TestObservationIsData: nothing in an Observation can answer otherwise the next time it is asked.
func TestObservationIsData(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var visit func(x reflect.Type, path string)
	visit = func(x reflect.Type, path string) {
		if seen[x] {
			return
		}
		seen[x] = true
		switch x.Kind() {
		case reflect.Func, reflect.Chan, reflect.Interface, reflect.UnsafePointer:
			t.Errorf("%s is a %s", path, x.Kind())
		case reflect.Map:
			visit(x.Key(), path+"[]")
			visit(x.Elem(), path+"[]")
		case reflect.Pointer, reflect.Slice, reflect.Array:
			visit(x.Elem(), path)
		case reflect.Struct:
			if p := x.PkgPath(); p == "sync" || p == "sync/atomic" {
				t.Errorf("%s has a %s", path, x)
			}
			for i := range x.NumField() {
				visit(x.Field(i).Type, path+"."+x.Field(i).Name)
			}
		}
	}
	visit(reflect.TypeFor[Observation](), "Observation")
}

// TestSameInputSameOutput: an observation and a deep copy of it give the same plan, byte for byte, and
// Compute changes neither. Each plan that the other tests of this package ask a world for is held to
// the same, and its conditions to their table, see world.must.
func TestSameInputSameOutput(t *testing.T) {
	w := bustle(t)
	for range 3 {
		_, _ = wantSame(t, w.observation(), w.now)
		w.step().wait(10 * time.Second)
	}
	w.suspend(true)
	_, _ = wantSame(t, w.observation(), w.now)
}

// wantSame computes the plan of obs and of a deep copy of it, and returns the first.
func wantSame(t *testing.T, obs Observation, now time.Time) (Plan, error) {
	t.Helper()
	again, before := deepCopy(t, obs), content(t, obs)
	p, err := Compute(obs, now)
	second, _ := Compute(again, now)
	if first, second := content(t, p), content(t, second); first != second {
		t.Errorf("the same input gave another plan:\n%s\n%s", first, second)
	}
	if got := conditions.Violation(conditions.BatchJob, p.Status.Conditions); got != "" {
		t.Error(got)
	}
	if content(t, obs) != before || content(t, again) != before {
		t.Error("the observation was changed")
	}
	return p, err
}

// content is all that v holds, but for what of a spec cannot change.
func content(t *testing.T, v any) string {
	t.Helper()
	delivery := ""
	if obs, ok := v.(Observation); ok {
		if obs.Delivery != nil {
			delivery = fmt.Sprint(*obs.Delivery) // its maps have no form in JSON
		}
		obs.Spec, obs.Delivery = nil, nil
		v = obs
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out) + delivery
}

// deepCopy shares nothing with obs but ComputeEnvs, which nobody can change, and what was read of the
// annotation.
func deepCopy(t *testing.T, obs Observation) Observation {
	t.Helper()
	out := obs
	out.Job = obs.Job.DeepCopy()
	out.Pods = slices.Clone(obs.Pods)
	for i, pod := range out.Pods {
		out.Pods[i] = pod.DeepCopy()
	}
	out.Pending, out.Absent, out.Scheduled = maps.Clone(obs.Pending), maps.Clone(obs.Absent), maps.Clone(obs.Scheduled)
	out.Refusals, out.NameConflicts, out.Envs = maps.Clone(obs.Refusals), maps.Clone(obs.NameConflicts), maps.Clone(obs.Envs)
	if obs.Nodes != nil {
		out.Nodes = &Nodes{Zones: slices.Clone(obs.Nodes.Zones), Hosts: maps.Clone(obs.Nodes.Hosts)}
	}
	if obs.Spec != nil {
		spec, err := resolve.Resolve(out.Job)
		if err != nil {
			t.Fatal(err)
		}
		out.Spec = spec
	}
	return out
}

// TestOutdatedHosts: a Pod that waits for hosts by the names that their addresses had is stopped once
// the addresses are of others, and only then.
func TestOutdatedHosts(t *testing.T) {
	node := func(host, ip string) *corev1.Node {
		return &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: host, Labels: map[string]string{corev1.LabelHostname: host}},
			Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip}}},
		}
	}
	x := &nodes.Index{}
	x.Saw(node("host-1", "10.0.0.1"))
	x.Saw(node("host-2", "10.0.0.2"))
	w := newWorld(t, testutil.Job("j").HostIPs("10.0.0.2", "10.0.0.1", "10.0.0.9").Task("a"))
	w.nodes = x
	w.step().do("a/0", func(pod *corev1.Pod) { testutil.Unschedulable(pod, "0/3 nodes are available") })
	if l := LookupsOf(w.spec, w.envs, w.tracked()); !slices.Equal(l.Addresses, []string{"10.0.0.2", "10.0.0.1", "10.0.0.9"}) {
		t.Errorf("it asks for %q", l.Addresses)
	}
	if p := w.compute(); len(p.Delete) > 0 {
		t.Error("the Pod is stopped though its hosts have the addresses")
	}
	x.Saw(node("host-3", "10.0.0.9"))
	if p := w.compute(); len(p.Delete) != 1 {
		t.Error("the Pod is not stopped though another host has one of the addresses")
	}
	obs := w.observation()
	obs.Nodes = nil
	if p := w.must(obs); len(p.Delete) > 0 {
		t.Error("the Pod is stopped though the nodes are not known")
	}
}

// TestLookups: a plan asks only for what its Pods wait for.
func TestLookups(t *testing.T) {
	w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(4))).step().start("a/0").bind("a/1")
	l := LookupsOf(w.spec, w.envs, w.tracked())
	if len(l.Schedulers) != 1 || l.Schedulers[0] != corev1.DefaultSchedulerName || l.Zones || len(l.Addresses) > 0 {
		t.Errorf("of Pods that no scheduler has looked at: %+v", l)
	}
	w.start("a/2").do("a/3", func(pod *corev1.Pod) { testutil.Unschedulable(pod, "full") })
	if l = LookupsOf(w.spec, w.envs, w.tracked()); len(l.Schedulers) > 0 || !l.Zones || len(l.Addresses) > 0 {
		t.Errorf("of a Pod without a node: %+v", l)
	}
	w.start("a/3")
	pods := w.tracked()
	if n := testing.AllocsPerRun(10, func() { LookupsOf(w.spec, w.envs, pods) }); n > 0 {
		t.Errorf("to find that there is nothing to ask takes %v allocations", n)
	}
}
