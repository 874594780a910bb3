// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package uninstall takes off a cluster's objects what only a running operator would: the finalizers
// of Pods, BatchJobs and ComputeEnvs, without which they, and their namespaces, cannot be deleted, and the
// ConfigMaps of tombstones. It is for an operator that was removed before its jobs were.
package uninstall

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
)

// As a Job with the manager's account: what the manager may do for itself, and to list and delete the
// one ConfigMap in all namespaces. A list by this name needs no right to see others.
//
// +kubebuilder:rbac:groups="",resources=configmaps,resourceNames=batchcompute-tombstones,verbs=list;delete

// LeaseName is the name of the manager's lease.
const LeaseName = "manager.batchcompute.dev"

// Bounds of the work.
const (
	pageSize = 500
	workers  = 16
	// conflictTries is how often an object may change under a write.
	conflictTries = 5
	// progressEvery is after how many objects the progress is told.
	progressEvery = 1000
)

// Options say what to release.
type Options struct {
	// Namespace is the only one that is looked at; empty means all.
	Namespace string
	// OperatorNamespace is that of the manager's lease.
	OperatorNamespace string
	// DryRun changes nothing and tells what would be done.
	DryRun bool
	// Force does not look for a manager that runs.
	Force bool
}

// Summary counts what was done, or would be.
type Summary struct {
	// Pods, BatchJobs and ComputeEnvs lost our finalizers, ConfigMaps were deleted. Failed are those of all
	// kinds with which that did not succeed.
	Pods, BatchJobs, ComputeEnvs, ConfigMaps, Failed int
}

// RunningError says that a manager runs, whose finalizers these are.
type RunningError struct{ Holder string }

func (e *RunningError) Error() string {
	return fmt.Sprintf("the operator runs (%s holds its lease), and removes its finalizers itself when jobs are deleted: "+
		"delete the BatchJobs and ComputeEnvs, or stop the operator first, as with kubectl scale deployment --replicas=0", e.Holder)
}

// Run releases what Options say. Each object that was changed is a line of out, and the progress one of
// progress. The error joins all that went wrong; what could be released is. It may be repeated.
func Run(ctx context.Context, c client.Client, o Options, out, progress io.Writer) (Summary, error) {
	if !o.Force && !o.DryRun {
		if err := checkStopped(ctx, c, o.OperatorNamespace, progress); err != nil {
			return Summary{}, err
		}
	}
	r := &run{Client: c, options: o, out: out, progress: progress}
	var s Summary
	var errs []error
	for _, kind := range []struct {
		count   *int
		list    func(context.Context) ([]metav1.PartialObjectMetadata, error)
		release func(context.Context, *metav1.PartialObjectMetadata) error
		done    string
	}{
		{&s.Pods, r.pods, r.releasePod, "finalizer removed"},
		{&s.BatchJobs, r.holding("BatchJobList"), r.releaseObject, "finalizer removed"},
		{&s.ComputeEnvs, r.holding("ComputeEnvList"), r.releaseObject, "finalizer removed"},
		{&s.ConfigMaps, r.tombstones, r.deleteTombstones, "deleted"},
	} {
		objects, err := kind.list(ctx)
		if err != nil {
			errs = append(errs, err)
			s.Failed++
			continue
		}
		done, failed := r.each(ctx, objects, kind.release, kind.done)
		*kind.count = done
		s.Failed += len(failed)
		errs = append(errs, failed...)
	}
	return s, errors.Join(errs...)
}

// run is one call of Run.
type run struct {
	client.Client
	options       Options
	out, progress io.Writer
}

// checkStopped returns a RunningError when a manager renews its lease. It compares the lease with itself
// some time later, so that no clock has to agree with another.
func checkStopped(ctx context.Context, c client.Client, namespace string, progress io.Writer) error {
	read := func() (holder, version string, wait time.Duration, err error) {
		lease := &coordinationv1.Lease{}
		err = c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: LeaseName}, lease)
		switch {
		case apierrors.IsNotFound(err):
			return "", "", 0, nil
		case err != nil:
			return "", "", 0, fmt.Errorf("looking whether the operator runs (--force leaves that out): %w", err)
		}
		wait = 15 * time.Second
		if s := lease.Spec.LeaseDurationSeconds; s != nil {
			wait = time.Duration(min(max(*s, 1), 60)) * time.Second
		}
		if h := lease.Spec.HolderIdentity; h != nil {
			holder = *h
		}
		return holder, lease.ResourceVersion, wait, nil
	}
	holder, version, wait, err := read()
	if err != nil || holder == "" {
		return err
	}
	fmt.Fprintf(progress, "waiting for up to %s to see whether the operator runs: %s held its lease\n", wait+time.Second, holder)
	for end := time.Now().Add(wait + time.Second); time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
		now, changed, _, err := read()
		switch {
		case err != nil || now == "":
			return err
		case changed != version:
			return &RunningError{Holder: now}
		}
	}
	return nil
}

// list returns the metadata of all objects of a kind for which is holds, read in pages.
func (r *run) list(ctx context.Context, kind schema.GroupVersionKind, is func(*metav1.PartialObjectMetadata) bool, opts ...client.ListOption) ([]metav1.PartialObjectMetadata, error) {
	var out []metav1.PartialObjectMetadata
	token := ""
	for {
		var page metav1.PartialObjectMetadataList
		page.SetGroupVersionKind(kind)
		err := r.List(ctx, &page, append(opts, client.InNamespace(r.options.Namespace), client.Limit(pageSize), client.Continue(token))...)
		if apierrors.IsResourceExpired(err) && token != "" {
			token, out = "", nil // it took too long: from the beginning
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("listing objects of kind %s: %w", kind.Kind, err)
		}
		for i := range page.Items {
			if is(&page.Items[i]) {
				item := page.Items[i]
				item.SetGroupVersionKind(schema.GroupVersionKind{Group: kind.Group, Version: kind.Version, Kind: kind.Kind[:len(kind.Kind)-len("List")]})
				out = append(out, item)
			}
		}
		if token = page.Continue; token == "" {
			return out, nil
		}
	}
}

// pods are those that have our finalizer or are tracked. Labels can be edited, so all are looked at.
func (r *run) pods(ctx context.Context) ([]metav1.PartialObjectMetadata, error) {
	return r.list(ctx, corev1.SchemeGroupVersion.WithKind("PodList"), func(o *metav1.PartialObjectMetadata) bool {
		return slices.Contains(o.Finalizers, v1alpha1.FinalizerTracking) || o.Labels[v1alpha1.LabelTracked] != ""
	})
}

// holding lists the objects of a kind of our API that have our finalizers; none where there is no such kind any more.
func (r *run) holding(kind string) func(context.Context) ([]metav1.PartialObjectMetadata, error) {
	return func(ctx context.Context) ([]metav1.PartialObjectMetadata, error) {
		out, err := r.list(ctx, v1alpha1.GroupVersion.WithKind(kind), func(o *metav1.PartialObjectMetadata) bool {
			return slices.ContainsFunc(o.Finalizers, isOurs)
		})
		if isMissing(err) {
			return nil, nil
		}
		return out, err
	}
}

// isOurs reports whether a finalizer of a BatchJob or a ComputeEnv is one that only a running operator removes.
func isOurs(finalizer string) bool {
	return finalizer == v1alpha1.FinalizerInUse || finalizer == v1alpha1.FinalizerNotifications
}

// isMissing reports whether an error says that the cluster does not have a kind.
func isMissing(err error) bool { return meta.IsNoMatchError(err) || apierrors.IsNotFound(err) }

func (r *run) tombstones(ctx context.Context) ([]metav1.PartialObjectMetadata, error) {
	return r.list(ctx, corev1.SchemeGroupVersion.WithKind("ConfigMapList"), func(*metav1.PartialObjectMetadata) bool { return true },
		client.MatchingFields{metav1.ObjectNameField: v1alpha1.TombstonesName})
}

// each does so with all objects, several at once. It returns how many that were, and what went wrong
// with others.
func (r *run) each(ctx context.Context, objects []metav1.PartialObjectMetadata, do func(context.Context, *metav1.PartialObjectMetadata) error, did string) (int, []error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var errs []error
	done, next := 0, make(chan *metav1.PartialObjectMetadata)
	for range workers {
		wg.Go(func() {
			for o := range next {
				var err error
				if !r.options.DryRun {
					err = client.IgnoreNotFound(do(ctx, o))
				}
				mu.Lock()
				name := fmt.Sprintf("%s %s/%s", o.Kind, o.Namespace, o.Name)
				switch {
				case err != nil:
					errs = append(errs, fmt.Errorf("%s: %w", name, err))
				case r.options.DryRun:
					done++
					fmt.Fprintf(r.out, "%s: %s (dry run)\n", name, did)
				default:
					done++
					fmt.Fprintf(r.out, "%s: %s\n", name, did)
				}
				if n := done + len(errs); n%progressEvery == 0 {
					fmt.Fprintf(r.progress, "%d of %d objects of kind %s\n", n, len(objects), o.Kind)
				}
				mu.Unlock()
			}
		})
	}
	for i := range objects {
		if ctx.Err() != nil {
			errs = append(errs, ctx.Err())
			break
		}
		next <- &objects[i]
	}
	close(next)
	wg.Wait()
	return done, errs
}

// releasePod removes finalizer and label from a Pod, if it is still the one that was listed.
func (r *run) releasePod(ctx context.Context, pod *metav1.PartialObjectMetadata) error {
	return r.patch(ctx, pod, types.StrategicMergePatchType, map[string]any{
		"uid":                                 pod.UID,
		"labels":                              map[string]any{v1alpha1.LabelTracked: nil},
		"$deleteFromPrimitiveList/finalizers": []string{v1alpha1.FinalizerTracking},
	})
}

// releaseObject removes our finalizers from a BatchJob or a ComputeEnv. Its finalizers are replaced as a whole, so its
// version must still be the one that was read.
func (r *run) releaseObject(ctx context.Context, o *metav1.PartialObjectMetadata) error {
	for try := 1; ; try++ {
		left := slices.DeleteFunc(slices.Clone(o.Finalizers), isOurs)
		if len(left) == len(o.Finalizers) {
			return nil
		}
		err := r.patch(ctx, o, types.MergePatchType, map[string]any{"resourceVersion": o.ResourceVersion, "finalizers": left})
		if !apierrors.IsConflict(err) || try == conflictTries {
			return err
		}
		if err := r.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
	}
}

func (r *run) patch(ctx context.Context, o *metav1.PartialObjectMetadata, kind types.PatchType, metadata map[string]any) error {
	body, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		return fmt.Errorf("encoding a patch: %w", err)
	}
	target := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name}}
	target.SetGroupVersionKind(o.GroupVersionKind())
	return r.Patch(ctx, target, client.RawPatch(kind, body))
}

// deleteTombstones deletes a ConfigMap.
func (r *run) deleteTombstones(ctx context.Context, o *metav1.PartialObjectMetadata) error {
	return r.Delete(ctx, o, client.Preconditions{UID: &o.UID})
}
