// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"net/netip"
	"testing"
)

func TestPickNetwork(t *testing.T) {
	a, err := pickNetwork("demo", nil)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := pickNetwork("demo", nil); again != a {
		t.Errorf("same name: got %v and %v", a, again)
	}
	for _, taken := range []netip.Prefix{a.Block, a.Pods, netip.MustParsePrefix(a.HostIP().String() + "/32")} {
		b, err := pickNetwork("demo", []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), taken})
		if err != nil {
			t.Fatal(err)
		}
		if b.Block.Overlaps(a.Block) {
			t.Errorf("with %s taken: got %s", taken, b.Block)
		}
	}
	if _, err := pickNetwork("demo", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}); err == nil {
		t.Error("no error though everything is taken")
	}
}

func TestNetworkIsSound(t *testing.T) {
	n, err := pickNetwork("demo", nil)
	if err != nil {
		t.Fatal(err)
	}
	ranges := []netip.Prefix{n.NodeNet, n.FakePods, n.Services, n.Pods}
	for i, p := range ranges {
		if p != p.Masked() || !n.Block.Contains(p.Addr()) {
			t.Errorf("%s is not a range of %s", p, n.Block)
		}
		for _, q := range ranges[i+1:] {
			if p.Overlaps(q) {
				t.Errorf("%s overlaps %s", p, q)
			}
		}
	}
	for _, name := range []string{n.Bridge, n.VethHost, n.VethNode} {
		if len(name) > 15 {
			t.Errorf("interface name %q is longer than the kernel allows", name)
		}
	}
	if !n.NodeNet.Contains(n.NodeIP()) || n.HostIP() == n.NodeIP() {
		t.Errorf("addresses: host %s, node %s", n.HostIP(), n.NodeIP())
	}
}

func TestPickPorts(t *testing.T) {
	all := func(int) bool { return true }
	a, err := pickPorts("demo", nil, all)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := pickPorts("demo", []int{a.API}, all); b.API == a.API {
		t.Error("a reserved block was given out")
	}
	if b, _ := pickPorts("demo", nil, func(p int) bool { return p != a.Scheduler }); b.API == a.API {
		t.Error("a block with a port in use was given out")
	}
	if _, err := pickPorts("demo", nil, func(int) bool { return false }); err == nil {
		t.Error("no error though no port is free")
	}
	if a.API < firstPort || a.ProcessNode >= 32768 {
		t.Errorf("got %+v, want ports below those of outgoing connections", a)
	}
}
