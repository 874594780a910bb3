// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func nodeOf(name, kubelet, runtime string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{
		KubeletVersion: kubelet, ContainerRuntimeVersion: runtime,
	}}}
}

// TestImageVolumes: images are mounted as volumes only where every node's kubelet and runtime can do it.
func TestImageVolumes(t *testing.T) {
	for name, tc := range map[string]struct {
		kubelet, runtime string
		want             bool
	}{
		"new":                  {"v1.37.2", "containerd://2.4.2", true},
		"the oldest":           {"v1.35.0", "containerd://2.1.0", true},
		"CRI-O":                {"v1.36.1", "cri-o://1.31.0", true},
		"of a vendor":          {"v1.36.4-tke.1", "containerd://2.2.1-tke.3", true},
		"pre-release":          {"v1.37.0-alpha.1", "containerd://2.1.0-rc.0", true},
		"older kubelet":        {"v1.34.9", "containerd://2.1.0", false},
		"older containerd":     {"v1.35.0", "containerd://2.0.7", false},
		"older CRI-O":          {"v1.35.0", "cri-o://1.30.9", false},
		"another runtime":      {"v1.37.2", "docker://29.0.0", false},
		"virtual":              {"v1.37.2-eklet.1", "", false},
		"nothing said":         {"", "", false},
		"no version":           {"fake", "containerd://x", false},
		"a pretended node":     {"kwok-v0.7.0", "kwok", false},
		"no version of kwoks'": {"v1.37.2", "containerd://", false},
	} {
		t.Run(name, func(t *testing.T) {
			x := &Index{}
			if x.ImageVolumes() {
				t.Error("ImageVolumes() = true without a node")
			}
			x.Saw(nodeOf("a", tc.kubelet, tc.runtime))
			if got := x.ImageVolumes(); got != tc.want {
				t.Errorf("ImageVolumes() = %t, want %t", got, tc.want)
			}
		})
	}
}

// TestImageVolumesFollowTheNodes: one older node is enough, until it is upgraded or gone.
func TestImageVolumesFollowTheNodes(t *testing.T) {
	x := &Index{}
	want := func(step string, want bool) {
		t.Helper()
		if got := x.ImageVolumes(); got != want {
			t.Errorf("%s: ImageVolumes() = %t, want %t", step, got, want)
		}
	}
	x.Saw(nodeOf("new", "v1.37.2", "containerd://2.4.2"))
	want("one new node", true)
	x.Saw(nodeOf("old", "v1.34.0", "containerd://2.4.2"))
	want("an older one", false)
	if x.Saw(nodeOf("old", "v1.35.0", "containerd://2.4.2")) {
		t.Error("Saw() = true for a version, which no waiting job is about")
	}
	want("upgraded", true)
	x.Saw(nodeOf("old", "v1.34.0", "containerd://2.4.2"))
	x.Gone("old")
	want("gone", true)
}
