// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/record"
)

// leaseLock returns the lock of a manager that runs in a Pod, nil for any other.
//
// The holder's identity is the Pod's name, so a manager whose process was killed still holds the lease
// when the kubelet has started it again, and leads at once. With an identity that is generated at each
// start it would have to wait for its own old lease to expire, and a manager that is killed more often
// than that, for example for its memory limit, would never lead again. No two processes have the same
// identity at once: the kubelet starts a container only after the one before has ended.
func leaseLock(cfg *rest.Config, namespace string) (resourcelock.Interface, error) {
	pod := os.Getenv("POD_NAME")
	if pod == "" {
		return nil, nil
	}
	cfg = rest.AddUserAgent(rest.CopyConfig(cfg), "leader-election")
	cfg.Timeout = 5 * time.Second // one request that hangs is not to lose the lease
	leases, err := coordinationv1.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("making a client for the lease: %w", err)
	}
	events, err := typedcorev1.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("making a client for the events of the lease: %w", err)
	}
	broadcaster := record.NewBroadcaster()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: events.Events(namespace)})
	return resourcelock.New(resourcelock.LeasesResourceLock, namespace, leaseName, events, leases, resourcelock.ResourceLockConfig{
		Identity:      pod,
		EventRecorder: broadcaster.NewRecorder(clientgoscheme.Scheme, corev1.EventSource{Component: pod}),
	})
}
