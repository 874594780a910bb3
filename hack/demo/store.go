// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/minio/minio-go/v7"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
)

// dataSamples are the samples that need the store beside the cluster, or the volume that the demo makes.
var dataSamples = []string{"data", "package", "pvc"}

// bucket and packageKey are where the samples have their data, and the package.
const (
	bucket     = "demo-1250000000"
	packageKey = "packages/hello.tgz"
)

// hello is the program in the package.
const hello = "#!/bin/sh\necho \"hello $1 from $(ls)\"\n"

// prepareData gives the samples with data their store and their volume.
func (d *demo) prepareData(ctx context.Context) error {
	archive, err := pack("hello.sh", hello)
	if err != nil {
		return err
	}
	if err := d.cluster.Store.Put(ctx, bucket, packageKey, archive); err != nil {
		return err
	}
	// The keys are new each time.
	secret := d.cluster.Store.Secret(namespace)
	if err := client.IgnoreNotFound(d.client.Delete(ctx, secret)); err != nil {
		return fmt.Errorf("deleting the keys of an earlier run: %w", err)
	}
	if err := d.client.Create(ctx, d.cluster.Store.Secret(namespace)); err != nil {
		return fmt.Errorf("creating the Secret with the keys: %w", err)
	}
	return d.addVolume(ctx)
}

// pack returns a .tgz archive with one program.
func pack(name, text string) ([]byte, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	t := tar.NewWriter(z)
	err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(text))})
	if err == nil {
		_, err = t.Write([]byte(text))
	}
	if err := errors.Join(err, t.Close(), z.Close()); err != nil {
		return nil, fmt.Errorf("packing %s: %w", name, err)
	}
	return out.Bytes(), nil
}

// addVolume makes the PersistentVolume that the claim of the sample is bound to: the local cluster has no provisioner.
func (d *demo) addVolume(ctx context.Context) error {
	dir := filepath.Join(filepath.Dir(d.cluster.Kubeconfig), "volume")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the directory of a volume: %w", err)
	}
	if err := os.Chmod(dir, 0o777); err != nil { // commands run as a user that this machine does not have
		return fmt.Errorf("making the directory of a volume: %w", err)
	}
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "demo"}, Spec: corev1.PersistentVolumeSpec{
		Capacity:                      corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
		AccessModes:                   []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
		PersistentVolumeSource:        corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: dir}},
		ClaimRef:                      &corev1.ObjectReference{Namespace: namespace, Name: "results"},
	}}
	err := d.client.Create(ctx, volume)
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	// It still names the claim of an earlier run.
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"claimRef":{"uid":null,"resourceVersion":null}}}`))
	if err := d.client.Patch(ctx, volume, patch); err != nil {
		return fmt.Errorf("releasing the volume: %w", err)
	}
	return nil
}

// showObjects prints what a job has stored, and the log of one of its instances.
func (d *demo) showObjects(ctx context.Context, job *v1alpha1.BatchJob) error {
	log := ""
	for o := range d.cluster.Store.ListObjects(ctx, bucket, minio.ListObjectsOptions{Prefix: job.Status.JobID + "/", Recursive: true}) {
		if o.Err != nil {
			return fmt.Errorf("listing the objects of the store: %w", o.Err)
		}
		fmt.Fprintf(d.out, "%6d bytes  %s/%s\n", o.Size, bucket, o.Key)
		if strings.HasPrefix(path.Base(o.Key), "stdout.") && log == "" {
			log = o.Key
		}
	}
	if log == "" {
		return fmt.Errorf("job %s has stored no log", job.Name)
	}
	text, err := d.cluster.Store.Get(ctx, bucket, log)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "\n%s has:\n%s", path.Base(log), text)
	return nil
}
