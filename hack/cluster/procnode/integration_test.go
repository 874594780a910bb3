// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func TestProcessNode(t *testing.T) {
	main := startCluster(t)
	main.run()
	for name, test := range map[string]func(*cluster){
		"node":            testNode,
		"success":         testSuccess,
		"exit code":       testExitCode,
		"init containers": testInitContainers,
		"environment":     testEnvironment,
		"image":           testImagePull,
		"start error":     testStartError,
		"restart":         testRestart,
		"delete":          testDelete,
		"finalizer":       testFinalizer,
		"stubborn":        testStubborn,
		"never started":   testNeverStarted,
		"same name":       testSameName,
		"follow":          testFollow,
		"many":            testMany,
	} {
		t.Run(name, func(t *testing.T) { test(&cluster{t: t, client: main.client, config: main.config}) })
	}
}

func testNode(c *cluster) {
	var node *corev1.Node
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var err error
		if node, err = c.client.CoreV1().Nodes().Get(c.t.Context(), "node-1", metav1.GetOptions{}); err == nil &&
			len(node.Status.Conditions) > 0 {
			break
		}
	}
	if node.Status.Conditions[0].Status != corev1.ConditionTrue || node.Labels["pool"] != "test" || node.Labels[corev1.LabelHostname] != "node-1" ||
		node.Status.Capacity.Pods().Value() != 110 || node.Status.DaemonEndpoints.KubeletEndpoint.Port == 0 {
		c.t.Errorf("node: %+v", node)
	}
}

func testSuccess(c *cluster) {
	watch, err := c.client.CoreV1().Pods("default").Watch(c.t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=success"})
	if err != nil {
		c.t.Fatal(err)
	}
	defer watch.Stop()
	c.create(newTestPod("success", "echo out; echo err >&2; hello you; sleep 0.3"))
	var phases []corev1.PodPhase
	for event := range watch.ResultChan() {
		p := event.Object.(*corev1.Pod)
		phases = append(phases, p.Status.Phase)
		if p.Status.Phase == corev1.PodSucceeded {
			break
		}
	}
	if got := fmt.Sprint(phases); got != "[Pending Running Succeeded]" {
		c.t.Errorf("phases seen: %s", got)
	}
	p := c.wait("success", hasPhase(corev1.PodSucceeded))
	end := terminated(c, p)
	if end.ExitCode != 0 || end.Reason != "Completed" || !strings.HasPrefix(end.ContainerID, "process://") {
		c.t.Errorf("terminated: %+v", end)
	}
	if got, want := c.logs("success", &corev1.PodLogOptions{}), "out\nerr\nhello you\n"; got != want {
		c.t.Errorf("logs: got %q, want %q", got, want)
	}
	if got, want := c.logs("success", &corev1.PodLogOptions{TailLines: new(int64(1))}), "hello you\n"; got != want {
		c.t.Errorf("last line: got %q, want %q", got, want)
	}
}

func testExitCode(c *cluster) {
	c.create(newTestPod("fails", "exit 3"))
	c.create(newTestPod("signal", "kill -9 $$$$"))
	for name, want := range map[string]int32{"fails": 3, "signal": 137} {
		if end := terminated(c, c.wait(name, hasPhase(corev1.PodFailed))); end.ExitCode != want || end.Reason != "Error" {
			c.t.Errorf("%s: %+v", name, end)
		}
	}
}

func testInitContainers(c *cluster) {
	p := newTestPod("init", "cat data/a data/b")
	p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
	for _, name := range []string{"a", "b"} {
		i := *p.Spec.Containers[0].DeepCopy()
		i.Name, i.Command = name, []string{"sh", "-c", "ls $HOME/data; echo " + name + " > data/" + name}
		p.Spec.InitContainers = append(p.Spec.InitContainers, i)
	}
	c.create(p)
	c.wait("init", hasPhase(corev1.PodSucceeded))
	if got := c.logs("init", &corev1.PodLogOptions{Container: "main"}); got != "a\nb\n" {
		c.t.Errorf("main: %q", got)
	}
	if got := c.logs("init", &corev1.PodLogOptions{Container: "b"}); got != "a\n" {
		c.t.Errorf("second init container: %q", got)
	}

	p = newTestPod("init-fails", "echo never")
	p.Spec.InitContainers = []corev1.Container{{Name: "a", Image: testImage, Command: []string{"false"}}}
	c.create(p)
	p = c.wait("init-fails", hasPhase(corev1.PodFailed))
	if w := p.Status.ContainerStatuses[0].State.Waiting; w == nil || w.Reason != "PodInitializing" {
		c.t.Errorf("main: %+v", p.Status.ContainerStatuses[0].State)
	}
}

func testEnvironment(c *cluster) {
	p := newTestPod("environment", `echo "$(A) $B $NAME $INDEX $IP"; unset PWD OLDPWD SHLVL _; env | sed 's/=.*//' | sort | tr '\n' ' '`)
	p.Annotations = map[string]string{"index": "7"}
	field := func(path string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
	}
	p.Spec.Containers[0].Env = []corev1.EnvVar{
		{Name: "A", Value: "echo"}, {Name: "B", Value: "$(A)-b"}, {Name: "NAME", ValueFrom: field("metadata.name")},
		{Name: "INDEX", ValueFrom: field("metadata.annotations['index']")}, {Name: "IP", ValueFrom: field("status.podIP")},
	}
	c.create(p)
	c.wait("environment", hasPhase(corev1.PodSucceeded))
	want := "echo echo-b environment 7 127.0.0.1\nA B HOME HOSTNAME INDEX IP NAME PATH "
	if got := c.logs("environment", &corev1.PodLogOptions{}); got != want {
		c.t.Errorf("got %q, want %q", got, want)
	}
}

func testImagePull(c *cluster) {
	p := newTestPod("image", "hi")
	p.Spec.Containers[0].Image, p.Spec.Containers[0].Command = "registry.test/new:1", []string{"hi"}
	c.create(p)
	c.wait("image", waitsFor("ErrImagePull"))
	p = c.wait("image", waitsFor("ImagePullBackOff"))
	if got, want := p.Status.ContainerStatuses[0].State.Waiting.Message, `failed to pull image "registry.test/new:1": not found: the process node has no directory for it`; got != want {
		c.t.Errorf("message: got %q, want %q", got, want)
	}
	_, err := c.client.CoreV1().Pods("default").GetLogs("image", &corev1.PodLogOptions{}).Stream(c.t.Context())
	if err == nil || !strings.Contains(err.Error(), "is waiting to start") {
		c.t.Errorf("logs of a waiting container: %v", err)
	}
	dir := c.t.TempDir()
	writeProgram(c.t, filepath.Join(dir, "bin", "hi"), "echo loaded")
	data, _ := json.Marshal(map[string]string{"registry.test/new:1": dir})
	if err := os.WriteFile(filepath.Join(c.config.Root, imagesFile), data, 0o644); err != nil {
		c.t.Fatal(err)
	}
	c.wait("image", hasPhase(corev1.PodSucceeded))
	if got := c.logs("image", &corev1.PodLogOptions{}); got != "loaded\n" {
		c.t.Errorf("logs: %q", got)
	}
}

func testStartError(c *cluster) {
	p := newTestPod("start-error", "")
	p.Spec.Containers[0].Command = []string{"no-such-program"}
	c.create(p)
	end := terminated(c, c.wait("start-error", hasPhase(corev1.PodFailed)))
	if end.ExitCode != 128 || end.Reason != "StartError" || !strings.Contains(end.Message, `exec: "no-such-program": executable file not found in $PATH`) {
		c.t.Errorf("terminated: %+v", end)
	}
	p = newTestPod("no-command", "")
	p.Spec.Containers[0].Command = nil
	c.create(p)
	end = terminated(c, c.wait("no-command", hasPhase(corev1.PodFailed)))
	if end.ExitCode != 128 || !strings.Contains(end.Message, "no command specified") {
		c.t.Errorf("terminated: %+v", end)
	}
}

func testRestart(c *cluster) {
	p := newTestPod("restart", "test -e seen && echo again || { echo first; touch seen; exit 1; }")
	p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
	c.create(p)
	c.wait("restart", waitsFor("CrashLoopBackOff"))
	p = c.wait("restart", hasPhase(corev1.PodSucceeded))
	if s := p.Status.ContainerStatuses[0]; s.RestartCount != 1 || s.LastTerminationState.Terminated == nil {
		c.t.Errorf("status: %+v", s)
	}
	if got := c.logs("restart", &corev1.PodLogOptions{}); got != "again\n" {
		c.t.Errorf("logs: %q", got)
	}
}

func testDelete(c *cluster) {
	p := c.create(newTestPod("delete", "sleep 1000 & echo $! > pid; wait"))
	c.wait("delete", hasPhase(corev1.PodRunning))
	file := c.home(p) + "/pid"
	child := readPid(c.t, file)
	c.delete("delete", 5)
	c.wait("delete", gone)
	waitGone(c.t, child)
	waitFor(c.t, func() bool { _, err := os.Stat(file); return os.IsNotExist(err) })

	p = c.create(newTestPod("force", "sleep 1000 & echo $! > pid; wait"))
	c.wait("force", hasPhase(corev1.PodRunning))
	child = readPid(c.t, c.home(p)+"/pid")
	c.delete("force", 0)
	c.wait("force", gone)
	waitGone(c.t, child)
}

func testFinalizer(c *cluster) {
	p := newTestPod("finalizer", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done")
	p.Finalizers = []string{"test.dev/hold"}
	c.create(p)
	c.wait("finalizer", hasPhase(corev1.PodRunning))
	waitFor(c.t, func() bool { return c.logs("finalizer", &corev1.PodLogOptions{}) == "up\n" })
	c.delete("finalizer", 5)
	p = c.wait("finalizer", func(p *corev1.Pod) bool {
		return isTerminal(p.Status.Phase) && *p.DeletionGracePeriodSeconds == 0
	})
	if p.Status.Phase != corev1.PodSucceeded || terminated(c, p).ExitCode != 0 {
		c.t.Errorf("status: %+v", p.Status)
	}
	if got := c.logs("finalizer", &corev1.PodLogOptions{}); !strings.HasSuffix(got, "\nbye\n") {
		c.t.Errorf("logs: %q", got)
	}
	time.Sleep(300 * time.Millisecond)
	if later := c.wait("finalizer", func(*corev1.Pod) bool { return true }); later.ResourceVersion != p.ResourceVersion {
		c.t.Errorf("the Pod is still being written: %+v", later)
	}
	c.patch("finalizer", `{"metadata":{"finalizers":null}}`)
	c.wait("finalizer", gone)
}

func testStubborn(c *cluster) {
	p := newTestPod("stubborn", "trap '' TERM; echo up; while :; do sleep 0.1; done")
	p.Finalizers = []string{"test.dev/hold"}
	c.create(p)
	waitFor(c.t, func() bool {
		data, _ := c.client.CoreV1().Pods("default").GetLogs("stubborn", &corev1.PodLogOptions{}).DoRaw(c.t.Context())
		return string(data) == "up\n"
	})
	c.delete("stubborn", 1)
	p = c.wait("stubborn", hasPhase(corev1.PodFailed))
	if end := terminated(c, p); end.ExitCode != 137 {
		c.t.Errorf("terminated: %+v", end)
	}
	c.patch("stubborn", `{"metadata":{"finalizers":null}}`)
	c.wait("stubborn", gone)
}

func testNeverStarted(c *cluster) {
	p := newTestPod("never-started", "")
	p.Spec.Containers[0].Image = "registry.test/none:1"
	p.Finalizers = []string{"test.dev/hold"}
	c.create(p)
	c.wait("never-started", waitsFor("ErrImagePull"))
	c.delete("never-started", 5)
	p = c.wait("never-started", hasPhase(corev1.PodFailed))
	if end := terminated(c, p); end.ExitCode != 137 || end.Reason != "ContainerStatusUnknown" {
		c.t.Errorf("terminated: %+v", end)
	}
	c.patch("never-started", `{"metadata":{"finalizers":null}}`)
	c.wait("never-started", gone)
}

func testSameName(c *cluster) {
	for range 3 {
		p := c.create(newTestPod("same-name", "sleep 1000"))
		c.wait("same-name", func(got *corev1.Pod) bool { return hasPhase(corev1.PodRunning)(got) && got.UID == p.UID })
		c.delete("same-name", 0)
	}
}

func testFollow(c *cluster) {
	// The second line is written when the first was read, and not before.
	read := filepath.Join(c.t.TempDir(), "read")
	c.create(newTestPod("follow", "echo one; until [ -e '"+read+"' ]; do sleep 0.1; done; echo two; sleep 0.2"))
	c.wait("follow", hasPhase(corev1.PodRunning))
	stream, err := c.client.CoreV1().Pods("default").GetLogs("follow", &corev1.PodLogOptions{Follow: true}).Stream(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	defer stream.Close()
	first := make([]byte, 4)
	if _, err := io.ReadFull(stream, first); err != nil || string(first) != "one\n" {
		c.t.Errorf("first line: %q, %v", first, err)
	}
	if err := os.WriteFile(read, nil, 0o600); err != nil {
		c.t.Fatal(err)
	}
	rest, err := io.ReadAll(stream)
	if err != nil || string(rest) != "two\n" {
		c.t.Errorf("the rest: %q, %v", rest, err)
	}
}

func testMany(c *cluster) {
	const count = 50
	begin := time.Now()
	for i := range count {
		c.create(newTestPod(fmt.Sprintf("many-%d", i), "sleep 1000"))
	}
	created := time.Since(begin)
	for i := range count {
		c.wait(fmt.Sprintf("many-%d", i), hasPhase(corev1.PodRunning))
	}
	c.t.Logf("%d Pods created in %s, all running after %s", count, created, time.Since(begin))
	// A node that watches starts them while others are created; one that polls takes far longer than that.
	if late := time.Since(begin) - created; late > 5*created {
		c.t.Errorf("creating took %s, and all running only %s after the last was created", created, late)
	}
	for i := range count {
		c.delete(fmt.Sprintf("many-%d", i), 1)
	}
	for i := range count {
		c.wait(fmt.Sprintf("many-%d", i), gone)
	}
}

// TestKilled kills a process node of its own program with SIGKILL. Its processes
// must die though no other comes; and that one must report them.
func TestKilled(t *testing.T) {
	c := startCluster(t)
	data, err := json.Marshal(c.config)
	if err != nil {
		t.Fatal(err)
	}
	start := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), runVariable+"="+string(data))
		cmd.Stderr = new(bytes.Buffer)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() }) // of a test that failed
		return cmd
	}
	first := start()
	p := c.create(newTestPod("killed", "trap '' TERM HUP; sleep 1000 & echo $! > pid; echo started; wait"))
	own := c.create(newTestPod("own-group", "exec timeout 1000 sh -c 'echo $$$$ > pid; sleep 1000'"))
	c.create(newTestPod("done", "echo done"))
	c.wait("killed", hasPhase(corev1.PodRunning))
	c.wait("done", hasPhase(corev1.PodSucceeded))
	child, ownChild := readPid(t, c.home(p)+"/pid"), readPid(t, c.home(own)+"/pid")
	marker := strconv.Itoa(10_000_000 + os.Getpid()) // seconds
	for i := range 20 {                              // caught in the middle of their start
		c.create(newTestPod(fmt.Sprintf("burst-%d", i), "sleep "+marker+" & wait"))
	}
	if countProcesses(t, marker) == 0 {
		t.Error("the test is too early to show anything")
	}
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait()
	waitGone(t, child)
	waitGone(t, ownChild)
	waitFor(t, func() bool { return countProcesses(t, marker) == 0 })

	second := start()
	p = c.wait("killed", hasPhase(corev1.PodFailed))
	if end := terminated(c, p); end.ExitCode != 137 || end.Reason != "ContainerStatusUnknown" {
		t.Errorf("terminated: %+v", end)
	}
	if got := c.wait("done", hasPhase(corev1.PodSucceeded)); terminated(c, got).ExitCode != 0 {
		t.Errorf("done: %+v", got.Status)
	}
	for _, name := range []string{"killed", "done"} { // logs stay
		if got := c.logs(name, &corev1.PodLogOptions{}); got == "" {
			t.Errorf("no log of %s", name)
		}
	}
	p = c.create(newTestPod("later", "sleep 1000 & echo $! > pid; wait"))
	child = readPid(t, c.home(p)+"/pid")
	if err := second.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := second.Wait(); err != nil {
		t.Errorf("second process node: %v\n%s", err, second.Stderr)
	}
	waitGone(t, child)
}

// TestStatusIsWrittenAgain: a terminal status gets through in the end, though the
// API server refuses the first tries, and the process is started only once.
func TestStatusIsWrittenAgain(t *testing.T) {
	obj := newTestPod("retried", "echo started >> ../starts; exit 3")
	obj.UID = "uid-1"
	client := fake.NewClientset(obj)
	refused := 0
	client.PrependReactor("patch", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
		refused++
		return refused <= 2, nil, errors.New("the API server is away")
	})
	n := &node{
		cfg:    Config{Root: t.TempDir(), Images: map[string]string{testImage: t.TempDir()}},
		client: client, ip: "127.0.0.1", log: slog.New(slog.DiscardHandler),
	}
	ctx, cancel := context.WithCancel(t.Context())
	p := newPod(ctx, n, obj)
	done := make(chan struct{})
	go func() { p.run(ctx); close(done) }()
	waitFor(t, func() bool {
		got, err := client.Tracker().Get(corev1.SchemeGroupVersion.WithResource("pods"), "default", "retried")
		return err == nil && got.(*corev1.Pod).Status.Phase == corev1.PodFailed
	})
	cancel()
	<-done
	if starts, err := os.ReadFile(filepath.Join(p.dir, "containers/main/starts")); err != nil || string(starts) != "started\n" {
		t.Errorf("starts: %q, %v", starts, err)
	}
}
