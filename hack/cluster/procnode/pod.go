// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
)

const (
	retryEvery  = time.Second // after a request that failed
	minPodGrace = 1           // seconds, as in the kubelet
)

// pod runs one Pod.
type pod struct {
	n   *node
	obj *corev1.Pod // as first seen; read-only
	dir string      // Root/pods/UID

	// The steps of its end; each brings those below it.
	alive    context.Context // ends when the object is gone or the node ends
	killing  context.Context // SIGKILL
	stopping context.Context // SIGTERM, and nothing is started any more

	gone, kill, stop context.CancelFunc // for these three

	changed chan struct{} // status is to be reported

	mu     sync.Mutex
	status corev1.PodStatus // the fields that are ours
}

// newPod takes a Pod on as the API shows it, which may be half-way through.
func newPod(ctx context.Context, n *node, obj *corev1.Pod) *pod {
	p := &pod{
		n: n, obj: obj, dir: filepath.Join(n.cfg.Root, "pods", string(obj.UID)),
		changed: make(chan struct{}, 1), status: newStatus(obj, n.ip),
	}
	p.alive, p.gone = context.WithCancel(ctx)
	p.killing, p.kill = context.WithCancel(p.alive)
	p.stopping, p.stop = context.WithCancel(p.killing)
	return p
}

// end gives the Pod's processes some seconds to end; called again, the shorter
// time counts.
func (p *pod) end(seconds int64) {
	p.stop()
	time.AfterFunc(time.Duration(max(seconds, minPodGrace))*time.Second, p.kill)
}

// run returns when the object is gone or ctx, the node's, has ended, and with
// either all processes.
func (p *pod) run(ctx context.Context) {
	ended := make(chan struct{})
	go func() {
		p.runContainers()
		close(ended)
	}()
	p.report()
	<-p.alive.Done()
	<-ended
	if ctx.Err() != nil {
		return // what the next process node finds tells it what was started
	}
	if err := os.RemoveAll(p.dir); err != nil {
		p.n.log.Error("Left a Pod's directory behind", "pod", p.obj.Name, "err", err)
	}
}

// report stores the status at each change until it is terminal. When the Pod is
// deleted, its object is then told to go; finalizers may keep it all the same.
func (p *pod) report() {
	for over := isTerminal(p.obj.Status.Phase); !over; {
		select {
		case <-p.changed:
		case <-p.alive.Done():
			return
		}
		p.insist("Could not report a Pod", func(ctx context.Context) (err error) {
			over, err = p.writeStatus(ctx)
			return err
		})
	}
	select {
	case <-p.stopping.Done():
	case <-p.alive.Done():
		return
	}
	now := metav1.NewDeleteOptions(0)
	now.Preconditions = metav1.NewUIDPreconditions(string(p.obj.UID))
	p.insist("Could not release a Pod", func(ctx context.Context) error {
		return p.n.client.CoreV1().Pods(p.obj.Namespace).Delete(ctx, p.obj.Name, *now)
	})
}

// insist repeats a request until it succeeds, or the object is gone.
func (p *pod) insist(failure string, request func(context.Context) error) {
	_ = wait.PollUntilContextCancel(p.alive, retryEvery, true, func(ctx context.Context) (bool, error) {
		err := request(ctx)
		if err != nil && ctx.Err() == nil {
			p.n.log.Error(failure, "pod", p.obj.Namespace+"/"+p.obj.Name, "err", err)
		}
		return err == nil, nil
	})
}

// writeStatus stores the status and returns whether it was a terminal one. The
// UID makes the API server refuse it for another Pod of the same name.
func (p *pod) writeStatus(ctx context.Context) (bool, error) {
	p.mu.Lock()
	phase := p.status.Phase
	data, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"uid": p.obj.UID}, "status": p.status,
	})
	p.mu.Unlock()
	if err == nil {
		_, err = p.n.client.CoreV1().Pods(p.obj.Namespace).
			Patch(ctx, p.obj.Name, types.ApplyPatchType, data, applyOptions, "status")
	}
	return isTerminal(phase), err
}

// update changes the status and has it reported.
func (p *pod) update(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	summarize(&p.status)
	select {
	case p.changed <- struct{}{}:
	default: // it will be anyway
	}
}

// container returns the status of a container, false for an unknown one.
func (p *pod) container(name string) (corev1.ContainerStatus, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range slices.Concat(p.status.InitContainerStatuses, p.status.ContainerStatuses) {
		if s.Name == name {
			return s, true
		}
	}
	return corev1.ContainerStatus{}, false
}
