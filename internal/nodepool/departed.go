// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package nodepool

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/lookup"
	"batchcompute.dev/operator/internal/naming"
)

// recheckDeparted is when the Pods of departed jobs are counted again. They have events when they end,
// unless somebody removed their labels.
const recheckDeparted = 30 * time.Second

// departedJobs are the jobs of each name, by identifier, that have nodes and were deleted, or may have
// been: their Pods keep the nodes until they have ended.
type departedJobs struct {
	mu     sync.Mutex
	byName map[types.NamespacedName]map[string]bool
}

func (d *departedJobs) add(name types.NamespacedName, id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.byName[name] == nil {
		d.byName[name] = map[string]bool{}
	}
	d.byName[name][id] = true
}

func (d *departedJobs) remove(name types.NamespacedName, id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.byName[name], id)
	if len(d.byName[name]) == 0 {
		delete(d.byName, name)
	}
}

func (d *departedJobs) of(name types.NamespacedName) map[string]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.byName[name])
}

// Departed returns the names of the jobs that have nodes and were deleted, or may have been.
func (p *Pool) Departed() []types.NamespacedName {
	p.departed.mu.Lock()
	defer p.departed.mu.Unlock()
	var names []types.NamespacedName
	for name := range p.departed.byName {
		names = append(names, name)
	}
	return names
}

// RecheckAfter is when SettleDeparted is to be called again for the jobs of a name, though no event may ask
// for it; 0 if it need not be.
func (p *Pool) RecheckAfter(name types.NamespacedName) time.Duration {
	if len(p.departed.of(name)) > 0 {
		return recheckDeparted
	}
	return 0
}

// SettleDeparted counts the nodes of all jobs that had this name before the one with UID current; "": there
// is none now. previous is the UID of the job of this name that used nodes in the last pass; "" for none.
// pods are Pods of this name that are not the current job's.
func (p *Pool) SettleDeparted(ctx context.Context, name types.NamespacedName, current, previous types.UID, pods []*corev1.Pod) error {
	ids := p.departed.of(name)
	if ids == nil {
		ids = map[string]bool{}
	}
	if previous != "" && previous != current {
		ids[naming.JobID(previous)] = true
	}
	for _, pod := range pods {
		if p.HoldsNode(pod) {
			ids[pod.Labels[v1alpha1.LabelJobID]] = true
		}
	}
	if len(ids) == 0 {
		return nil
	}
	if id := naming.JobID(current); current != "" && ids[id] {
		delete(ids, id)
		p.departed.remove(name, id)
	}
	for id := range ids {
		if err := p.settleDeparted(ctx, name, id); err != nil {
			return err
		}
	}
	return nil
}

// settleDeparted counts the Pods that may still run of the deleted job with this identifier.
func (p *Pool) settleDeparted(ctx context.Context, name types.NamespacedName, id string) error {
	var pods corev1.PodList
	if err := p.Live.List(ctx, &pods, client.InNamespace(name.Namespace), client.MatchingLabels{v1alpha1.LabelJobID: id, v1alpha1.LabelTracked: "true"}); err != nil {
		return fmt.Errorf("listing the pods of a deleted job: %w", err)
	}
	j := Job{Name: name}
	j.UID = types.UID(id)
	claims, total := p.Ledger.Claims(j.UID), 0
	for env := range claims {
		claims[env] = 0
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if !p.HoldsNode(pod) {
			continue
		}
		env, err := lookup.Env(ctx, p.Cache, name.Namespace, pod.Labels[v1alpha1.LabelEnvID])
		if err != nil {
			return err
		}
		if env != nil {
			claims[client.ObjectKeyFromObject(env)]++
			total++
		}
	}
	for env, n := range claims {
		p.Ledger.Settle(env, j, n, 0)
	}
	if total > 0 {
		p.departed.add(name, id)
	} else {
		p.departed.remove(name, id)
	}
	return nil
}
