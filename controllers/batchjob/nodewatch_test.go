// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/internal/nodes"
	"batchcompute.dev/operator/internal/testutil"
)

// TestHostAddresses: addresses are resolved to nodes, again when the nodes change and the instance does not run yet.
func TestHostAddresses(t *testing.T) {
	e := newTestEnv(t)
	e.nodes = &nodes.Index{}
	p := e.start(nil)
	e.submit(testutil.Job("j").HostIPs("10.0.0.7").Task("a"))
	p.must("j")
	e.tick()
	p.must("j")
	e.want("j", "RUNNABLE 0/1 0/1", "a RUNNABLE active=0 reason=HostNotFound")
	if got, want := e.job("j").Status.Message, `task "a": no node has the address 10.0.0.7`; got != want {
		t.Errorf("the message is %q, want %q", got, want)
	}
	node := func(name, ip string) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: "host-" + name}},
			Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip}}}}
	}
	e.nodes.Saw(node("x", "10.0.0.7"))
	p.nodes.wakeHostSeekers()
	p.must("j")
	if got := fmt.Sprint(e.pod("a/0").Spec.Affinity.NodeAffinity); !strings.Contains(got, "host-x") {
		t.Errorf("the Pod may run on %s", got)
	}
	first := e.pod("a/0").UID

	// Another node replaces the node, with the same address, while the Pod waits.
	e.Report(t, e.pod("a/0"), func(pod *corev1.Pod) { testutil.Unschedulable(pod, "0/1 nodes are available") })
	e.nodes.Gone("x")
	e.nodes.Saw(node("y", "10.0.0.7"))
	e.eventually("a Pod for the new node exists", func() bool {
		e.tick()
		p.must("j")
		for _, pod := range e.Pods(t, e.ns) {
			if pod.UID != first {
				return strings.Contains(fmt.Sprint(pod.Spec.Affinity.NodeAffinity), "host-y")
			}
		}
		return false
	})
	p.play("j")
	e.want("j", "SUCCEED 1/1 1/1", "a SUCCEED succeeded=0") // and no failure
}
