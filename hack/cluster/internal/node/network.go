// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
)

// Bridge describes a cluster's network on this machine.
type Bridge struct {
	Name               string
	VethHost, VethNode string
	HostIP, NodeIP     netip.Addr
	NodeNet            netip.Prefix
	Routed             []netip.Prefix // reached by way of NodeIP: Pods and Services
}

// MakeBridge makes the bridge on this machine. The API server listens on its
// address, which therefore stays while the node comes and goes; that is why
// there is a bridge, and not just a pair of interfaces. The routes let the API
// server reach webhooks by the address of their Service, and tests reach Pods.
func MakeBridge(b Bridge) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = b.Name
	link := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(link); err != nil {
		return fmt.Errorf("making the bridge %s: %w", b.Name, err)
	}
	if err := netlink.AddrAdd(link, addr(b.HostIP, b.NodeNet.Bits())); err != nil {
		return fmt.Errorf("giving the bridge %s its address: %w", b.Name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("starting the bridge %s: %w", b.Name, err)
	}
	for _, p := range b.Routed {
		r := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(p), Gw: b.NodeIP.AsSlice()}
		if err := netlink.RouteReplace(r); err != nil {
			return fmt.Errorf("routing %s to the node: %w", p, err)
		}
	}
	return nil
}

// RemoveBridge removes what MakeBridge and Plug made, the routes with it. There
// may be nothing to remove.
func RemoveBridge(b Bridge) error {
	return errors.Join(removeLink(b.VethHost), removeLink(b.Name))
}

// Plug joins the network namespace of process pid to the bridge.
func Plug(b Bridge, pid int) error {
	// A node that just died may not have been cleared away by the kernel yet.
	if err := removeLink(b.VethHost); err != nil {
		return err
	}
	bridge, err := netlink.LinkByName(b.Name)
	if err != nil {
		return fmt.Errorf("finding the bridge %s: %w", b.Name, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = b.VethHost
	attrs.MasterIndex = bridge.Attrs().Index
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: b.VethNode, PeerNamespace: netlink.NsPid(pid)}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("making the node's network interface: %w", err)
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return fmt.Errorf("starting the node's network interface: %w", err)
	}
	return nil
}

func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) || errors.Is(err, netlink.ErrNotImplemented) {
		return nil // where there is no such interface, or none of this kind, as on macOS
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil && !errors.Is(err, syscall.ENODEV) { // the kernel removes it as well, when the node's namespace has ended
		return fmt.Errorf("removing the network interface %s: %w", name, err)
	}
	return nil
}

func addr(ip netip.Addr, bits int) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(bits, 32)}}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: slices.Clone(p.Addr().AsSlice()), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
