// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalogfile"
	"batchcompute.dev/operator/internal/metrics"
	"batchcompute.dev/operator/internal/sanitize"
)

// The catalogue's ConfigMap is mounted as a file. Before an Event is emitted the ConfigMap is looked up,
// so that the Event refers to it by its UID.
//
// +kubebuilder:rbac:groups="",namespace=system,resources=configmaps,resourceNames=batchcompute-catalog,verbs=get

// followCatalog has the manager follow the catalogue's file, and tell of its changes.
func followCatalog(mgr ctrl.Manager, file *catalogfile.File, namespace string) error {
	counted, err := metrics.NewCatalog(ctrlmetrics.Registry)
	if err != nil {
		return fmt.Errorf("registering the metrics: %w", err)
	}
	changes := &catalogEvents{reader: mgr.GetAPIReader(), recorder: mgr.GetEventRecorder("catalog"), namespace: namespace}
	file.OnReload(func(ctx context.Context, err error) {
		counted.Reloaded(err)
		changes.emit(ctx, err)
	})
	if err := mgr.Add(file); err != nil {
		return fmt.Errorf("following the catalogue: %w", err)
	}
	return nil
}

// catalogEvents emits an Event of the catalogue's ConfigMap for each change.
type catalogEvents struct {
	reader    client.Reader
	recorder  events.EventRecorder
	namespace string
}

// maxNote is how long an event's text may be, in bytes; the API server takes 1,024.
const maxNote = 1000

func (n *catalogEvents) emit(ctx context.Context, err error) {
	cm := n.configMap(ctx)
	if err != nil {
		n.recorder.Eventf(cm, nil, corev1.EventTypeWarning, v1alpha1.ReasonCatalogInvalid, "Reload", "%s",
			sanitize.Text("The last good catalogue stays in use. "+strings.ReplaceAll(err.Error(), "\n", "; "), maxNote))
		return
	}
	n.recorder.Eventf(cm, nil, corev1.EventTypeNormal, v1alpha1.ReasonCatalogLoaded, "Reload", "The new catalogue is in use")
}

// configMap refers to the ConfigMap. Its UID is what kubectl describe finds events by, and
// its version keeps the recorder from counting up the event of another content. A manager
// beside the cluster has a file and no ConfigMap; its events go by the name alone.
func (n *catalogEvents) configMap(ctx context.Context) *corev1.ObjectReference {
	ref := &corev1.ObjectReference{APIVersion: "v1", Kind: "ConfigMap", Namespace: n.namespace, Name: catalogName}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	cm := &corev1.ConfigMap{}
	switch err := n.reader.Get(ctx, client.ObjectKey{Namespace: ref.Namespace, Name: ref.Name}, cm); {
	case err == nil:
		ref.UID, ref.ResourceVersion = cm.UID, cm.ResourceVersion
	case client.IgnoreNotFound(err) != nil:
		klog.FromContext(ctx).Error(err, "Could not read the catalogue's ConfigMap", "configMap", klog.KRef(ref.Namespace, ref.Name))
	}
	return ref
}
