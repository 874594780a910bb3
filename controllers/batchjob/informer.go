// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"

	"batchcompute.dev/operator/api/v1alpha1"
)

// listedAtOnce is how many BatchJobs are read in one list: a few dozen MiB at most.
const listedAtOnce = 8

// NewInformer makes the informers of the manager's cache. An API server that can streams the objects that
// there are to an informer that begins, one by one. Any other sends a list, of which all is in memory at
// once: of BatchJobs it is asked for a few at a time, and each is stripped as it comes.
func NewInformer(lw toolscache.ListerWatcher, kind runtime.Object, resync time.Duration, indexers toolscache.Indexers) toolscache.SharedIndexInformer {
	if _, ok := kind.(*v1alpha1.BatchJob); ok {
		lw = inPages(toolscache.ToListerWatcherWithContext(lw))
	}
	return toolscache.NewSharedIndexInformer(lw, kind, resync, indexers)
}

// inPages lists BatchJobs a few at a time.
func inPages(lw toolscache.ListerWatcherWithContext) toolscache.ListerWatcher {
	return &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			// From its own cache an API server sends all at once, whatever the limit. A page that follows
			// another one is of the same version as that.
			if opts.Limit = listedAtOnce; opts.Continue == "" {
				opts.ResourceVersion, opts.ResourceVersionMatch = "", ""
			}
			all := &v1alpha1.BatchJobList{}
			for {
				out, err := lw.ListWithContext(ctx, opts)
				if err != nil {
					return nil, err
				}
				page, ok := out.(*v1alpha1.BatchJobList)
				if !ok {
					return nil, fmt.Errorf("listing BatchJobs: the answer is a %T", out)
				}
				for i := range page.Items {
					stripped, err := stripJob(&page.Items[i])
					if err != nil {
						return nil, err
					}
					if job, ok := stripped.(*v1alpha1.BatchJob); ok {
						all.Items = append(all.Items, *job)
					}
				}
				all.ListMeta = page.ListMeta
				if opts.Continue = page.Continue; opts.Continue == "" {
					return all, nil
				}
			}
		},
		WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			return lw.WatchWithContext(ctx, opts)
		},
	}
}
