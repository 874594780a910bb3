// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"testing"

	"batchcompute.dev/operator/hack/cluster/internal/build"
	"batchcompute.dev/operator/hack/cluster/internal/cache"
)

func TestNames(t *testing.T) {
	t.Setenv(cache.RootEnv, t.TempDir())
	for name, want := range map[string]bool{
		"demo": true, "a": true, "a-1": true, "": false, "-a": false, "a-": false, "A": false, "a/b": false, "..": false,
		"a123456789012345678901234567890123": false,
	} {
		_, err := at(name, io.Discard)
		if got := err == nil; got != want {
			t.Errorf("%q: got %v (%v), want %v", name, got, err, want)
		}
	}
	if _, err := Open("none", io.Discard); !errors.Is(err, ErrNotUp) {
		t.Errorf("got %v, want ErrNotUp", err)
	}
}

func TestRegionOf(t *testing.T) {
	for zone, want := range map[string]string{"ap-guangzhou-2": "ap-guangzhou", "zone": "zone", "": "", "-1": "-1"} {
		if got := regionOf(zone); got != want {
			t.Errorf("%q: got %q, want %q", zone, got, want)
		}
	}
}

func TestStateSurvives(t *testing.T) {
	t.Setenv(cache.RootEnv, t.TempDir())
	for _, name := range []string{"one", "two"} {
		c, err := openLocked(t.Context(), name, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		c.Options = Options{Name: name, Provider: Local, Tier: build.ControlPlane}
		if err := c.allocate(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.lock.Release()
	}
	one, err := Open("one", io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	two, err := Open("two", io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if one.Network.Block.Overlaps(two.Network.Block) || one.Ports.API == two.Ports.API || one.Network.Bridge == two.Network.Bridge {
		t.Errorf("they share: %+v and %+v", one.State, two.State)
	}
}

func TestDownWithoutClusterAndTwice(t *testing.T) {
	root := t.TempDir()
	t.Setenv(cache.RootEnv, root)
	for range 2 {
		var log bytes.Buffer
		if err := Down(t.Context(), "none", &log); err != nil {
			t.Fatal(err)
		}
		if got, want := log.String(), "No cluster none is up\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	left, err := filepath.Glob(filepath.Join(root, "clusters", "*none*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestFakeNodesTakeTurns(t *testing.T) {
	c := &Cluster{State: State{Options: Options{Fake: FakeNodes{Count: 3, Zones: []string{"z-1", "z-2"}, InstanceTypes: []string{"S", "M", "L"}, Taint: true}}}}
	want := [][2]string{{"z-1", "S"}, {"z-2", "M"}, {"z-1", "L"}}
	for i, w := range want {
		n := c.fakeNode(i)
		if got := [2]string{n.Labels["topology.kubernetes.io/zone"], n.Labels["node.kubernetes.io/instance-type"]}; got != w {
			t.Errorf("node %d: got %v, want %v", i, got, w)
		}
		if len(n.Spec.Taints) != 1 {
			t.Errorf("node %d: got taints %v, want one", i, n.Spec.Taints)
		}
	}
	c.Fake.Taint = false
	if n := c.fakeNode(0); len(n.Spec.Taints) != 0 {
		t.Errorf("got taints %v, want none", n.Spec.Taints)
	}
}

func TestTemplatesFillIn(t *testing.T) {
	t.Setenv(cache.RootEnv, t.TempDir())
	c, err := at("demo", io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if c.Network, err = pickNetwork("demo", nil); err != nil {
		t.Fatal(err)
	}
	if err := c.writeConf(); err != nil {
		t.Fatal(err)
	}
}
