// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	maxBackOff    = 5 * time.Minute  // between two starts, or two pulls
	resetBackOff  = 10 * time.Minute // a run this long makes the next back-off short
	retryConfig   = 2 * time.Second  // a ConfigMap or the like may appear
	showPullError = 2 * time.Second  // how long ErrImagePull is shown before ImagePullBackOff
)

// uidVariable is in the environment of each process and proves it ours.
const uidVariable = "PROCNODE_POD_UID"

// container is one container of a Pod; only the Pod's worker uses it.
type container struct {
	record
	spec *corev1.Container
	dir  string // Root/pods/UID/containers/NAME

	proc      *process // nil when none runs
	notBefore time.Time
	tries     int // starts that ended, for the back-off
	pulls     int // failed look-ups of the image
	pullAt    time.Time
}

// loadContainer returns a container as it was left: by state.json, else by the
// status in the API. One that was running then is lost.
func loadContainer(podDir string, spec *corev1.Container, statuses []corev1.ContainerStatus) (*container, error) {
	c := &container{spec: spec, dir: filepath.Join(podDir, "containers", spec.Name)}
	r, err := readRecord(c.dir)
	switch {
	case err == nil:
		c.record = r
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	default:
		for _, s := range statuses {
			if s.Name == spec.Name {
				c.State, c.Last, c.Restarts = s.State, s.LastTerminationState, s.RestartCount
			}
		}
	}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, fmt.Errorf("making a container's directory: %w", err)
	}
	if c.State.Running != nil {
		c.lost("The container was not running any more when the process node came back")
	}
	return c, nil
}

func readRecord(dir string) (record, error) {
	var r record
	data, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		return record{}, fmt.Errorf("reading a container's state: %w", err)
	}
	return r, nil
}

// save stores the record. The new file takes the old one's place at once, so
// that we can be killed at any time.
func (c *container) save() error {
	data, err := json.Marshal(c.record)
	if err != nil {
		return fmt.Errorf("storing a container's state: %w", err)
	}
	file := filepath.Join(c.dir, "state.json")
	if err := errors.Join(os.WriteFile(file+"~", data, 0o644), os.Rename(file+"~", file)); err != nil {
		return fmt.Errorf("storing a container's state: %w", err)
	}
	return nil
}

func (c *container) wait(reason, message string, until time.Time) {
	c.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
	c.notBefore = until
}

func (c *container) terminate(reason, message string, code int32, started, finished metav1.Time) {
	c.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		ExitCode: code, Reason: reason, Message: message, StartedAt: started, FinishedAt: finished, ContainerID: c.id(),
	}}
}

// lost ends a container whose fate is unknown.
func (c *container) lost(message string) {
	var started metav1.Time
	if c.State.Running != nil {
		started = c.State.Running.StartedAt
	}
	c.terminate("ContainerStatusUnknown", message, 137, started, metav1.Now())
}

// exited takes the end of the container's process.
func (c *container) exited(code int32, at time.Time) {
	reason := "Completed"
	if code != 0 {
		reason = "Error"
	}
	started := c.State.Running.StartedAt
	if at.Sub(started.Time) > resetBackOff {
		c.tries = 0
	}
	c.proc = nil
	c.terminate(reason, "", code, started, metav1.NewTime(at))
}

// backOff makes a container that has ended wait for its next start.
func (c *container) backOff(pod *corev1.Pod) {
	delay := backOff(time.Second, c.tries)
	c.tries++
	until := c.State.Terminated.FinishedAt.Add(delay)
	c.Last = c.State
	c.wait("CrashLoopBackOff", fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)",
		delay, c.spec.Name, pod.Name, pod.Namespace, pod.UID), until)
}

// backOff doubles first with each try, up to maxBackOff.
func backOff(first time.Duration, tries int) time.Duration {
	return min(first<<min(tries, 16), maxBackOff)
}

// findImage looks the image up and returns whether it is there. If not, the
// container waits as if for a registry: an attempt, then back-off, and so on.
func (c *container) findImage(cfg Config, now time.Time) bool {
	if now.Before(c.pullAt) {
		c.wait("ImagePullBackOff", fmt.Sprintf("Back-off pulling image %q: not found", c.spec.Image), c.pullAt)
		return false
	}
	dir, err := findImage(cfg, c.spec.Image)
	if err == nil && dir != "" {
		c.Image = dir
		return true
	}
	if err == nil {
		err = errors.New("not found: the process node has no directory for it")
	}
	c.pullAt = now.Add(backOff(10*time.Second, c.pulls))
	c.pulls++
	c.wait("ErrImagePull", fmt.Sprintf("failed to pull image %q: %v", c.spec.Image, err), now.Add(showPullError))
	return false
}

// prepare makes everything that the container's process needs. An error may be
// gone at a later try.
func (c *container) prepare(ctx context.Context, v variables, volumes string) (command, error) {
	root := filepath.Join(c.dir, "root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return command{}, err
	}
	path := filepath.Join(c.Image, "bin") + string(filepath.ListSeparator) + os.Getenv("PATH")
	var e environ
	e.set("PATH", path)
	e.set("HOME", root)
	e.set("HOSTNAME", v.pod.Name)
	e.set(uidVariable, string(v.pod.UID))
	if err := linkMounts(&e, c.spec, volumes, root); err != nil {
		return command{}, err
	}
	if err := v.addTo(ctx, &e, c.spec); err != nil {
		return command{}, err
	}
	cmd := command{dir: filepath.Join(root, c.spec.WorkingDir), env: e.list()}
	for _, arg := range append(append([]string{}, c.spec.Command...), c.spec.Args...) {
		cmd.args = append(cmd.args, e.expand(arg))
	}
	return cmd, os.MkdirAll(cmd.dir, 0o755)
}

// start runs the command; onExit is called as by starter.start. A command that
// can't be run ends the container with reason StartError, as on a real node. An
// error means that the state could not be stored.
func (c *container) start(s *starter, cmd command, now time.Time, onExit func(code int32)) error {
	if c.Last.Terminated != nil {
		c.Restarts++
		_ = os.Remove(c.logPath(c.Restarts - 2)) // the last two are kept
	}
	// Stored before the start, so that a Pod that must not run twice doesn't,
	// whenever we are killed.
	c.Pid, c.Start = 0, ""
	c.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(now)}}
	if err := c.save(); err != nil {
		return err
	}
	log, err := s.logs.create(c.logPath(c.Restarts))
	if err != nil {
		return err
	}
	if cmd.path, err = findProgram(cmd.args[0], c.Image, cmd.lookupPath()); err != nil {
		err = errors.Join(err, log.Close())
	} else {
		c.proc, err = s.start(cmd, log, onExit)
	}
	if err != nil {
		epoch := metav1.NewTime(time.Unix(0, 0)) // as the kubelet shows it
		c.terminate("StartError", fmt.Sprintf("unable to start container process: %v", err), 128, epoch, metav1.NewTime(now))
		return c.save()
	}
	c.Pid, c.Start = c.proc.pid, c.proc.start
	if err := c.save(); err != nil {
		killGroup(c.Pid, syscall.SIGKILL) // what isn't recorded can't be cleaned up
		return err
	}
	return nil
}

func (c *container) logPath(restart int32) string { return logPath(c.dir, restart) }

func logPath(dir string, restart int32) string {
	return filepath.Join(dir, fmt.Sprintf("%d.log", restart))
}

// killLeftover kills the process group that a record says was running, if it is
// still there and provably ours.
func killLeftover(r record, uid string) {
	if r.State.Running == nil || r.Pid <= 1 {
		return
	}
	start, err := startTime(r.Pid)
	if (err == nil && start == r.Start) || (err != nil && groupHasVariable(r.Pid, uidVariable+"="+uid)) {
		killGroup(r.Pid, syscall.SIGKILL)
	}
}
