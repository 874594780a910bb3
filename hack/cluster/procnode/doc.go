// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package procnode is a process node: it registers a Node with a cluster and
// runs the Pods bound to that Node as ordinary local processes. It stands in for
// a kubelet where no real node can run (no root, an unprivileged container,
// macOS), so that controllers can be tried out and tested quickly.
//
// It is not a node for production. Nothing is isolated: a Pod's processes are
// the caller's own, see the host's files, network and processes, and can do
// whatever the caller can. Whoever may create Pods in the cluster may run
// programs here, and whoever holds a client certificate of the CA may read logs.
//
// # How a Pod is run
//
//	informer --Pod--> worker (one goroutine per Pod UID) --starts--> process group
//	                    |  ^                                            |
//	     status PATCH <-+  +------------------ exit code ---------------+
//
// An image is a host directory (Config.Images, and Root/images.json read at each
// look-up). Its bin/ comes first in PATH, and an absolute command that exists
// below it is taken from there, else from the host.
//
// There is no mount namespace, so a volume cannot appear at its mountPath. Each
// container has a directory that stands for its root: it is HOME, workingDir is
// below it, and each mountPath is a symbolic link in it. A program reaches the
// volume "data" mounted at /mnt/data as "mnt/data" (when workingDir is not set)
// or, from anywhere, as $PROCNODE_MOUNT_DATA. Absolute paths are the host's.
//
// # State on disk
//
//	Root/lock                               held while a process node runs here
//	Root/images.json                        more images, same form as Config.Images
//	Root/pods/UID/volumes/NAME/             volumes
//	Root/pods/UID/containers/NAME/root/     the container's directory
//	Root/pods/UID/containers/NAME/N.log     output of the N-th start, in CRI form
//	Root/pods/UID/containers/NAME/state.json  what survives our own restart
//
// A Pod's directory goes when its API object does.
//
// # Its own end
//
// When Run's context ends, every process gets SIGTERM and two seconds later
// SIGKILL. When the program is killed, Linux kills the containers' first
// processes with it; everything else is found through state.json at the next
// start and killed if it can be proved ours, by pid and start time or, on Linux,
// by a variable in its environment. Containers that were running then are
// reported as terminated with exit code 137, reason ContainerStatusUnknown.
//
// # Not supported
//
//   - exec, attach, port-forward, metrics, Events, static Pods.
//   - Probes, lifecycle hooks, sidecar and ephemeral containers, resource limits
//     and admission by resources: a container is ready when it has started.
//   - Security: runAsUser, capabilities, read-only roots and all the like are
//     ignored; so are imagePullPolicy and pull secrets.
//   - Networking: a Pod's IP is the Node's, ports can clash, Services and cluster
//     DNS are not reachable, KUBERNETES_SERVICE_* is not set.
//   - Service account tokens: a volume with one is left empty.
//   - Volumes other than emptyDir, configMap, secret and downwardAPI (single
//     fields); later changes of a ConfigMap or Secret; subPathExpr.
//   - resourceFieldRef and fileKeyRef variables.
//   - An image's entrypoint, variables and user: command must be set. A change of
//     a running Pod's image.
//   - SIGTERM goes to the whole process group, not to one process that could
//     ignore it by being pid 1; so a Pod often ends sooner than on a real node.
//   - Processes that leave their session (setsid) outlive the container.
package procnode
