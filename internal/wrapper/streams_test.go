// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wrapper

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"batchcompute.dev/operator/internal/agentapi"
)

var streamBytes = flag.Int64("wrapper.bytes", 16<<20, "how much output TestStreams has")

// hashOf returns the SHA-256 and the end of n bytes of a stream.
func hashOf(t *testing.T, r io.Reader, n int64) (string, []byte) {
	t.Helper()
	h, tail := sha256.New(), bytes.NewBuffer(nil)
	keep := min(n, 2*agentapi.MaxTail)
	if _, err := io.CopyN(h, r, n-keep); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.MultiWriter(h, tail), r, keep); err != nil {
		t.Fatal(err)
	}
	if n, _ := io.Copy(io.Discard, io.LimitReader(r, 1)); n > 0 {
		if _, endless := r.(*noise); !endless {
			t.Errorf("a file has more than it should")
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil)), tail.Bytes()
}

// TestStreams copies much binary output, and checks every copy, the tails, and that memory does not grow with it.
func TestStreams(t *testing.T) {
	memory := map[int64]int{}
	for _, n := range []int64{1000, *streamBytes} {
		stdout, stderr := n, n/4
		p := newProcess(t, fmt.Sprintf(`%s=writer "$SELF" %d %d; grep VmHWM /proc/$PPID/status >"$DIR/memory"`, role, stdout, stderr), func(r *request) {
			dir := filepath.Dir(r.StateDir)
			r.LocalStdout, r.LocalStderr = filepath.Join(dir, "deep/down/out.log"), filepath.Join(dir, "err.log")
		})
		logs := [2]hash.Hash{sha256.New(), sha256.New()}
		p.Cmd.Stdout, p.Cmd.Stderr = logs[0], logs[1]
		if code := p.start().wait(); code != 0 {
			t.Fatalf("code %d", code)
		}
		for i, s := range []struct {
			size        int64
			name, local string
		}{{stdout, "stdout", p.dir + "/deep/down/out.log"}, {stderr, "stderr", p.dir + "/err.log"}} {
			want, wantTail := hashOf(t, newNoise(byte(i)), s.size)
			for _, path := range []string{filepath.Join(p.state, s.name), s.local} {
				f, err := os.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				if got, _ := hashOf(t, f, s.size); got != want {
					t.Errorf("%s differs from what the command wrote", path)
				}
				_ = f.Close()
			}
			if got := fmt.Sprintf("%x", logs[i].Sum(nil)); got != want {
				t.Errorf("the log of %s differs from what the command wrote", s.name)
			}
			if got := []string{p.told().Tail, p.ended().Tail}[i]; got != agentapi.CutTail(wantTail) {
				t.Errorf("the tail of %s is %q", s.name, got)
			}
		}
		var kib int
		if _, err := fmt.Sscanf(p.read(p.dir+"/memory"), "VmHWM: %d kB", &kib); err != nil {
			t.Fatal(err)
		}
		memory[n] = kib
	}
	t.Logf("%d MiB of stdout; memory %v KiB", *streamBytes>>20, memory)
	if more := memory[*streamBytes] - memory[1000]; more > 4<<10 {
		t.Errorf("%d KiB more memory for much output", more)
	}
}

// TestTails covers what the results have of the streams, where the streams are kept and where they are not.
func TestTails(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 300)
	for name, tc := range map[string]struct{ text, want string }{
		"nothing":            {"", ""},
		"no final newline":   {"a\nb", "a\nb"},
		"newlines":           {"\n\n", "\n\n"},
		"long":               {long + "\n", long[len(long)-agentapi.MaxTail+1:] + "\n"},
		"within a character": {"é" + long[:agentapi.MaxTail-1], long[:agentapi.MaxTail-1]},
		"binary":             {"a\x00\xff\xfe\nb\x80", "a\x00\uFFFD\nb\uFFFD"},
	} {
		for _, keep := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, kept %t", name, keep), func(t *testing.T) {
				p := newProcess(t, `cat "$DIR/text"; cat "$DIR/text" >&2`, func(r *request) {
					r.KeepStdout, r.KeepStderr = keep, keep
				})
				if err := os.WriteFile(p.dir+"/text", []byte(tc.text), 0o600); err != nil {
					t.Fatal(err)
				}
				if code := p.start().wait(); code != 0 {
					t.Fatalf("code %d", code)
				}
				if got := p.told().Tail; got != tc.want {
					t.Errorf("stdout %q, want %q", got, tc.want)
				}
				if got := p.ended().Tail; got != tc.want {
					t.Errorf("stderr %q, want %q", got, tc.want)
				}
				kept := p.read("stdout")
				if keep && kept != tc.text || !keep && (len(kept) > agentapi.MaxTail+1 || !strings.HasSuffix(tc.text, kept)) {
					t.Errorf("%d bytes are kept", len(kept))
				}
			})
		}
	}
	// The tail is there after the wrapper was killed, too: it has read the line that it passed on.
	p := newProcess(t, `echo last words >&2; read line <"$DIR/seen"; kill -9 $PPID; exec sleep 1000`, func(r *request) { r.KeepStderr = false })
	if err := unix.Mkfifo(p.dir+"/seen", 0o600); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Cmd.Stderr = w
	p.start()
	if _, err := io.ReadFull(r, make([]byte, len("last words\n"))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.dir+"/seen", []byte("seen\n"), 0); err != nil {
		t.Fatal(err)
	}
	if end := p.ended(); end.Tail != "last words\n" || end.Exit.Code != agentapi.ExitKilled {
		t.Errorf("%+v", end)
	}
	_ = w.Close()
}

// TestLogSlow checks that output is complete that nobody took before the time for the rest of it was over, and
// that a log that accepts nothing does not keep the container for ever.
func TestLogSlow(t *testing.T) {
	// This fills the log, and fits into it and the pipe to the wrapper.
	const size = 130_000
	script := fmt.Sprintf(`sleep 1000 & head -c %d /dev/zero | tr '\0' x; echo ended >"$DIR/ended"; exit 6`, size)
	pipe := func(p *process) (r, w *os.File) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		p.Cmd.Stdout = w
		return r, w
	}

	p := newProcess(t, script)
	r, w := pipe(p)
	ended := p.newFifo("ended")
	p.start()
	_ = w.Close()
	ended.expect("ended")
	time.Sleep(drainTime + 300*time.Millisecond) // if that is too short, the test passes without reason
	log, err := io.ReadAll(r)
	if code := p.wait(); code != 6 || err != nil || len(log) != size || len(p.read("stdout")) != size || p.ended().Exit.Incomplete != "" {
		t.Errorf("code %d, %v, %d bytes in the log, %d in the file, %+v", code, err, len(log), len(p.read("stdout")), p.ended().Exit)
	}

	p = newProcess(t, script, func(r *request) { r.LogTime = time.Second })
	r, w = pipe(p)
	defer r.Close()
	p.newFifo("ended")
	p.start()
	_ = w.Close()
	if code, end := p.wait(), p.ended(); code != 6 || end.Exit.Code != 6 || end.Exit.Incomplete != "stdout is not complete: the log or a file accepts nothing" {
		t.Errorf("code %d, %+v", code, end)
	}
}

// TestLogClosed checks that a log that nobody reads costs nothing but itself.
func TestLogClosed(t *testing.T) {
	p := newProcess(t, "seq 100000; seq 100000 >&2; exit 3")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	p.Cmd.Stdout, p.Cmd.Stderr = w, w
	if code := p.start().wait(); code != 3 {
		t.Fatalf("code %d", code)
	}
	end := p.ended()
	if end.Exit.Code != 3 || !strings.HasSuffix(end.Tail, "\n100000\n") || !strings.HasSuffix(p.read("stdout"), "\n100000\n") {
		t.Errorf("%+v", end)
	}
	for _, name := range []string{"stdout", "stderr"} {
		if want := name + " is not complete: write /dev/" + name + ": broken pipe"; !strings.Contains(end.Exit.Incomplete, want) {
			t.Errorf("%q, want %q", end.Exit.Incomplete, want)
		}
	}
}

// TestFileLimit checks that a file that cannot be written costs nothing but itself.
func TestFileLimit(t *testing.T) {
	const limit = 256 << 10
	p, code := run(t, `head -c 1000000 /dev/zero | tr '\0' x; echo end >&2; exit 3`, func(r *request) { r.FileLimit = limit })
	end := p.ended()
	if code != 3 || end.Exit.Code != 3 || end.Tail != "end\n" || p.stdout.Len() != 1000000 || len(p.read("stdout")) != limit {
		t.Errorf("code %d, %+v, %d bytes in the log, %d in the file", code, end, p.stdout.Len(), len(p.read("stdout")))
	}
	want := "stdout is not complete: write " + p.state + "/stdout: file too large"
	if end.Exit.Incomplete != want || p.told().Result.Message != want || p.told().Result.Class != "" || p.stderr.String() != "end\nagent: "+want+"\n" {
		t.Errorf("%q, %+v, log %q", end.Exit.Incomplete, p.told().Result, p.stderr.String())
	}
}

// TestDiskFull checks that a command that fills the disk of the state directory is reported truly.
func TestDiskFull(t *testing.T) {
	p := newProcess(t, `head -c 1000000 /dev/zero | tr '\0' x; cat /dev/zero >"$STATE/more"; echo end >&2; exit 3`, func(r *request) {
		r.Env = append(r.Env, "STATE="+r.StateDir)
	})
	if err := unix.Mount("tmpfs", p.state, "tmpfs", 0, "size=262144"); err != nil {
		t.Skip("a small disk cannot be mounted:", err)
	}
	defer func() { _ = unix.Unmount(p.state, unix.MNT_DETACH) }()
	code, end := p.start().wait(), p.ended()
	if code != 3 || end.Exit.Code != 3 || p.stdout.Len() != 1000000 || !strings.Contains(p.stderr.String(), "end\n") {
		t.Errorf("code %d, %+v, %d bytes in the log, %q", code, end, p.stdout.Len(), p.stderr.String())
	}
	for _, name := range []string{"stdout", "stderr"} {
		if want := name + " is not complete: write " + p.state + "/" + name + ": no space left on device"; !strings.Contains(end.Exit.Incomplete, want) {
			t.Errorf("%q, want %q", end.Exit.Incomplete, want)
		}
	}
	// A command is not started where its exit cannot be kept.
	if err := os.WriteFile(p.state+"/full", make([]byte, 1<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	for _, name := range []string{agentapi.StartedFile, agentapi.ExitFile, agentapi.StderrFile} {
		if err := os.Truncate(filepath.Join(p.state, name), 0); err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(filepath.Join(p.state, name))
		_ = os.WriteFile(p.state+"/full2", make([]byte, 1<<20), 0o600)
	}
	again := newProcess(t, "exit 0", func(r *request) { r.StateDir = p.state })
	if code := again.start().wait(); code != agentapi.ExitTransient || !strings.Contains(again.told().Result.Message, "no space left") {
		t.Errorf("code %d, %+v", code, again.told())
	}
}

// TestLocalFiles covers local redirects: paths that are shared, that exist, and that cannot be written.
func TestLocalFiles(t *testing.T) {
	const both = "echo out; echo err >&2; exit 3"
	for name, tc := range map[string]struct {
		stdout, stderr string
		incomplete     string
		want           string // in the file out
	}{
		"both to one":   {"out", "out", "", "err\nout\n"},
		"one exists":    {"old", "", "", ""},
		"below a file":  {"old/x", "", "stdout is not complete: mkdir", ""},
		"a directory":   {".", "", "is a directory", ""},
		"a closed FIFO": {"fifo", "", "no such device or address", ""},
		"a device":      {"/dev/null", "/dev/full", "stderr is not complete: write /dev/full: no space left on device", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProcess(t, both, func(r *request) {
				place := func(name string) string {
					if name == "" || filepath.IsAbs(name) {
						return name
					}
					return filepath.Join(filepath.Dir(r.StateDir), name)
				}
				r.LocalStdout, r.LocalStderr = place(tc.stdout), place(tc.stderr)
			})
			if err := os.WriteFile(p.dir+"/old", []byte("a long old text\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mkfifo(p.dir+"/fifo", 0o600); err != nil {
				t.Fatal(err)
			}
			code, end := p.start().wait(), p.ended()
			if code != 3 || end.Exit.Code != 3 || !strings.Contains(end.Exit.Incomplete, tc.incomplete) || tc.incomplete == "" && end.Exit.Incomplete != "" {
				t.Errorf("code %d, %+v", code, end)
			}
			if p.read("stdout") != "out\n" || p.read("stderr") != "err\n" || p.stdout.String() != "out\n" {
				t.Errorf("stdout %q, stderr %q", p.read("stdout"), p.read("stderr"))
			}
			switch {
			case tc.stdout == "old" && p.read(p.dir+"/old") != "out\n":
				t.Errorf("%q", p.read(p.dir+"/old"))
			case tc.want != "":
				if got := p.read(p.dir + "/out"); got != tc.want && got != "out\nerr\n" {
					t.Errorf("%q", got)
				}
			}
		})
	}
}
