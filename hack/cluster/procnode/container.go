// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

const (
	lookEvery  = 2 * time.Second // for an image that is missing
	maxBackOff = time.Minute     // between two starts; it doubles from a second on
)

// runContainers runs all of the Pod's containers and returns when none runs or
// will be started again. What an earlier process node began, ended with it.
func (p *pod) runContainers() {
	if isTerminal(p.status.Phase) {
		return
	}
	_, err := os.Stat(p.dir)
	lost := err == nil || p.status.Phase == corev1.PodRunning
	if !lost {
		p.runInOrder()
	}
	if lost || p.stopping.Err() != nil {
		p.update(func() {
			settle(p.status.InitContainerStatuses)
			settle(p.status.ContainerStatuses)
		})
	}
}

// runInOrder runs the init containers one after the other, then the others at once.
func (p *pod) runInOrder() {
	for i := range p.obj.Spec.InitContainers {
		if !p.runContainer(&p.obj.Spec.InitContainers[i], &p.status.InitContainerStatuses[i]) {
			return
		}
	}
	var all sync.WaitGroup
	for i := range p.obj.Spec.Containers {
		all.Go(func() { p.runContainer(&p.obj.Spec.Containers[i], &p.status.ContainerStatuses[i]) })
	}
	all.Wait()
}

// runContainer runs c until it ends for good, and returns whether it succeeded.
func (p *pod) runContainer(c *corev1.Container, s *corev1.ContainerStatus) bool {
	image := p.waitForImage(c, s)
	for delay := time.Second; p.stopping.Err() == nil; delay = min(2*delay, maxBackOff) {
		end := p.runOnce(c, s, image)
		again := end.ExitCode != 0 && p.obj.Spec.RestartPolicy != corev1.RestartPolicyNever && p.stopping.Err() == nil
		p.update(func() {
			s.State = corev1.ContainerState{Terminated: end}
			if again {
				s.LastTerminationState, s.State = s.State, waiting("CrashLoopBackOff", fmt.Sprintf("back-off %s restarting failed container", delay))
				s.RestartCount++
			}
		})
		if !again {
			return end.ExitCode == 0
		}
		select {
		case <-time.After(delay):
		case <-p.stopping.Done():
		}
	}
	return false
}

// waitForImage returns the directory of c's image as soon as there is one, or ""
// when the Pod is ended before.
func (p *pod) waitForImage(c *corev1.Container, s *corev1.ContainerStatus) (dir string) {
	reason := "ErrImagePull"
	_ = wait.PollUntilContextCancel(p.stopping, lookEvery, true, func(context.Context) (bool, error) {
		var err error
		if dir, err = findImage(p.n.cfg, c.Image); err == nil {
			return true, nil
		}
		p.update(func() { s.State = waiting(reason, fmt.Sprintf("failed to pull image %q: %v", c.Image, err)) })
		reason = "ImagePullBackOff"
		return false, nil
	})
	return dir
}

// runOnce runs c's process and returns how it ended. What keeps it from being
// started is an end, too.
func (p *pod) runOnce(c *corev1.Container, s *corev1.ContainerStatus, image string) *corev1.ContainerStateTerminated {
	end := &corev1.ContainerStateTerminated{StartedAt: metav1.Now(), Reason: "Completed"}
	cmd, err := p.command(c, image)
	if err == nil {
		end.ExitCode, err = runProcess(p.stopping, p.killing, cmd, p.logPath(c.Name), func(pid int) {
			end.ContainerID = fmt.Sprintf("process://%d", pid)
			p.update(func() {
				s.ImageID, s.ContainerID = "process://"+image, end.ContainerID
				s.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: end.StartedAt}}
			})
		})
	}
	end.FinishedAt = metav1.Now()
	switch {
	case err != nil:
		end.ExitCode, end.Reason = 128, "StartError"
		end.Message = fmt.Sprintf("unable to start container process: %v", err)
	case end.ExitCode != 0:
		end.Reason = "Error"
	}
	return end
}
