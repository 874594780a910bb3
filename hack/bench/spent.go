// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/hack/internal/install"
)

// spent is what the manager has used of the processor since it began, and what has been
// written to the API server since that began.
type spent struct {
	cpu time.Duration
	writes
}

// writes are those that only the operator does, while no other subject is at work: others
// bind Pods and write their status.
type writes struct{ creates, patches, deletes, statuses float64 }

func (b *bench) spent(ctx context.Context) (s spent, err error) {
	used, err := b.used()
	if err != nil {
		return s, err
	}
	s.cpu = used[install.ManagerPart]
	text, err := b.api.Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return s, fmt.Errorf("reading the API server's metrics: %w", err)
	}
	s.writes = countWrites(string(text))
	return s, nil
}

// used is how much of the processor each program has used since it began, with the processes
// that it started: the cluster keeps some programs by a process of its own.
func (b *bench) used() (map[string]time.Duration, error) {
	names := map[int]string{}
	for name, pid := range b.processes {
		names[pid] = name
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	parents, times := map[int]int{}, map[int]time.Duration{}
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		pid, parent, t, err := process(string(stat))
		if err != nil {
			return nil, err
		}
		parents[pid], times[pid] = parent, t
	}
	used := map[string]time.Duration{}
	for pid, t := range times {
		for p := pid; p > 0; p = parents[p] {
			if name, ok := names[p]; ok {
				used[name] += t
				break
			}
		}
	}
	return used, nil
}

// process reads /proc/PID/stat. The name in it, in brackets, may have spaces.
func process(stat string) (pid, parent int, used time.Duration, err error) {
	id, rest, _ := strings.Cut(stat, " ")
	fields := append([]string{id}, strings.Fields(rest[strings.LastIndex(rest, ")")+1:])...)
	if len(fields) < 14 {
		return 0, 0, 0, errors.New("what the kernel says of a process is too short")
	}
	var numbers [4]int
	for i, at := range []int{0, 2, 12, 13} { // utime and stime are in hundredths of a second
		if numbers[i], err = strconv.Atoi(fields[at]); err != nil {
			return 0, 0, 0, err
		}
	}
	return numbers[0], numbers[1], time.Duration(numbers[2]+numbers[3]) * 10 * time.Millisecond, nil
}

var request = regexp.MustCompile(`(?m)^apiserver_request_total\{(.*)\} (\S+)$`)

// countWrites reads the API server's own counters, whatever the answer was.
func countWrites(metrics string) (w writes) {
	for _, m := range request.FindAllStringSubmatch(metrics, -1) {
		n, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			continue
		}
		has := func(label, value string) bool { return strings.Contains(m[1], label+`="`+value+`"`) }
		switch {
		case has("resource", "batchjobs") && has("subresource", "status"):
			if has("verb", "PATCH") || has("verb", "PUT") {
				w.statuses += n
			}
		case !has("resource", "pods") || !has("subresource", ""):
		case has("verb", "POST"):
			w.creates += n
		case has("verb", "PATCH"):
			w.patches += n
		case has("verb", "DELETE"):
			w.deletes += n
		}
	}
	return w
}

func costOf(before, after spent, instances int) cost {
	n := float64(instances)
	cpu := (after.cpu - before.cpu).Seconds()
	return cost{
		CPU: cpu, CPUEach: 1000 * cpu / n,
		Creates: (after.creates - before.creates) / n, Patches: (after.patches - before.patches) / n,
		Deletes: (after.deletes - before.deletes) / n, Statuses: (after.statuses - before.statuses) / n,
	}
}

// events counts how often the operator has written events of a namespace. The API server's
// counters do not tell them from the scheduler's, but events say who reports them: one is
// written once, and once more when it has become a series.
func (b *bench) events(ctx context.Context, namespace string) (n int, err error) {
	list := &corev1.EventList{}
	for first := true; first || list.Continue != ""; first = false {
		err := b.kube.List(ctx, list, client.InNamespace(namespace), client.Limit(500), client.Continue(list.Continue),
			client.MatchingFields{"reportingComponent": "batchjob-controller"})
		if err != nil {
			return 0, fmt.Errorf("listing events: %w", err)
		}
		for _, e := range list.Items {
			n++
			if e.Series != nil {
				n++
			}
		}
	}
	return n, nil
}

// forgetPeak resets the peak resident set size that the kernel keeps of a process.
func forgetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// peak returns the largest resident set that a process has had, in MiB.
func peak(pid int) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if kib, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseFloat(strings.Fields(kib)[0], 64)
			return n / 1024, err
		}
	}
	return 0, fmt.Errorf("process %d has no resident set", pid)
}

var heapAlloc = regexp.MustCompile(`(?m)^# HeapAlloc = (\d+)$`)

// heap is how many bytes of the manager's heap are in use, after a collection of garbage. The
// second finds what the first left to finalizers and pools.
func (b *bench) heap(ctx context.Context) (n float64, err error) {
	for range 2 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.profiles+"/debug/pprof/heap?gc=1&debug=1", nil)
		if err != nil {
			return 0, err
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, fmt.Errorf("asking the manager for its heap: %w", err)
		}
		text, err := io.ReadAll(res.Body)
		if err := errors.Join(err, res.Body.Close()); err != nil {
			return 0, fmt.Errorf("reading the manager's heap: %w", err)
		}
		m := heapAlloc.FindSubmatch(text)
		if m == nil {
			return 0, errors.New("the manager does not say how large its heap is")
		}
		if n, err = strconv.ParseFloat(string(m[1]), 64); err != nil {
			return 0, err
		}
	}
	return n, nil
}
