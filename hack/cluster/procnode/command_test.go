// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestExpand(t *testing.T) {
	env := map[string]string{"A": "1", "REF": "$(A)"}
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
		if got := expand(in, env); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// testPod returns a Pod with a volume of each kind that matters here.
func testPod(t *testing.T) *pod {
	t.Helper()
	return &pod{
		n: &node{ip: "10.0.0.1"}, dir: t.TempDir(),
		obj: &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "ns", Name: "pod", UID: "uid-1",
				Labels: map[string]string{"app.io/x": "l"}, Annotations: map[string]string{"note": "n"},
			},
			Spec: corev1.PodSpec{NodeName: "node-1", Volumes: []corev1.Volume{
				{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
				{Name: "token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{}}},
				{Name: "nfs", VolumeSource: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{}}},
			}},
		},
	}
}

func TestField(t *testing.T) {
	p := testPod(t)
	for path, want := range map[string]string{
		"metadata.name": "pod", "metadata.namespace": "ns", "metadata.uid": "uid-1",
		"metadata.labels['app.io/x']": "l", "metadata.labels['none']": "", "metadata.annotations['note']": "n",
		"spec.nodeName": "node-1", "status.podIP": "10.0.0.1", "status.hostIP": "10.0.0.1",
	} {
		if got, err := p.field(path); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", path, got, err, want)
		}
	}
}

func TestCommand(t *testing.T) {
	p := testPod(t)
	for range 2 { // a second start finds what the first made
		cmd, err := p.command(&corev1.Container{
			Name: "main", Command: []string{"/bin/sh", "$(X)"}, Args: []string{"$$(X)"}, WorkingDir: "/work",
			Env: []corev1.EnvVar{{Name: "X", Value: "$(HOSTNAME)/$(Y)"}, {Name: "Y", Value: "$(X)"}},
			VolumeMounts: []corev1.VolumeMount{
				{Name: "scratch", MountPath: "/mnt/data", SubPath: "sub"}, {Name: "token", MountPath: "/var/token"},
			},
		}, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(cmd.Args, " "); got != "/bin/sh pod/$(Y) $(X)" || cmd.Path != "/bin/sh" {
			t.Errorf("got %s: %s", cmd.Path, got)
		}
		if got := strings.Join(cmd.Env, " "); len(cmd.Env) != 5 || !strings.Contains(got, "Y=pod/$(Y)") {
			t.Errorf("environment: %s", got)
		}
		if info, err := os.Stat(cmd.Dir); err != nil || !info.IsDir() || filepath.Base(cmd.Dir) != "work" {
			t.Errorf("working directory %s: %v", cmd.Dir, err)
		}
		link, err := os.Readlink(filepath.Join(p.dir, "containers/main/root/mnt/data"))
		if want := filepath.Join(p.dir, "volumes/scratch/sub"); err != nil || link != want {
			t.Errorf("volume: got %s, %v, want %s", link, err, want)
		}
	}
}

func TestCommandRefuses(t *testing.T) {
	run := []string{"/bin/sh"}
	from := func(s *corev1.EnvVarSource) []corev1.EnvVar { return []corev1.EnvVar{{Name: "X", ValueFrom: s}} }
	for want, c := range map[string]corev1.Container{
		"no command specified":                          {},
		"a restartPolicy of a container":                {Command: run, RestartPolicy: new(corev1.ContainerRestartPolicyAlways)},
		"envFrom is not supported":                      {Command: run, EnvFrom: []corev1.EnvFromSource{{}}},
		"variable X: of valueFrom, only fieldRef":       {Command: run, Env: from(&corev1.EnvVarSource{})},
		`variable X: field "spec.x" is not supported`:   {Command: run, Env: from(&corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.x"}})},
		"volume nfs: only emptyDir":                     {Command: run, VolumeMounts: []corev1.VolumeMount{{Name: "nfs", MountPath: "/nfs"}}},
		`exec: "x": executable file not found in $PATH`: {Command: []string{"x"}},
	} {
		if _, err := testPod(t).command(&c, t.TempDir()); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got error %v, want %s", err, want)
		}
	}
}

func TestFindImage(t *testing.T) {
	cfg := Config{Root: t.TempDir(), Images: map[string]string{"busybox:1.37": "/given", "tool:1": "/old"}}
	find := func(ref, want string) {
		t.Helper()
		if got, err := findImage(cfg, ref); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: got %q, %v, want %q", ref, got, err, want)
		}
	}
	find("docker.io/library/busybox:1.37", "/given")
	find("busybox:1.36", "")
	find("registry.test/busybox:1.37", "")
	find("tool:1", "/old")
	file := filepath.Join(cfg.Root, imagesFile)
	if err := os.WriteFile(file, []byte(`{"docker.io/library/tool:1":"/new","busybox":"/latest"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	find("tool:1", "/new")
	find("busybox:latest", "/latest")
	find("busybox:1.37", "/given")
	if err := os.WriteFile(file, []byte(`{`), 0o644); err != nil {
		t.Fatal(err)
	}
	find("tool:1", "")
}

func TestFindProgram(t *testing.T) {
	image, path := t.TempDir(), t.TempDir()
	writeProgram(t, filepath.Join(image, "bin", "tool"), "")
	writeProgram(t, filepath.Join(image, "manager"), "")
	writeProgram(t, filepath.Join(path, "tool"), "")
	for name, want := range map[string]string{
		"tool": filepath.Join(image, "bin", "tool"), "/manager": filepath.Join(image, "manager"), "/bin/sh": "/bin/sh", "./x": "./x",
	} {
		if got, err := findProgram(name, image, filepath.Join(image, "bin")+":"+path); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", name, got, err, want)
		}
	}
	for name, want := range map[string]string{
		"none":  `exec: "none": executable file not found in $PATH`,
		"/none": `exec: "/none": stat /none: no such file or directory`,
	} {
		if _, err := findProgram(name, image, path); err == nil || err.Error() != want {
			t.Errorf("%s: got error %v, want %s", name, err, want)
		}
	}
}
