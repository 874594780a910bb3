// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// startScript runs a shell script as a container's process would be. The channel
// gives its exit code.
func startScript(t *testing.T, dir, script string) (*process, <-chan int32) {
	t.Helper()
	s := newStarter()
	t.Cleanup(s.close)
	log, err := s.logs.create(filepath.Join(dir, "0.log"))
	if err != nil {
		t.Fatal(err)
	}
	exits := make(chan int32, 1)
	cmd := command{path: "/bin/sh", args: []string{"sh", "-c", script}, env: []string{"PATH=" + os.Getenv("PATH")}, dir: dir}
	p, err := s.start(cmd, log, func(code int32) { exits <- code })
	if err != nil {
		t.Fatal(err)
	}
	return p, exits
}

func TestExitCodes(t *testing.T) {
	for script, want := range map[string]int32{"exit 0": 0, "exit 3": 3, "kill -9 $$": 137, "kill -TERM $$": 143} {
		if _, exits := startScript(t, t.TempDir(), script); <-exits != want {
			t.Errorf("%s: not %d", script, want)
		}
	}
}

func TestProcessSurroundings(t *testing.T) {
	dir := t.TempDir()
	p, exits := startScript(t, dir, `pwd -P; echo err >&2; cat; ps -o sid= -p $$; unset PWD OLDPWD SHLVL _; env`)
	<-exits
	var out bytes.Buffer
	if err := readLog(t.Context(), filepath.Join(dir, "0.log"), nil, logOptions{tail: -1}, &out, func() {}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if real, _ := filepath.EvalSymlinks(dir); len(lines) != 4 || lines[0] != real || lines[1] != "err" ||
		lines[3] != "PATH="+os.Getenv("PATH") {
		t.Errorf("output of process %d: %q", p.pid, lines)
	}
}

// The end of the first process is the end of all, though one ignores signals.
func TestGroupEndsWithFirstProcess(t *testing.T) {
	dir := t.TempDir()
	_, exits := startScript(t, dir, `(trap "" TERM; sleep 1000) & echo $! > pid; exit 7`)
	if code := <-exits; code != 7 {
		t.Errorf("exit code %d", code)
	}
	waitGone(t, readPid(t, filepath.Join(dir, "pid")))
}

func TestKillGroup(t *testing.T) {
	dir := t.TempDir()
	p, exits := startScript(t, dir, "sleep 1000 & echo $! > pid; wait")
	child := readPid(t, filepath.Join(dir, "pid"))
	killGroup(p.pid, syscall.SIGKILL)
	if code := <-exits; code != 137 {
		t.Errorf("exit code %d", code)
	}
	waitGone(t, child)
}

func TestFindProgram(t *testing.T) {
	image, path := t.TempDir(), t.TempDir()
	writeProgram(t, filepath.Join(image, "bin", "tool"), "")
	writeProgram(t, filepath.Join(image, "manager"), "")
	writeProgram(t, filepath.Join(path, "tool"), "")
	if err := os.WriteFile(filepath.Join(path, "data"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
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
		"data":  `exec: "data": permission denied`,
	} {
		if _, err := findProgram(name, image, path); err == nil || err.Error() != want {
			t.Errorf("%s: got error %v, want %s", name, err, want)
		}
	}
}

func TestKillLeftover(t *testing.T) {
	run := func(script string, env ...string) (*exec.Cmd, record) {
		t.Helper()
		cmd := exec.Command("/bin/sh", "-c", script)
		cmd.Env = append(os.Environ(), env...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		start, err := startTime(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		return cmd, record{Pid: cmd.Process.Pid, Start: start, State: running().State}
	}
	t.Run("ours", func(t *testing.T) {
		cmd, r := run("sleep 1000")
		killLeftover(r, "uid-1")
		if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
			t.Errorf("it ended with %v", err)
		}
	})
	t.Run("another process with the pid, or a container that ended", func(t *testing.T) {
		cmd, r := run("sleep 1000")
		other := r
		other.Start = "1.other"
		killLeftover(other, "uid-1")
		other = r
		other.State = ended(0).State
		killLeftover(other, "uid-1")
		time.Sleep(20 * time.Millisecond)
		if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
			t.Errorf("a process that isn't ours was killed: %v", err)
		}
		killGroup(r.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	for name, tc := range map[string]struct {
		env        string
		wantKilled bool
	}{
		"group whose first process ended": {uidVariable + "=uid-1", true},
		"group with another uid":          {uidVariable + "=uid-12", false},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := os.Stat("/proc/self/environ"); err != nil {
				t.Skip("only Linux shows the environment of other processes")
			}
			file := filepath.Join(t.TempDir(), "pid")
			cmd, r := run("sleep 1000 & echo $! > "+file, tc.env)
			child := readPid(t, file)
			_ = cmd.Wait()
			killLeftover(r, "uid-1")
			if tc.wantKilled {
				waitGone(t, child)
				return
			}
			time.Sleep(20 * time.Millisecond)
			if err := syscall.Kill(child, syscall.SIGKILL); err != nil {
				t.Errorf("a process that isn't ours was killed: %v", err)
			}
		})
	}
}

func TestLoadContainer(t *testing.T) {
	spec := &corev1.Container{Name: "main"}
	statuses := []corev1.ContainerStatus{{Name: "other", State: ended(1).State}, {Name: "main", State: running().State, RestartCount: 2}}
	for name, tc := range map[string]struct {
		stored     *record
		statuses   []corev1.ContainerStatus
		wantReason string
		wantCode   int32
	}{
		"new":                               {},
		"stored as running":                 {stored: running(), wantReason: "ContainerStatusUnknown", wantCode: 137},
		"only the API says running":         {statuses: statuses, wantReason: "ContainerStatusUnknown", wantCode: 137},
		"ended, and the API doesn't know":   {stored: ended(3), statuses: statuses, wantCode: 3},
		"the API says ended, nothing store": {statuses: []corev1.ContainerStatus{{Name: "main", State: ended(4).State}}, wantCode: 4},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if tc.stored != nil {
				c := container{record: *tc.stored, dir: filepath.Join(dir, "containers", "main")}
				if err := os.MkdirAll(c.dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := c.save(); err != nil {
					t.Fatal(err)
				}
			}
			c, err := loadContainer(dir, spec, tc.statuses)
			if err != nil {
				t.Fatal(err)
			}
			end := c.State.Terminated
			if end == nil {
				end = &corev1.ContainerStateTerminated{}
			}
			if end.Reason != tc.wantReason || end.ExitCode != tc.wantCode {
				t.Errorf("got %+v", c.State)
			}
		})
	}
}

func TestBackOff(t *testing.T) {
	var got []time.Duration
	for tries := range 7 {
		got = append(got, backOff(10*time.Second, tries)/time.Second)
	}
	for i, want := range []time.Duration{10, 20, 40, 80, 160, 300, 300} {
		if got[i] != want {
			t.Errorf("back-off: %v", got)
			break
		}
	}
	if backOff(time.Second, 1000) != maxBackOff {
		t.Error("the back-off overflows")
	}
}

func TestImageBackOff(t *testing.T) {
	c := container{spec: &corev1.Container{Image: "x:1"}}
	cfg := Config{Root: t.TempDir()}
	now := testTime.Time
	var got []string
	for range 5 { // each time it asks to be looked at
		c.findImage(cfg, now)
		got = append(got, c.State.Waiting.Reason+" at "+now.Sub(testTime.Time).String())
		now = c.notBefore
	}
	want := "ErrImagePull at 0s, ImagePullBackOff at 2s, ErrImagePull at 10s, ImagePullBackOff at 12s, ErrImagePull at 30s"
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("got %s, want %s", s, want)
	}
	if c.State.Waiting.Message != `failed to pull image "x:1": not found: the process node has no directory for it` {
		t.Errorf("message: %s", c.State.Waiting.Message)
	}
}

func TestRecordSurvives(t *testing.T) {
	c := container{dir: t.TempDir(), record: record{Pid: 1, Start: "2.x", Restarts: 3, State: ended(0).State}}
	c.State.Terminated.FinishedAt = metav1.NewTime(testTime.Local())
	if err := c.save(); err != nil {
		t.Fatal(err)
	}
	got, err := readRecord(c.dir)
	if err != nil || got.id() != c.id() || !got.done() || !got.State.Terminated.FinishedAt.Equal(&c.State.Terminated.FinishedAt) {
		t.Errorf("got %+v, %v", got, err)
	}
}
