// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
)

// kube is how the cluster is spoken to.
type kube = client.WithWatch

// watchAll enters every event of jobs and Pods in the books, until ctx ends. It returns an
// error when an event may have been missed: then the books are worth nothing.
func (s *soak) watchAll(ctx context.Context) error {
	errs := make(chan error, 2)
	go func() {
		errs <- follow(ctx, s.kube, &v1alpha1.BatchJobList{}, func(e watch.Event) {
			s.books.Job(e.Type, e.Object.(*v1alpha1.BatchJob))
		})
	}()
	go func() {
		errs <- follow(ctx, s.kube, &corev1.PodList{}, func(e watch.Event) {
			s.books.Pod(e.Type, e.Object.(*corev1.Pod))
		})
	}()
	if err := <-errs; err != nil {
		return err
	}
	return <-errs
}

// follow calls see with every event of the objects in the namespace, which must be empty
// when it begins. A watch that the server ends is taken up where it was.
func follow(ctx context.Context, kube kube, list client.ObjectList, see func(watch.Event)) error {
	if err := kube.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return fmt.Errorf("listing %T: %w", list, err)
	}
	version := list.GetResourceVersion()
	for ctx.Err() == nil {
		w, err := kube.Watch(ctx, list, &client.ListOptions{Namespace: namespace,
			Raw: &metav1.ListOptions{ResourceVersion: version, AllowWatchBookmarks: true}})
		if err != nil {
			if ctx.Err() == nil {
				time.Sleep(time.Second)
			}
			continue
		}
		version, err = drain(w, version, see)
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("watching %T: %w", list, err)
		}
	}
	return nil
}

// drain reads a watch to its end and returns the resource version from which the next one must resume.
func drain(w watch.Interface, version string, see func(watch.Event)) (string, error) {
	defer w.Stop()
	for e := range w.ResultChan() {
		if e.Type == watch.Error {
			return version, apierrors.FromObject(e.Object)
		}
		obj, ok := e.Object.(client.Object)
		if !ok {
			return version, fmt.Errorf("it has a %T", e.Object)
		}
		version = obj.GetResourceVersion()
		if e.Type != watch.Bookmark {
			see(e)
		}
	}
	return version, nil
}
