//go:build e2e

// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/podspec"
)

// nfsHelper stands in for mount.nfs in the node, since not every machine has an NFS client: it mounts a file system
// read-only, as of a server that exports it so, and hangs for another, as for a server that does not answer.
const nfsHelper = `
set -e
mkdir -p /run/nfs/sbin
touch /run/nfs/hangs
cat >/run/nfs/sbin/mount.nfs <<'END'
#!/bin/sh
case "$1" in
*:/export/) mount -t tmpfs -o mode=777 tmpfs "$2" && echo text >"$2/file" && exec mount -o remount,ro "$2" ;;
*:/hangs/) while [ -e /run/nfs/hangs ]; do sleep 0.2; done ;;
esac
echo "mount.nfs: $1 is not served" >&2
exit 32
END
chmod 755 /run/nfs/sbin/mount.nfs
mount -t overlay overlay -o lowerdir=/run/nfs/sbin:/usr/sbin /usr/sbin
`

// inNode runs a script of the shell in the namespaces of mounts and processes of the local cluster's node.
func (s *story) inNode(ctx context.Context, script string) error {
	pids, err := cluster.Processes(ctx)
	if err != nil {
		return err
	}
	pid := strconv.Itoa(pids[cluster.NodePart()])
	if out, err := exec.CommandContext(ctx, "nsenter", "--target", pid, "--mount", "--pid", "sh", "-c", script).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// TestNFS: what a read-only file system refuses is the command's error. A file server that does not answer leaves the instance
// waiting, and says so, since the kubelet records no event; and the job can be terminated meanwhile.
func TestNFS(t *testing.T) {
	s := beginData(t)
	s.must("label", "namespace", s.namespace, "--overwrite", "pod-security.kubernetes.io/enforce=baseline")
	if err := s.inNode(s.ctx, nfsHelper); err != nil {
		t.Fatal(err)
	}
	release := func() {
		if err := s.inNode(context.Background(), "rm -f /run/nfs/hangs"); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() { // lazily, since programs of it may run: kube-proxy has some
		if err := s.inNode(context.Background(), "umount --lazy /usr/sbin"); err != nil {
			t.Error(err)
		}
	})
	defer release()
	s.apply(job("nfs", `
tasks:
- taskName: writes
  application: {deliveryForm: LOCAL, command: "cat /in/file && echo more >/in/other"}
  computeEnv: {}
  inputMappings: [{sourcePath: "nfs://10.0.0.9:/export/", destinationPath: /in}]
- taskName: hangs
  application: {deliveryForm: LOCAL, command: "true"}
  computeEnv: {}
  inputMappings: [{sourcePath: "nfs://10.0.0.9:/hangs/", destinationPath: /in}]
`))
	s.eventually(time.Minute, "the command to fail", func() error {
		if f := failures(s.get("nfs"), "writes"); len(f) != 1 || f[0].Reason != v1alpha1.ReasonCommandFailed || *f[0].ExitCode != 1 {
			return fmt.Errorf("failures are %+v", f)
		}
		return nil
	})
	if got := s.log(s.pods("writes")[0]); !strings.Contains(got, "text\n") || !strings.Contains(got, "Read-only file system") {
		t.Errorf("log = %q", got)
	} else {
		t.Logf("writes: %s; its log: %q", failures(s.get("nfs"), "writes")[0].Message, got)
	}
	s.eventually(time.Minute, "the status to say what it waits for", func() error {
		if st := task(s.get("nfs"), "hangs"); st.Reason != v1alpha1.ReasonContainerCreating || !strings.Contains(st.Message, `kubectl describe pod says what fails of: file system "nfs://10.0.0.9:/hangs/"`) {
			return fmt.Errorf("it says %s: %s", st.Reason, st.Message)
		}
		return nil
	})
	hangs := task(s.get("nfs"), "hangs").Message
	t.Logf("hangs: %s", hangs)
	if !strings.Contains(hangs, "without such an event the file server does not answer") {
		t.Error("the message does not say that the server may not answer")
	}
	began := time.Now()
	s.must("patch", "batchjob", "nfs", "--type=merge", "-p", `{"spec":{"terminate":true}}`)
	done := s.end("nfs", v1alpha1.JobFailed)
	t.Logf("the terminated job ended after %s: %s", time.Since(began).Round(time.Second), done.Status.Message)
	s.released()
	release()
	s.eventually(time.Minute, "the Pod to end", func() error {
		for _, pod := range s.pods("hangs") {
			if c := container(pod, podspec.ContainerName); pod.Status.Phase == corev1.PodPending || c.Running != nil {
				return fmt.Errorf("it is %s", pod.Status.Phase)
			}
		}
		return nil
	})
}
