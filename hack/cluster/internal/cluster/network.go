// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Network is every address range and interface name of one cluster. They come
// from the path of its state directory, so that clusters of one name in two
// caches do not meet either, and are moved on where somebody else has them
// already. That way several clusters can stand side by side.
//
//	10.B.0.0/24    the bridge: .1 is this machine (and the API server), .2 the real node
//	10.B.32.0/19   Pods on pretended nodes; nothing answers there
//	10.B.64.0/18   Services
//	10.B.128.0/22  Pods on the real node
type Network struct {
	Bridge   string `json:"bridge"`   // on this machine
	VethHost string `json:"vethHost"` // a port of the bridge ...
	VethNode string `json:"vethNode"` // ... and its other end, inside the node

	Block    netip.Prefix `json:"block"`
	NodeNet  netip.Prefix `json:"nodeNet"`
	FakePods netip.Prefix `json:"fakePods"`
	Services netip.Prefix `json:"services"`
	Pods     netip.Prefix `json:"pods"`
}

const firstBlock, lastBlock = 64, 250

// pickNetwork returns the first free network for the cluster in dir. taken are the ranges in use on this machine or by other clusters.
func pickNetwork(dir string, taken []netip.Prefix) (Network, error) {
	const n = lastBlock - firstBlock + 1
	h := hash(dir)
	for i := range uint32(n) {
		b := byte(firstBlock + (h+i)%n)
		block := prefix(b, 0, 16)
		if overlapsAny(block, taken) {
			continue
		}
		id := "bc" + hex.EncodeToString([]byte{byte(h >> 24), byte(h >> 16), byte(h >> 8), byte(h)})
		return Network{
			Bridge: id, VethHost: id + "h", VethNode: id + "n", // 15 bytes is the limit
			Block: block, NodeNet: prefix(b, 0, 24), FakePods: prefix(b, 32, 19),
			Services: prefix(b, 64, 18), Pods: prefix(b, 128, 22),
		}, nil
	}
	return Network{}, errors.New("every address range from 10.64.0.0/16 to 10.250.0.0/16 is in use")
}

// HostIP is this machine's address on the bridge.
func (n Network) HostIP() netip.Addr { return n.NodeNet.Addr().Next() }

// NodeIP is the real node's address.
func (n Network) NodeIP() netip.Addr { return n.HostIP().Next() }

// APIServiceIP is the address of the Service "kubernetes", always the first of the range.
func (n Network) APIServiceIP() netip.Addr { return n.Services.Addr().Next() }

// prefix is the range 10.b.c.0/bits.
func prefix(b, c byte, bits int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, b, c, 0}), bits)
}

func overlapsAny(p netip.Prefix, others []netip.Prefix) bool {
	for _, o := range others {
		// A default route overlaps with everything and says nothing.
		if o.Bits() > 0 && p.Overlaps(o) {
			return true
		}
	}
	return false
}

func hash(s string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(s))
	return h.Sum32()
}

// machinePrefixes returns the ranges of this machine's addresses and routes.
func machinePrefixes() ([]netip.Prefix, error) {
	var found []netip.Prefix
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("listing this machine's addresses: %w", err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			found = append(found, p.Masked())
		}
	}
	routes, err := netlink.RouteList(nil, unix.AF_INET)
	if err != nil && !errors.Is(err, netlink.ErrNotImplemented) { // as on macOS, where nothing is routed
		return nil, fmt.Errorf("listing this machine's routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		if p, err := netip.ParsePrefix(r.Dst.String()); err == nil {
			found = append(found, p)
		}
	}
	return found, nil
}

// Ports are the ports of the parts that run on this machine itself.
type Ports struct {
	API, EtcdClient, EtcdPeer, ControllerManager, Scheduler, Kwok, ProcessNode int
}

const (
	portBlock  = 10
	firstPort  = 20000 // below the range that outgoing connections take theirs from
	portBlocks = 1200
)

// pickPorts returns the first block of free ports for the cluster in dir.
// free tells whether a port can be listened on; reserved are the API ports of
// other clusters, some of whose parts may be stopped at the moment.
func pickPorts(dir string, reserved []int, free func(port int) bool) (Ports, error) {
	taken := map[int]bool{}
	for _, p := range reserved {
		taken[p-p%portBlock] = true
	}
	for i := range uint32(portBlocks) {
		base := firstPort + portBlock*int((hash(dir)+i)%portBlocks)
		if taken[base] || !allFree(base, free) {
			continue
		}
		return Ports{API: base, EtcdClient: base + 1, EtcdPeer: base + 2, ControllerManager: base + 3,
			Scheduler: base + 4, Kwok: base + 5, ProcessNode: base + 6}, nil
	}
	return Ports{}, fmt.Errorf("no ten free ports in a row between %d and %d", firstPort, firstPort+portBlock*portBlocks)
}

func allFree(base int, free func(int) bool) bool {
	for p := base; p < base+portBlock; p++ {
		if !free(p) {
			return false
		}
	}
	return true
}

// canListen tells whether nobody listens on the port.
func canListen(port int) bool {
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	l.Close()
	return true
}
