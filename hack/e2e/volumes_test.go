//go:build e2e

// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
)

// TestVolumes runs the samples of claims and Secrets, and Pods with what else comes from Kubernetes.
func TestVolumes(t *testing.T) {
	if cluster.NodeKind == "process" {
		t.Skip("left out: the process node mounts no volumes")
	}
	t.Parallel()
	s := begin(t)
	s.addVolume()
	for name, want := range map[string]map[string]string{
		"pvc":    {"collect": "part 0\npart 1\npart 2\n"},
		"secret": {"task": "the password has 14 characters\n"},
	} {
		if out, err := s.kubectl(s.sample(name), "apply", "-f", "-"); err != nil {
			t.Fatalf("applying %s: %v\n%s", name, err, out)
		}
		s.prints(name, want)
	}
	s.apply(job("parts", `
tasks:
- taskName: image
  application: {deliveryForm: LOCAL, command: "ls /image/bin/sh; echo x >/image/x || echo read-only"}
  computeEnv: {kubernetes: {volumes: [{name: a, image: {reference: "busybox:1.37", pullPolicy: IfNotPresent}}], volumeMounts: [{name: a, mountPath: /image}]}}
- taskName: token
  application: {deliveryForm: LOCAL, command: "cd /var/run/secrets/kubernetes.io/serviceaccount && ls && test -s token"}
  computeEnv: {kubernetes: {serviceAccountToken: {}}}
- taskName: names
  application: {deliveryForm: LOCAL, command: "grep -o license.example.com /etc/hosts; cat /etc/resolv.conf; echo $URL"}
  computeEnv:
    kubernetes:
      hostAliases: [{ip: 10.0.0.9, hostnames: [license.example.com]}]
      dnsPolicy: None
      dnsConfig: {nameservers: [10.0.0.53]}
      env: [{name: P, valueFrom: {secretKeyRef: {name: database, key: password}}}, {name: URL, value: "$(P)@$(BATCH_TASK_NAME)/$(DB_password)"}]
      envFrom: [{secretRef: {name: database}, prefix: DB_}]
`))
	s.prints("parts", map[string]string{
		"image": "/image/bin/sh\nread-only\n", "token": "ca.crt\nnamespace\ntoken\n",
		"names": "license.example.com\nnameserver 10.0.0.53\nnot-a-real-one@names/not-a-real-one\n",
	})
	s.released()
}

// prints waits for the end of a job and checks the logs of its tasks, without what goes to stderr.
func (s *story) prints(name string, want map[string]string) {
	s.Helper()
	id := s.end(name, v1alpha1.JobSucceed).Status.JobID
	for task, text := range want {
		for _, pod := range s.pods(task) {
			if pod.Labels[v1alpha1.LabelJobID] != id {
				continue
			}
			var got strings.Builder
			for line := range strings.Lines(s.log(pod)) {
				if !strings.HasPrefix(line, "/bin/sh: ") {
					got.WriteString(line)
				}
			}
			if got.String() != text {
				s.Errorf("%s of %s prints %q, want %q", task, name, got.String(), text)
			}
		}
	}
}

// addVolume gives a local cluster, which has no provisioner, a PersistentVolume in a directory of this machine.
func (s *story) addVolume() {
	s.Helper()
	if target.Cluster != "local" {
		return
	}
	dir, err := os.MkdirTemp("/var/tmp", "e2e-volume-")
	if err != nil {
		s.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil { // commands run as a user that this machine does not have
		s.Fatal(err)
	}
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}, Spec: corev1.PersistentVolumeSpec{
		Capacity:               corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
		AccessModes:            []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: dir}},
		ClaimRef:               &corev1.ObjectReference{Namespace: s.namespace, Name: "results"},
	}}
	if err := kube.Create(s.ctx, pv); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := kube.Delete(context.Background(), pv); err != nil {
			s.Errorf("deleting the volume: %v", err)
		}
		if err := os.RemoveAll(dir); err != nil {
			s.Errorf("removing the volume's directory: %v", err)
		}
	})
}

// TestMissingObjects: a job says what it waits for whose Secret, claim or device does not exist, and runs when it
// does.
func TestMissingObjects(t *testing.T) {
	if cluster.NodeKind == "process" {
		t.Skip("left out: the process node mounts no volumes")
	}
	t.Parallel()
	s := begin(t)
	s.apply(job("missing", `
tasks:
- taskName: volume
  application: {deliveryForm: LOCAL, command: "true"}
  computeEnv: {kubernetes: {volumes: [{name: a, secret: {secretName: later}}], volumeMounts: [{name: a, mountPath: /a}]}}
- taskName: variable
  application: {deliveryForm: LOCAL, command: "true"}
  computeEnv: {kubernetes: {env: [{name: A, valueFrom: {secretKeyRef: {name: later, key: k}}}]}}
`))
	s.apply(job("never", `
tasks:
- taskName: claim
  application: {deliveryForm: LOCAL, command: "true"}
  computeEnv: {kubernetes: {volumes: [{name: a, persistentVolumeClaim: {claimName: none}}], volumeMounts: [{name: a, mountPath: /a}]}}
- taskName: device
  application: {deliveryForm: LOCAL, command: "true"}
  computeEnv: {kubernetes: {resourceClaims: [{name: a, resourceClaimName: none}]}}
`))
	says := func(name, taskName, reason, text string) {
		s.eventually(time.Minute, taskName+" to say what it waits for", func() error {
			if st := task(s.get(name), taskName); st.Reason != reason || !strings.Contains(st.Message, text) {
				return fmt.Errorf("it says %s: %s", st.Reason, st.Message)
			}
			return nil
		})
	}
	says("missing", "volume", v1alpha1.ReasonContainerCreating, `kubectl describe pod says what fails of: Secret "later"`)
	says("missing", "variable", v1alpha1.ReasonContainerConfig, `create what is missing, or make it optional: secret "later" not found`)
	says("never", "claim", v1alpha1.ReasonUnschedulable, `create the PersistentVolumeClaim, or change computeEnv.kubernetes.volumes: `)
	says("never", "device", v1alpha1.ReasonNoScheduler, `it waits until its claims exist: ResourceClaim "none"`)
	s.must("create", "secret", "generic", "later", "--from-literal=k=v")
	s.end("missing", v1alpha1.JobSucceed)
	s.must("patch", "batchjob", "never", "--type=merge", "-p", `{"spec":{"terminate":true}}`)
	s.end("never", v1alpha1.JobFailed)
	s.released()
}
