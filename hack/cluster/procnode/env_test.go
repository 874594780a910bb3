// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func TestExpand(t *testing.T) {
	var e environ
	e.set("A", "1")
	e.set("REF", "$(A)")
	for in, want := range map[string]string{
		"":             "",
		"plain":        "plain",
		"$(A)":         "1",
		"x$(A)y$(A)":   "x1y1",
		"$(UNKNOWN)":   "$(UNKNOWN)",
		"$$(A)":        "$(A)",
		"$$$(A)":       "$1",
		"$$":           "$",
		"$":            "$",
		"$A ${A}":      "$A ${A}",
		"$(A":          "$(A",
		"$(REF)":       "$(A)", // what is inserted isn't looked at again
		"$()":          "$()",
		"($(A))":       "(1)",
		"$(UNKNOWN$(A": "$(UNKNOWN$(A",
	} {
		if got := e.expand(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func testVariables() variables {
	return variables{
		client: fake.NewClientset(
			&corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "settings"},
				Data:       map[string]string{"A": "a", "B": "b"}, BinaryData: map[string][]byte{"C": {0xff}},
			},
			&corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "keys"}, Data: map[string][]byte{"KEY": []byte("k")},
			},
		),
		pod: &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "ns", Name: "pod", UID: "uid-1",
				Labels: map[string]string{"app.io/x": "l"}, Annotations: map[string]string{"note": "n"},
			},
			Spec: corev1.PodSpec{ServiceAccountName: "sa"},
		},
		nodeName: "node-1", ip: "10.0.0.1",
	}
}

func TestField(t *testing.T) {
	v := testVariables()
	for path, want := range map[string]string{
		"metadata.name": "pod", "metadata.namespace": "ns", "metadata.uid": "uid-1",
		"metadata.labels['app.io/x']": "l", "metadata.labels['none']": "", "metadata.annotations['note']": "n",
		"spec.nodeName": "node-1", "spec.serviceAccountName": "sa", "status.podIP": "10.0.0.1", "status.hostIP": "10.0.0.1",
	} {
		if got, err := v.field(path); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", path, got, err, want)
		}
	}
	if _, err := v.field("metadata.labels"); err == nil {
		t.Error("a field that isn't supported is accepted")
	}
}

func TestVariables(t *testing.T) {
	settings, none := corev1.LocalObjectReference{Name: "settings"}, corev1.LocalObjectReference{Name: "none"}
	fromKey := func(ref corev1.LocalObjectReference, key string, optional bool) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
			LocalObjectReference: ref, Key: key, Optional: &optional}}
	}
	for name, tc := range map[string]struct {
		from    []corev1.EnvFromSource
		env     []corev1.EnvVar
		want    []string
		wantErr string
	}{
		"later ones see earlier ones": {
			env:  []corev1.EnvVar{{Name: "X", Value: "$(BASE)/x $(Y)"}, {Name: "Y", Value: "$(X)"}},
			want: []string{"BASE=/base", "X=/base/x $(Y)", "Y=/base/x $(Y)"}},
		"env wins over envFrom": {
			from: []corev1.EnvFromSource{{Prefix: "P_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: settings}}},
			env:  []corev1.EnvVar{{Name: "P_B", Value: "mine"}},
			want: []string{"BASE=/base", "P_A=a", "P_B=mine", "P_C=\xff"}},
		"secret": {
			from: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "keys"}}}},
			want: []string{"BASE=/base", "KEY=k"}},
		"optional and missing": {
			from: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: none, Optional: new(true)}}},
			env:  []corev1.EnvVar{{Name: "X", ValueFrom: fromKey(none, "A", true)}, {Name: "Y", ValueFrom: fromKey(settings, "Z", true)}},
			want: []string{"BASE=/base"}},
		"missing key": {
			env:     []corev1.EnvVar{{Name: "X", ValueFrom: fromKey(settings, "Z", false)}},
			wantErr: "variable X: couldn't find key Z in ConfigMap ns/settings"},
		"missing object": {
			env:     []corev1.EnvVar{{Name: "X", ValueFrom: fromKey(none, "A", false)}},
			wantErr: `variable X: configmaps "none" not found`},
		"resource field": {
			env:     []corev1.EnvVar{{Name: "X", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{}}}},
			wantErr: "variable X: this kind of valueFrom is not supported by the process node"},
	} {
		t.Run(name, func(t *testing.T) {
			var e environ
			e.set("BASE", "/base")
			err := testVariables().addTo(t.Context(), &e, &corev1.Container{EnvFrom: tc.from, Env: tc.env})
			if tc.wantErr != "" {
				if err == nil || err.Error() != tc.wantErr {
					t.Errorf("got error %v, want %s", err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, e.list()); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestVolumes(t *testing.T) {
	v, dir := testVariables(), t.TempDir()
	v.pod.Spec.Volumes = []corev1.Volume{
		{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "all", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}},
		{Name: "one", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
			SecretName: "keys", DefaultMode: new(int32(0o400)), Items: []corev1.KeyToPath{{Key: "KEY", Path: "sub/key"}}}}},
		{Name: "down", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{
			Items: []corev1.DownwardAPIVolumeFile{{Path: "name", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}}}},
		{Name: "token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{}}}}}},
	}
	for range 2 { // a second time, after a start that failed, does no harm
		if err := v.writeVolumes(t.Context(), filepath.Join(dir, "volumes")); err != nil {
			t.Fatal(err)
		}
	}
	var e environ
	c := &corev1.Container{VolumeMounts: []corev1.VolumeMount{
		{Name: "all", MountPath: "/etc/all"}, {Name: "one", MountPath: "/key", SubPath: "sub/key"},
		{Name: "scratch", MountPath: "/scratch"}, {Name: "down", MountPath: "/scratch/down"},
	}}
	for range 2 {
		if err := linkMounts(&e, c, filepath.Join(dir, "volumes"), filepath.Join(dir, "root")); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		"root/etc/all/A": "a", "root/etc/all/C": "\xff", "root/key": "k", "root/scratch/down/name": "pod",
	} {
		if got, err := os.ReadFile(filepath.Join(dir, path)); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v", path, got, err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "root", "key")); err != nil || info.Mode() != 0o400 {
		t.Errorf("mode: %v, %v", info.Mode(), err)
	}
	if want := filepath.Join(dir, "volumes", "scratch"); e.values["PROCNODE_MOUNT_SCRATCH"] != want {
		t.Errorf("variables: %v", e.values)
	}

	for want, source := range map[string]corev1.VolumeSource{
		"volume v: its type is not supported by the process node": {NFS: &corev1.NFSVolumeSource{}},
		"volume v: references non-existent key: Z": {Secret: &corev1.SecretVolumeSource{
			SecretName: "keys", Items: []corev1.KeyToPath{{Key: "Z", Path: "z"}}}},
		`volume v: path "../z" leaves the volume`: {Secret: &corev1.SecretVolumeSource{
			SecretName: "keys", Items: []corev1.KeyToPath{{Key: "KEY", Path: "../z"}}}},
	} {
		v.pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: source}}
		if err := v.writeVolumes(t.Context(), t.TempDir()); err == nil || err.Error() != want {
			t.Errorf("got error %v, want %s", err, want)
		}
	}
}
