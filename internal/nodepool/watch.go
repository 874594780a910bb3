// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package nodepool

import (
	"context"
	"math"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/lookup"
	"batchcompute.dev/operator/internal/resolve"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// Watch returns the handler of the events of ComputeEnvs. It sets their sizes in the ledger, and calls wake
// for the jobs that name a ComputeEnv which was created or deleted.
func (p *Pool) Watch(wake func(job types.NamespacedName, priority int)) handler.EventHandler {
	wakeUsers := func(ctx context.Context, o client.Object) {
		jobs, err := lookup.UnfinishedJobs(ctx, p.Cache, o)
		if err != nil {
			// A handler of events can neither return an error nor be called again. The cache answers from memory and fails only
			// without its index, which is a mistake in the program. The jobs find the ComputeEnv with their next event.
			log.FromContext(ctx).Error(err, "Could not list the jobs of a ComputeEnv", "computeEnv", client.ObjectKeyFromObject(o))
		}
		for i := range jobs {
			wake(client.ObjectKeyFromObject(&jobs[i]), resolve.Priority(&jobs[i]))
		}
	}
	changed := func(o client.Object) {
		if env, ok := o.(*v1alpha1.ComputeEnv); ok {
			p.EnvChanged(env)
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, _ queue) {
			changed(e.Object)
			if !e.IsInInitialList { // else all jobs have events as well
				wakeUsers(ctx, e.Object)
			}
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, _ queue) { changed(e.ObjectNew) },
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, _ queue) {
			p.EnvDeleted(client.ObjectKeyFromObject(e.Object), e.Object.GetUID())
			wakeUsers(ctx, e.Object)
		},
	}
}

// EnvDeleted notes that a ComputeEnv was deleted: it has no nodes.
func (p *Pool) EnvDeleted(name types.NamespacedName, uid types.UID) {
	p.Ledger.Resize(name, Size{UID: uid, Generation: math.MaxInt64})
}

// EnvChanged sets the size of a ComputeEnv in the ledger.
func (p *Pool) EnvChanged(env *v1alpha1.ComputeEnv) {
	p.Ledger.Resize(client.ObjectKeyFromObject(env), Size{UID: env.UID, Generation: env.Generation, Nodes: resolve.ComputeNodeCount(env)})
}
