// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package node makes the real node of a local cluster: one private set of
// namespaces (cgroup, mount, network, process, host name and IPC) in which
// containerd, the kubelet and kube-proxy run.
//
//	this machine                            the node
//	------------                            --------
//	"cluster up"
//	  makes the bridge and the cgroups
//	  starts "node-enter" -- enters the cgroups, and clones
//	                           "node-init", PID 1 in there:
//	  plugs the node in            mounts /proc, /sys, /run ...
//	                               starts containerd
//	  loads the images
//	  asks for the kubelet  -->    starts the kubelet and kube-proxy
//
// Killing PID 1 ends every Pod and drops every mount, nftables rule and network
// interface in there; only the empty cgroups are left to be removed.
package node
