// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"fmt"
	"net/netip"
	"syscall"
)

// refused are the networks that Guard refuses beside those that netip.Addr knows: they belong to a cluster, a cloud or
// nobody, or hold an IPv4 address in an IPv6 address.
var refused = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("168.63.129.16/32"), // of Azure, for its machines only
	netip.MustParsePrefix("::/96"), netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("2001::/32"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("fec0::/10"),
}

// Guard refuses connections to addresses that are not public. It is for sinks that users name.
type Guard struct {
	// Also are further networks to refuse, such as those of Pods and Services if they are public.
	Also []netip.Prefix
}

// Control is net.Dialer.Control: it is called after the name was resolved, for each address that is tried.
func (g *Guard) Control(_, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil || !g.allowed(a.Addr()) {
		return fmt.Errorf("%w: %s", errGuarded, address)
	}
	return nil
}

// allowed reports whether the address is public.
func (g *Guard) allowed(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false // loopback, link-local, multicast, unspecified, private, unique-local
	}
	for _, nets := range [][]netip.Prefix{refused, g.Also} {
		for _, n := range nets {
			if n.Contains(a) {
				return false
			}
		}
	}
	return true
}
