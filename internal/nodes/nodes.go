// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package nodes knows the zones, host names and addresses of a cluster's nodes, as far as
// it was told of them.
package nodes

import (
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/version"
)

// Index is what is known of the nodes. The zero value knows none. It may be used by any
// number of goroutines.
type Index struct {
	mu       sync.RWMutex
	complete func() bool
	nodes    map[string]node           // by name
	zones    map[string]int            // how many nodes a zone has
	hosts    map[string]map[string]int // host names by address, with how many nodes say so
	older    int                       // how many nodes cannot mount an image as a volume
}

type node struct {
	zone, host string
	addresses  []string
	older      bool
}

// CompleteWhen says how to find out whether the index was told of all nodes that were there
// when it began.
func (x *Index) CompleteWhen(complete func() bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.complete = complete
}

// Complete reports whether the index was told of all nodes that were there when it began.
func (x *Index) Complete() bool {
	x.mu.RLock()
	complete := x.complete
	x.mu.RUnlock()
	return complete == nil || complete()
}

// Saw takes in a node that is there, as it is now. It reports whether its zone, host name or addresses changed.
func (x *Index) Saw(obj *corev1.Node) bool {
	n := node{zone: obj.Labels[corev1.LabelTopologyZone], host: obj.Labels[corev1.LabelHostname], older: !mountsImages(obj.Status.NodeInfo)}
	for _, a := range obj.Status.Addresses {
		if a.Type == corev1.NodeInternalIP || a.Type == corev1.NodeExternalIP {
			n.addresses = append(n.addresses, a.Address)
		}
	}
	slices.Sort(n.addresses)
	x.mu.Lock()
	defer x.mu.Unlock()
	old, known := x.nodes[obj.Name]
	same := known && old.zone == n.zone && old.host == n.host && slices.Equal(old.addresses, n.addresses)
	if same && old.older == n.older {
		return false
	}
	if x.nodes == nil {
		x.nodes, x.zones, x.hosts = map[string]node{}, map[string]int{}, map[string]map[string]int{}
	}
	x.count(old, -1)
	x.count(n, 1)
	x.nodes[obj.Name] = n
	return !same
}

// Gone takes in that a node is there no more.
func (x *Index) Gone(name string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.count(x.nodes[name], -1)
	delete(x.nodes, name)
}

func (x *Index) count(n node, by int) {
	if n.older {
		x.older += by
	}
	if n.zone != "" {
		if x.zones[n.zone] += by; x.zones[n.zone] == 0 {
			delete(x.zones, n.zone)
		}
	}
	if n.host == "" {
		return
	}
	for _, a := range n.addresses {
		if x.hosts[a] == nil {
			x.hosts[a] = map[string]int{}
		}
		if x.hosts[a][n.host] += by; x.hosts[a][n.host] == 0 {
			delete(x.hosts[a], n.host)
		}
		if len(x.hosts[a]) == 0 {
			delete(x.hosts, a)
		}
	}
}

// ImageVolumes reports whether every node can mount an image as a volume. It is false while no node is known: those that
// come may be older.
func (x *Index) ImageVolumes() bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.nodes) > 0 && x.older == 0
}

// mountsImages reports whether a node can mount an image as a volume: a kubelet does by default from 1.35 on, and
// containerd from 2.1, CRI-O from 1.31 on. Of other runtimes it is not known.
func mountsImages(info corev1.NodeSystemInfo) bool {
	runtime, of, _ := strings.Cut(info.ContainerRuntimeVersion, "://")
	least := map[string]*version.Version{"containerd": version.MajorMinor(2, 1), "cri-o": version.MajorMinor(1, 31)}[runtime]
	return least != nil && isAtLeast(of, least) && isAtLeast(info.KubeletVersion, version.MajorMinor(1, 35))
}

func isAtLeast(text string, least *version.Version) bool {
	v, err := version.ParseGeneric(text)
	return err == nil && v.AtLeast(least)
}

// HasZone reports whether a node is in the zone.
func (x *Index) HasZone(zone string) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.zones[zone] > 0
}

// Zones returns the zones that nodes are in, sorted.
func (x *Index) Zones() []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return slices.Sorted(maps.Keys(x.zones))
}

// Hosts returns the host names of the nodes that have any of the addresses, sorted.
func (x *Index) Hosts(addresses []string) []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	found := map[string]bool{}
	for _, a := range addresses {
		for host := range x.hosts[a] {
			found[host] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}
