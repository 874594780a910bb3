// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build smoke

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"batchcompute.dev/operator/hack/cluster/internal/cluster"
)

// The smoke tests bring real clusters up: go test -tags smoke -run Smoke .
// They take some 20 seconds once the programs are built, and minutes before.

// TestMain lets the test binary be the program.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		main()
		return
	}
	os.Exit(m.Run())
}

// run runs the program and returns its standard output; what it says goes to the test's log.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute) // the first time, it builds
	defer cancel()
	cmd := exec.CommandContext(ctx, self, args...)
	var out, progress bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &progress
	start := time.Now()
	err = cmd.Run()
	t.Logf("cluster %s: %.1f s, %v\n%s", strings.Join(args, " "), time.Since(start).Seconds(), err, progress.String())
	return strings.TrimSpace(out.String()), err
}

func must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := run(t, args...)
	if err != nil {
		t.Fatalf("cluster %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// fixture is a cluster that is up for one test.
type fixture struct {
	*testing.T
	name, kubeconfig string
	status           cluster.Status
	client           kubernetes.Interface
}

func up(t *testing.T, name string, args ...string) *fixture {
	t.Helper()
	t.Cleanup(func() { must(t, "down", "--name", name) })
	f := &fixture{T: t, name: name, kubeconfig: must(t, append([]string{"up", "--name", name}, args...)...)}
	if err := json.Unmarshal([]byte(must(t, "status", "--name", name, "--json")), &f.status); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", f.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if f.client, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	return f
}

// kubectl runs the cluster's own kubectl.
func (f *fixture) kubectl(stdin string, args ...string) string {
	f.Helper()
	cmd := exec.Command(filepath.Join(f.status.BinDir, "kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+f.kubeconfig)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		f.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// pod waits until done says so of the Pod.
func (f *fixture) pod(name string, done func(*corev1.Pod) bool) *corev1.Pod {
	f.Helper()
	var p *corev1.Pod
	err := wait.PollUntilContextTimeout(f.Context(), 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		var err error
		p, err = f.client.CoreV1().Pods(metav1.NamespaceDefault).Get(ctx, name, metav1.GetOptions{})
		return err == nil && done(p), nil
	})
	if err != nil {
		f.Fatalf("waiting for Pod %s: %v; its status is %+v", name, err, p.Status)
	}
	return p
}

func inPhase(phase corev1.PodPhase) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool { return p.Status.Phase == phase }
}

func isReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func exitCode(p *corev1.Pod) int32 {
	return p.Status.ContainerStatuses[0].State.Terminated.ExitCode
}

func TestSmokeNode(t *testing.T) {
	f := up(t, "smoke-node", "--tier", "node")
	manifests, err := os.ReadFile("testdata/smoke.yaml")
	if err != nil {
		t.Fatal(err)
	}
	f.kubectl(string(manifests), "apply", "-f", "-")

	f.pod("hello", inPhase(corev1.PodSucceeded))
	if got := f.kubectl("", "logs", "hello"); got != "hello" {
		t.Errorf("logs: got %q", got)
	}
	if got := exitCode(f.pod("fails", inPhase(corev1.PodFailed))); got != 3 {
		t.Errorf("exit code: got %d, want 3", got)
	}
	f.pod("python", inPhase(corev1.PodSucceeded)) // it asks the API server by the address of its Service
	if got := f.kubectl("", "logs", "python"); !strings.HasPrefix(got, "3.13 65532 nonroot v1.") {
		t.Errorf("Python: got %q", got)
	}
	f.pod("rich", isReady)
	if got := f.kubectl("", "exec", "rich", "-c", "c", "--", "cat", "/data/f"); got != "init-wrote-this" {
		t.Errorf("exec: got %q", got)
	}
	f.reaches("http://" + f.kubectl("", "get", "service", "rich", "-o", "jsonpath={.spec.clusterIP}") + "/f")

	tar := filepath.Join(t.TempDir(), "image.tar")
	must(t, "image", "-o", tar, "--name", "smoke:1", "--entrypoint", "/bin/true", "--user", "65532:65532", "/bin/true="+filepath.Join(f.status.BinDir, "pause"))
	must(t, "load-image", "--name", f.name, tar)
	f.kubectl("", "run", "loaded", "--image=smoke:1", "--restart=Never")
	f.pod("loaded", isReady)

	f.faults()
}

// reaches gets a file from this machine by the address of a Service, as the API
// server calls webhooks.
func (f *fixture) reaches(url string) {
	f.Helper()
	client := http.Client{Timeout: 5 * time.Second}
	var body []byte
	err := wait.PollUntilContextTimeout(f.Context(), 100*time.Millisecond, 20*time.Second, true, func(context.Context) (bool, error) {
		resp, err := client.Get(url)
		if err != nil {
			return false, nil // the rules of a new Service take a moment
		}
		defer resp.Body.Close()
		body, err = io.ReadAll(resp.Body)
		return err == nil, nil
	})
	if err != nil || strings.TrimSpace(string(body)) != "init-wrote-this" {
		f.Errorf("%s: got %q, %v", url, body, err)
	}
}

// faults stops and starts every part in turn.
func (f *fixture) faults() {
	for _, part := range []string{"kubelet", "kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd", "node"} {
		must(f.T, "stop", "--name", f.name, part)
		var s cluster.Status
		if err := json.Unmarshal([]byte(must(f.T, "status", "--name", f.name, "--json")), &s); err != nil {
			f.Fatal(err)
		}
		if s.Healthy || !strings.Contains(s.Problem, part) {
			f.Errorf("with %s stopped: healthy is %v, problem is %q", part, s.Healthy, s.Problem)
		}
		must(f.T, "start", "--name", f.name, part)
	}
	f.kubectl("", "run", "after", "--image=busybox:1.37", "--restart=Never", "--", "true")
	f.pod("after", inPhase(corev1.PodSucceeded))
	f.pod("rich", inPhase(corev1.PodFailed)) // it did not live through the end of its node
}

func TestSmokeFake(t *testing.T) {
	f := up(t, "smoke-fake", "--tier", "fake", "--fake-nodes", "4", "--fake-zones", "z-1,z-2")
	f.kubectl(`
apiVersion: v1
kind: Pod
metadata: {name: fails, annotations: {sim/exit-code: "137", sim/reason: OOMKilled, sim/duration: 2s}}
spec:
  restartPolicy: Never
  nodeSelector: {topology.kubernetes.io/zone: z-2}
  tolerations: [{key: kwok.x-k8s.io/node, operator: Exists}]
  containers: [{name: c, image: any}]
`, "apply", "-f", "-")
	p := f.pod("fails", inPhase(corev1.PodFailed))
	end := p.Status.ContainerStatuses[0].State.Terminated
	if end.ExitCode != 137 || end.Reason != "OOMKilled" {
		t.Errorf("got %+v", end)
	}
	if ran := end.FinishedAt.Sub(end.StartedAt.Time); ran < time.Second {
		t.Errorf("it ran for %s, want 2s, in whole seconds", ran)
	}
}

func TestSmokeProcess(t *testing.T) {
	f := up(t, "smoke-process", "--tier", "process")
	f.kubectl("", "run", "hello", "--image=python:3.13-slim", "--restart=Never", "--command", "--", "python", "-c", "print('hello')")
	f.pod("hello", inPhase(corev1.PodSucceeded))
	if got := f.kubectl("", "logs", "hello"); got != "hello" {
		t.Errorf("logs: got %q", got)
	}
}

// TestSmokeKilled kills "up" at several moments; "down" must find everything it had made.
func TestSmokeKilled(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const name = "smoke-killed"
	for _, after := range []time.Duration{200 * time.Millisecond, 600 * time.Millisecond, time.Second, 2 * time.Second, 3 * time.Second} {
		cmd := exec.Command(self, "up", "--name", name, "--tier", "node", "--fake-nodes", "2")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(after)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		must(t, "down", "--name", name)
		if left := leftovers(t, name); left != "" {
			t.Errorf("killed after %s, this is left:\n%s", after, left)
		}
	}
}

// leftovers tells what there is of a cluster that is down.
func leftovers(t *testing.T, name string) string {
	t.Helper()
	cgroups, err := exec.Command("find", "/sys/fs/cgroup", "-name", "batchcompute-"+name+"-*").Output()
	if err != nil {
		t.Fatal(err)
	}
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	left := strings.TrimSpace(string(cgroups))
	for _, p := range procs {
		if line, err := os.ReadFile(p); err == nil && bytes.Contains(line, []byte("clusters/"+name+"/")) {
			left += "\n" + string(bytes.ReplaceAll(line, []byte{0}, []byte{' '}))
		}
	}
	return left
}
