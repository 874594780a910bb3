// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// ErrNoManager says that no manager runs at the moment.
var ErrNoManager = errors.New("no process of the manager is to be found")

// KillManager ends the manager's process at once, as kill -9 does, and sees to it that
// there will be another: in a Pod, the kubelet does.
func (c *Cluster) KillManager(ctx context.Context, kube client.Client) error {
	if c.NodeKind == "process" {
		return errors.Join(c.Stop(ctx, ManagerPart), c.Start(ctx, ManagerPart))
	}
	pid, err := ManagerPID(ctx, kube)
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("killing the manager: %w", err)
	}
	return nil
}

// ManagerPID finds the manager's process on a real node of this machine.
func ManagerPID(ctx context.Context, kube client.Client) (int, error) {
	var pods corev1.PodList
	err := kube.List(ctx, &pods, client.InNamespace(Namespace), client.MatchingLabels{"control-plane": "controller-manager"})
	if err != nil {
		return 0, fmt.Errorf("listing the manager's pods: %w", err)
	}
	pid, err := PodPID(pods.Items, "/manager")
	if pid == 0 && err == nil {
		err = ErrNoManager
	}
	return pid, err
}

// PodPID finds a process on a real node of this machine: one whose control group belongs to one of the Pods and whose
// command line begins with these words. It is 0 if there is none.
func PodPID(pods []corev1.Pod, words ...string) (int, error) {
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, dir := range procs {
		groups, _ := os.ReadFile(dir + "/cgroup")
		cmdline, _ := os.ReadFile(dir + "/cmdline")
		if !bytes.HasPrefix(cmdline, []byte(strings.Join(words, "\x00")+"\x00")) {
			continue
		}
		for _, pod := range pods {
			if uid := string(pod.UID); bytes.Contains(groups, []byte(uid)) || bytes.Contains(groups, []byte(strings.ReplaceAll(uid, "-", "_"))) {
				return strconv.Atoi(filepath.Base(dir))
			}
		}
	}
	return 0, nil
}

// NodePart is the part of a local cluster that its Pods run on.
func (c *Cluster) NodePart() string {
	if c.NodeKind == "process" {
		return "process-node"
	}
	return "node"
}

// Stop kills a part of a local cluster as a crash would.
func (c *Cluster) Stop(ctx context.Context, part string) error {
	return c.switchPart(ctx, "stop", part)
}

// Start brings a part back, and returns when it can be used.
func (c *Cluster) Start(ctx context.Context, part string) error {
	return c.switchPart(ctx, "start", part)
}

func (c *Cluster) switchPart(ctx context.Context, verb, part string) error {
	if out, err := exec.CommandContext(ctx, program, verb, "--name", c.target.Name, part).CombinedOutput(); err != nil {
		return fmt.Errorf("cluster %s %s: %w\n%s", verb, part, err, out)
	}
	return nil
}
