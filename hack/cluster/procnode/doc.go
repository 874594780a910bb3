// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package procnode is a process node: it registers a Node with a cluster and
// runs the Pods bound to it as ordinary local processes. It stands in for a
// kubelet where no real node can run (no root, an unprivileged container,
// macOS), for trying out and quick tests only.
//
// Nothing is isolated: a Pod's processes are the caller's own and can do whatever
// the caller can. Whoever may create Pods in the cluster may run programs here,
// and whoever holds a client certificate of the CA may read logs.
//
// An image is a host directory (Config.Images, and Root/images.json read at each
// look-up). Its bin/ comes first in PATH, and an absolute command that exists
// below it is taken from there, else from the host. A container has a directory
// that stands for its root: it is HOME, workingDir is below it, and each mountPath
// is a symbolic link in it. What is mounted at /mnt/data is $HOME/mnt/data, or
// mnt/data when workingDir is not set. Absolute paths are the host's.
//
//	Root/images.json                    more images, same form as Config.Images
//	Root/pods/UID/volumes/NAME/         volumes; all of a Pod's goes with its object
//	Root/pods/UID/containers/NAME/root/ the container's directory
//	Root/pods/UID/containers/NAME/log   output of its last start
//
// When Run's context ends, every process is killed. When the program itself is
// killed, a shell beside each container does that at once (see guardScript). The next
// process node reports a Pod of which anything was started, and no end stored, as
// Failed, its containers with exit code 137 and reason ContainerStatusUnknown.
//
// # Not supported
//
//   - exec, attach, port-forward, metrics, Events, static Pods; of `kubectl logs`,
//     all options but --follow and --tail.
//   - Probes, lifecycle hooks, sidecar and ephemeral containers, readiness gates,
//     activeDeadlineSeconds: a container is ready when it has started. Of the
//     conditions there is only Ready.
//   - restartPolicy Always: it is taken for OnFailure. After a restart of the
//     process node nothing is started again.
//   - Resources and security contexts: limits, users, capabilities and the like are
//     ignored, and so are imagePullPolicy and pull secrets.
//   - Networking: a Pod's IP is the Node's, ports can clash, Services and cluster
//     DNS are not reachable, KUBERNETES_SERVICE_* is not set.
//   - Volumes other than emptyDir, and subPathExpr; a service account's token
//     volume is left empty. envFrom, and valueFrom other than fieldRef.
//   - An image's entrypoint, variables and user: command must be set.
//   - SIGTERM goes to the whole process group, not to one process that could
//     ignore it by being pid 1; so a Pod often ends sooner than on a real node.
//   - A process that leaves its group outlives the container. setsid and timeout
//     do that, unless the container's command is, or execs, one of them.
package procnode
