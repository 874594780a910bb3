// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package uninstall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil"
	"batchcompute.dev/operator/internal/testutil/controlplane"
)

func TestMain(m *testing.M) { os.Exit(controlplane.Main(m)) }

// leftover makes in a namespace what an operator leaves that was removed with jobs running: n Pods that
// are held, one that is not ours, a ComputeEnv in use, a BatchJob and a ComputeEnv with events to be sent, and tombstones.
func leftover(t *testing.T, p *controlplane.ControlPlane, ns string, n int) {
	t.Helper()
	var objects []client.Object
	for i := range n + 1 {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("film-render-%d", i), Namespace: ns, Finalizers: []string{v1alpha1.FinalizerTracking, "example.com/other"},
			Labels: map[string]string{v1alpha1.LabelTracked: "true", "mine": "stays"},
		}}
		if i == 0 { // somebody took the label off, and all labels with it
			pod.Labels = nil
		}
		if i == n {
			pod.Name, pod.Labels, pod.Finalizers = "other", map[string]string{"mine": "stays"}, []string{"example.com/other"}
		}
		pod.Spec.Containers = []corev1.Container{{Name: "task", Image: "a"}}
		objects = append(objects, pod)
	}
	pool := &v1alpha1.ComputeEnv{ObjectMeta: metav1.ObjectMeta{Name: "pool", Namespace: ns, Finalizers: []string{"example.com/other", v1alpha1.FinalizerInUse}}}
	pool.Spec.EnvName, pool.Spec.Placement.Zone = "pool", "zone-a"
	pool.Finalizers = append(pool.Finalizers, v1alpha1.FinalizerNotifications)
	film := testutil.Job("film").Task("render").New(ns)
	film.Finalizers = []string{v1alpha1.FinalizerNotifications, "example.com/other"}
	free := testutil.Job("free").Task("render").New(ns)
	free.Finalizers = []string{"example.com/other"}
	objects = append(objects, pool, film, free,
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.TombstonesName, Namespace: ns}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "mine", Namespace: ns}})
	for _, o := range objects {
		if err := p.Create(context.Background(), o); err != nil {
			t.Fatal(err)
		}
	}
}

// left counts what is left of the operator in a namespace: finalizers and labels, and tombstones.
func left(t *testing.T, p *controlplane.ControlPlane, ns string) (out int) {
	t.Helper()
	var pods corev1.PodList
	var jobs v1alpha1.BatchJobList
	var envs v1alpha1.ComputeEnvList
	var maps corev1.ConfigMapList
	for _, list := range []client.ObjectList{&pods, &jobs, &envs, &maps} {
		if err := p.List(context.Background(), list, client.InNamespace(ns)); err != nil {
			t.Fatal(err)
		}
	}
	for _, pod := range pods.Items {
		if !slices.Contains(pod.Finalizers, "example.com/other") || pod.Name != "film-render-0" && pod.Labels["mine"] != "stays" {
			t.Errorf("%s lost what is not ours: %q, %v", pod.Name, pod.Finalizers, pod.Labels)
		}
		if slices.Contains(pod.Finalizers, v1alpha1.FinalizerTracking) || pod.Labels[v1alpha1.LabelTracked] != "" {
			out++
		}
		if pod.DeletionTimestamp != nil {
			t.Errorf("%s was deleted", pod.Name)
		}
	}
	held := func(name string, finalizers []string) {
		if slices.ContainsFunc(finalizers, isOurs) {
			out++
		}
		if !slices.Contains(finalizers, "example.com/other") {
			t.Errorf("%s lost what is not ours: %q", name, finalizers)
		}
	}
	for _, job := range jobs.Items {
		held(job.Name, job.Finalizers)
	}
	for _, env := range envs.Items {
		held(env.Name, env.Finalizers)
	}
	for _, m := range maps.Items {
		if m.Name == v1alpha1.TombstonesName {
			out++
		}
	}
	return out
}

// TestHostileUninstall: the operator was removed with jobs running. A dry run changes nothing, a run
// with a namespace only that, and one without all; a repetition finds nothing.
func TestHostileUninstall(t *testing.T) {
	p := controlplane.Get(t)
	const n = 600 // more than a page
	here, there := p.Namespace(t), p.Namespace(t)
	leftover(t, p, here, n)
	leftover(t, p, there, 3)
	for _, tc := range []struct {
		options         Options
		want            Summary
		leftHere, there int
	}{
		{Options{DryRun: true, Namespace: here}, Summary{n, 1, 1, 1, 0}, n + 3, 6},
		{Options{Namespace: there}, Summary{3, 1, 1, 1, 0}, n + 3, 0},
		{Options{}, Summary{n, 1, 1, 1, 0}, 0, 0},
		{Options{}, Summary{}, 0, 0},
	} {
		var out bytes.Buffer
		tc.options.OperatorNamespace = here
		got, err := Run(t.Context(), p.WithWatch, tc.options, &out, t.Output())
		if err != nil || got != tc.want {
			t.Errorf("%+v: %+v, %v, want %+v", tc.options, got, err, tc.want)
		}
		if lines := strings.Count(out.String(), "\n"); lines != tc.want.Pods+tc.want.BatchJobs+tc.want.ComputeEnvs+tc.want.ConfigMaps {
			t.Errorf("%+v: %d lines", tc.options, lines)
		}
		if a, b := left(t, p, here), left(t, p, there); a != tc.leftHere || b != tc.there {
			t.Errorf("%+v: %d and %d are left, want %d and %d", tc.options, a, b, tc.leftHere, tc.there)
		}
		t.Logf("hostile: release-finalizers %+v: %+v", tc.options, got)
	}
}

// TestHostileUninstallTooEarly: while a manager renews its lease nothing is touched; when it is dead,
// or has given its lease back, or with force, all is.
func TestHostileUninstallTooEarly(t *testing.T) {
	p := controlplane.Get(t)
	ns := p.Namespace(t)
	leftover(t, p, ns, 2)
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: LeaseName, Namespace: ns}}
	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds = new("manager-0"), new(int32(3))
	if err := p.Create(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Millisecond):
				lease.Spec.RenewTime = new(metav1.NewMicroTime(time.Unix(int64(i), 0))) // whatever its clock says
				if err := p.Update(context.Background(), lease); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	o := Options{Namespace: ns, OperatorNamespace: ns}
	_, err := Run(t.Context(), p.WithWatch, o, t.Output(), t.Output())
	close(stop)
	<-stopped
	if running := new(RunningError); !errors.As(err, &running) || running.Holder != "manager-0" || left(t, p, ns) != 5 {
		t.Errorf("while it runs: %v, %d are left", err, left(t, p, ns))
	}
	t.Logf("hostile: release-finalizers while the manager runs: %v", err)
	if s, err := Run(t.Context(), p.WithWatch, o, t.Output(), t.Output()); err != nil || s.Pods != 2 || left(t, p, ns) != 0 {
		t.Errorf("when it is dead: %+v, %v", s, err)
	}
}

// TestUninstallWithoutKinds: the CRDs may be gone already, and other objects may not be written.
func TestUninstallWithoutKinds(t *testing.T) {
	p := controlplane.Get(t)
	ns := p.Namespace(t)
	leftover(t, p, ns, 3)
	c := interceptor.NewClient(p.WithWatch, interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if kind := list.GetObjectKind().GroupVersionKind(); kind.Group == v1alpha1.GroupVersion.Group {
				return &meta.NoKindMatchError{GroupKind: kind.GroupKind()}
			}
			return c.List(ctx, list, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, patch client.Patch, opts ...client.PatchOption) error {
			if o.GetName() == "film-render-1" {
				return apierrors.NewForbidden(corev1.Resource("pods"), o.GetName(), errors.New("a policy"))
			}
			return c.Patch(ctx, o, patch, opts...)
		},
	})
	s, err := Run(t.Context(), c, Options{Namespace: ns, Force: true}, t.Output(), t.Output())
	if want := (Summary{Pods: 2, ConfigMaps: 1, Failed: 1}); s != want || err == nil || !strings.Contains(err.Error(), "Pod "+ns+"/film-render-1") {
		t.Errorf("%+v, %v, want %+v", s, err, want)
	}
}

// TestCommand: it finds the cluster by a kubeconfig, and says what it did.
func TestCommand(t *testing.T) {
	p := controlplane.Get(t)
	ns := p.Namespace(t)
	leftover(t, p, ns, 1)
	config, file := clientcmdapi.NewConfig(), filepath.Join(t.TempDir(), "config")
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: p.Config.Host, CertificateAuthorityData: p.Config.CAData}
	config.AuthInfos["u"] = &clientcmdapi.AuthInfo{ClientCertificateData: p.Config.CertData, ClientKeyData: p.Config.KeyData}
	config.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u", Namespace: ns}
	config.CurrentContext = "x"
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if got := Command(t.Context(), "test", []string{"--kubeconfig", file, "--operator-namespace", ns}, &out, &errs); got != exitOK || errs.Len() > 0 {
		t.Errorf("%d, %q", got, errs.String())
	}
	want := []string{
		"Pod " + ns + "/film-render-0: finalizer removed", "BatchJob " + ns + "/film: finalizer removed", "ComputeEnv " + ns + "/pool: finalizer removed",
		"ConfigMap " + ns + "/batchcompute-tombstones: deleted", "Pods: 1, BatchJobs: 1, ComputeEnvs: 1, ConfigMaps: 1; failed: 0", "",
	}
	if got := strings.Split(out.String(), "\n"); !slices.Equal(got, want) || left(t, p, ns) != 0 {
		t.Errorf("it says %q, want %q", got, want)
	}
}

// TestMissingKind: a kind that the cluster does not have is no trouble.
func TestMissingKind(t *testing.T) {
	p := controlplane.Get(t)
	r := &run{Client: p.WithWatch}
	_, err := r.list(t.Context(), schema.GroupVersionKind{Group: "gone.example.com", Version: "v1", Kind: "ThingList"}, nil)
	if !isMissing(err) {
		t.Errorf("the error is %v", err)
	}
}

// TestCommandUsage: wrong usage is told from trouble.
func TestCommandUsage(t *testing.T) {
	t.Setenv("KUBECONFIG", t.TempDir()+"/none")
	for _, tc := range []struct {
		args []string
		want int
		says string
	}{
		{[]string{"-h"}, exitOK, "Usage: test release-finalizers"},
		{[]string{"--nope"}, exitUsage, "nope"},
		{[]string{"more"}, exitUsage, "Usage"},
		{[]string{"-n", "a", "--all-namespaces"}, exitUsage, "Usage"},
		{[]string{"--all-namespaces"}, exitFailed, "finding the cluster"},
	} {
		var out, errs bytes.Buffer
		if got := Command(t.Context(), "test", tc.args, &out, &errs); got != tc.want || !strings.Contains(errs.String(), tc.says) {
			t.Errorf("%q: %d, %q", tc.args, got, errs.String())
		}
	}
}
