// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	callTimeout = 10 * time.Second // of one request, so that a worker is never stuck
	retryCall   = time.Second      // doubles with each failure, up to callTimeout
	leaveTime   = 2 * time.Second  // between SIGTERM and SIGKILL when the node ends
)

// worker runs one Pod, from the moment the node sees it until its API object is
// gone. One goroutine owns everything in it but the channels.
type worker struct {
	n     *node
	dir   string      // Root/pods/UID
	pod   *corev1.Pod // newest seen; read-only
	start metav1.Time // status.startTime

	inits, main []*container
	volumes     bool // written

	updates chan *corev1.Pod // holds the newest only
	gone    chan struct{}    // closed when the API object is
	exits   chan exit

	stopAt   time.Time // when the Pod was told to end, zero before
	deadline bool      // the reason was activeDeadlineSeconds
	stopped  bool      // nothing runs, nothing will
	released bool      // the API object was told to go

	written  corev1.PodStatus // the node's fields, as stored
	failures int              // of requests, in a row
	next     time.Time        // when to look again
}

type exit struct {
	c    *container
	code int32
	at   time.Time
}

func newWorker(n *node, pod *corev1.Pod) (*worker, error) {
	w := &worker{
		n: n, pod: pod, dir: n.podDir(pod.UID), start: metav1.Now(),
		updates: make(chan *corev1.Pod, 1),
		gone:    make(chan struct{}),
		exits:   make(chan exit, len(pod.Spec.InitContainers)+len(pod.Spec.Containers)),
		written: ownStatus(&pod.Status),
	}
	if pod.Status.StartTime != nil {
		w.start = *pod.Status.StartTime
	}
	if isTerminal(pod.Status.Phase) {
		return w, nil // all that can follow is its deletion
	}
	load := func(specs []corev1.Container, statuses []corev1.ContainerStatus) (list []*container, err error) {
		for i := range specs {
			c, err := loadContainer(w.dir, &specs[i], statuses)
			if err != nil {
				return nil, err
			}
			list = append(list, c)
		}
		return list, nil
	}
	var err error
	if w.inits, err = load(pod.Spec.InitContainers, pod.Status.InitContainerStatuses); err != nil {
		return nil, err
	}
	w.main, err = load(pod.Spec.Containers, pod.Status.ContainerStatuses)
	return w, err
}

// update hands the worker the newest object. Only the informer calls it.
func (w *worker) update(pod *corev1.Pod) {
	select {
	case <-w.updates:
	default:
	}
	w.updates <- pod
}

// run works until the API object is gone or ctx ends.
func (w *worker) run(ctx context.Context) {
	for {
		w.next = time.Now().Add(time.Hour)
		w.sync(ctx, time.Now())
		select {
		case w.pod = <-w.updates:
		case e := <-w.exits:
			w.exited(e)
		case <-time.After(time.Until(w.next)):
		case <-w.gone:
			w.halt(0)
			if err := os.RemoveAll(w.dir); err != nil {
				w.log("Left a Pod's directory behind", err)
			}
			return
		case <-ctx.Done():
			w.halt(leaveTime)
			return
		}
	}
}

// sync does what is due now and sets next.
func (w *worker) sync(ctx context.Context, now time.Time) {
	for len(w.exits) > 0 { // seen together, they cost one status write
		w.exited(<-w.exits)
	}
	if !isTerminal(w.written.Phase) {
		w.checkStop(now)
		if w.stopAt.IsZero() {
			w.startDue(ctx, now)
		} else {
			w.checkStopped(now)
		}
	}
	err := w.publish(ctx, now)
	if err == nil {
		err = w.release(ctx)
	}
	if err == nil {
		w.failures = 0
		return
	}
	w.wake(now.Add(min(backOff(retryCall, w.failures), callTimeout)))
	w.failures++
	if ctx.Err() == nil {
		w.log("Could not report a Pod and will try again", err)
	}
}

// wake makes the worker look again at t, if nothing is due before.
func (w *worker) wake(t time.Time) {
	if t.Before(w.next) {
		w.next = t
	}
}

// checkStop begins the end of a Pod that is deleted or past its deadline. One
// that has ended by itself keeps its outcome, though it may not be stored yet.
func (w *worker) checkStop(now time.Time) {
	if !w.stopAt.IsZero() || isTerminal(computePhase(w.facts())) {
		return
	}
	if d := w.pod.Spec.ActiveDeadlineSeconds; d != nil {
		end := w.start.Add(time.Duration(*d) * time.Second)
		w.deadline = !now.Before(end)
		if !w.deadline {
			w.wake(end)
		}
	}
	if w.deadline || w.pod.DeletionTimestamp != nil {
		w.stopAt = now
		w.signal(syscall.SIGTERM)
	}
}

// checkStopped kills what outlives the grace period and settles the state of
// every container once nothing runs.
func (w *worker) checkStopped(now time.Time) {
	if w.running() > 0 {
		if end := w.stopAt.Add(w.grace()); now.Before(end) {
			w.wake(end)
		} else {
			w.signal(syscall.SIGKILL)
		}
		return
	}
	w.stopped = true
	for _, c := range w.main {
		switch {
		case c.State.Terminated != nil:
		case c.Last.Terminated != nil:
			c.State, c.Last = c.Last, corev1.ContainerState{}
		case !slices.ContainsFunc(w.inits, func(c *container) bool { return !c.done() }):
			c.lost("The container could not be located when the pod was terminated")
		}
	}
}

// grace returns the time between SIGTERM and SIGKILL, at least a second as in
// the kubelet. The deletion's counts, unless a deadline asks for less.
func (w *worker) grace() time.Duration {
	grace := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if g := w.pod.Spec.TerminationGracePeriodSeconds; g != nil {
		grace = *g
	}
	if g := w.pod.DeletionGracePeriodSeconds; g != nil && (!w.deadline || *g < grace) {
		grace = *g
	}
	return time.Duration(max(grace, 1)) * time.Second
}

// startDue starts the next init container or, after them, all containers.
func (w *worker) startDue(ctx context.Context, now time.Time) {
	for _, c := range w.inits {
		if !c.done() {
			w.startOne(ctx, c, now)
			return
		}
	}
	for _, c := range w.main {
		w.startOne(ctx, c, now)
	}
}

func (w *worker) startOne(ctx context.Context, c *container, now time.Time) {
	if c.proc != nil || (c.State.Terminated != nil && !shouldRestart(w.pod.Spec.RestartPolicy, &c.record)) {
		return
	}
	var err error
	if c.State.Terminated != nil {
		c.backOff(w.pod)
		err = c.save()
	}
	if err == nil && !now.Before(c.notBefore) {
		err = w.tryStart(ctx, c, now)
	}
	if err != nil {
		w.log("Could not start a container properly", err)
	}
	switch {
	case c.proc != nil:
	case err != nil:
		c.wait("CreateContainerError", err.Error(), now.Add(retryConfig))
		w.wake(c.notBefore)
	case c.State.Terminated != nil: // it could not be executed
		w.wake(now)
	default:
		w.wake(c.notBefore)
	}
}

func (w *worker) tryStart(ctx context.Context, c *container, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	v := variables{client: w.n.client, pod: w.pod, nodeName: w.n.cfg.NodeName, ip: w.n.ip}
	if c.spec.RestartPolicy != nil {
		c.wait("CreateContainerError", "a restartPolicy of a container is not supported by the process node", now.Add(time.Hour))
		return nil
	}
	if !w.volumes {
		if err := v.writeVolumes(ctx, filepath.Join(w.dir, "volumes")); err != nil {
			c.wait("ContainerCreating", err.Error(), now.Add(retryConfig))
			return nil
		}
		w.volumes = true
	}
	if !c.findImage(w.n.cfg, now) {
		return nil
	}
	if len(c.spec.Command) == 0 {
		c.wait("CreateContainerError",
			"no command specified: the process node doesn't know an image's entrypoint, so command must be set", now.Add(time.Hour))
		return nil
	}
	cmd, err := c.prepare(ctx, v, filepath.Join(w.dir, "volumes"))
	if err != nil {
		c.wait("CreateContainerConfigError", err.Error(), now.Add(retryConfig))
		return nil
	}
	return c.start(w.n.starter, cmd, now, func(code int32) { w.exits <- exit{c, code, time.Now()} })
}

func (w *worker) exited(e exit) {
	e.c.exited(e.code, e.at)
	if err := e.c.save(); err != nil {
		w.log("Could not store the end of a container", err)
	}
}

func (w *worker) running() (n int) {
	for _, c := range slices.Concat(w.inits, w.main) {
		if c.proc != nil {
			n++
		}
	}
	return n
}

func (w *worker) signal(sig syscall.Signal) {
	for _, c := range slices.Concat(w.inits, w.main) {
		if c.proc != nil {
			killGroup(c.proc.pid, sig)
		}
	}
}

// halt ends all processes, kindly when there is time, and waits for them.
func (w *worker) halt(grace time.Duration) {
	if grace > 0 {
		w.signal(syscall.SIGTERM)
	}
	overdue := time.After(grace)
	for w.running() > 0 {
		select {
		case e := <-w.exits:
			w.exited(e)
		case <-overdue:
			w.signal(syscall.SIGKILL)
		}
	}
}

func (w *worker) log(message string, err error) {
	w.n.log.Error(message, "pod", w.pod.Namespace+"/"+w.pod.Name, "uid", w.pod.UID, "err", err)
}
