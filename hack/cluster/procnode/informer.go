// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// newInformer watches the Pods bound to a Node.
func newInformer(client kubernetes.Interface, nodeName string) cache.SharedIndexInformer {
	// The resync gives a Pod whose worker couldn't be made another chance.
	return coreinformers.NewFilteredPodInformer(client, metav1.NamespaceAll, time.Minute, cache.Indexers{},
		func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", nodeName).String()
		})
}

func (n *node) podDir(uid types.UID) string { return filepath.Join(n.cfg.Root, "pods", string(uid)) }

// killLeftovers kills what an earlier process node left running in Root.
func (n *node) killLeftovers() error {
	dirs, err := filepath.Glob(filepath.Join(n.cfg.Root, "pods", "*", "containers", "*"))
	if err != nil {
		return fmt.Errorf("looking for leftover processes: %w", err)
	}
	for _, dir := range dirs {
		uid := filepath.Base(filepath.Dir(filepath.Dir(dir)))
		if r, err := readRecord(dir); err == nil {
			killLeftover(r, uid)
		}
	}
	return nil
}

// runPods keeps one worker for each of the Node's Pods until ctx ends and all
// workers have.
func (n *node) runPods(ctx context.Context) {
	defer n.wg.Wait()
	registration, err := n.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { n.podSeen(ctx, obj.(*corev1.Pod)) },
		UpdateFunc: func(old, new any) {
			// A Pod deleted and made again while we weren't watching comes as an update.
			if uid := old.(*corev1.Pod).UID; uid != new.(*corev1.Pod).UID {
				n.podGone(uid)
			}
			n.podSeen(ctx, new.(*corev1.Pod))
		},
		DeleteFunc: func(obj any) {
			if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = unknown.Obj
			}
			n.podGone(obj.(*corev1.Pod).UID)
		},
	})
	if err != nil {
		n.log.Error("Could not watch Pods", "err", err)
		return
	}
	var running sync.WaitGroup
	defer running.Wait() // no handler runs after this
	running.Go(func() { n.informer.RunWithContext(ctx) })
	if cache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		n.removeUnknown()
		<-ctx.Done()
	}
}

// podSeen hands the newest object to the Pod's worker, which it makes if needed.
func (n *node) podSeen(ctx context.Context, pod *corev1.Pod) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if w := n.workers[pod.UID]; w != nil {
		w.update(pod)
		return
	}
	w, err := newWorker(n, pod)
	if err != nil {
		n.log.Error("Could not take on a Pod", "pod", pod.Namespace+"/"+pod.Name, "err", err)
		return
	}
	n.workers[pod.UID] = w
	n.wg.Go(func() { w.run(ctx) })
}

// podGone ends the worker of a Pod whose API object is gone.
func (n *node) podGone(uid types.UID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if w := n.workers[uid]; w != nil {
		close(w.gone)
		delete(n.workers, uid)
	}
}

// removeUnknown removes the directories of Pods that went while we were away.
func (n *node) removeUnknown() {
	dirs, err := os.ReadDir(filepath.Join(n.cfg.Root, "pods"))
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, dir := range dirs {
		if uid := types.UID(dir.Name()); n.workers[uid] == nil {
			err = errors.Join(err, os.RemoveAll(n.podDir(uid)))
		}
	}
	if err != nil {
		n.log.Error("Left Pods' directories behind", "err", err)
	}
}
