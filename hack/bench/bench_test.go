// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"batchcompute.dev/operator/api/v1alpha1"
)

func TestShapes(t *testing.T) {
	want := map[string]int{
		"S1-1000": 1000, "S1-2000": 2000, "S1-10000": 10_000, "S2": 3000, "S3": 500, "S4": 2000, "S5": 50, "S6": 100_000, "S8": 9000,
	}
	for _, s := range shapes(false) {
		if s.total() != want[s.name] {
			t.Errorf("%s: got %d instances, want %d", s.name, s.total(), want[s.name])
		}
		for n, task := range s.tasks {
			for _, before := range task.after {
				if before < 0 || before >= n {
					t.Errorf("%s: task %d waits for %d", s.name, n, before)
				}
			}
		}
	}
}

func TestLayers(t *testing.T) {
	var got [][]int
	for _, task := range layers([]int{1, 2, 2, 1}, all) {
		got = append(got, task.after)
	}
	if want := [][]int{nil, {0}, {0}, {1, 2}, {1, 2}, {3, 4}}; !reflect.DeepEqual(got, want) {
		t.Errorf("all: got %v, want %v", got, want)
	}
	got = nil
	for _, task := range layers([]int{3, 3}, next) {
		got = append(got, task.after)
	}
	if want := [][]int{nil, nil, nil, {0, 1}, {1, 2}, {2, 0}}; !reflect.DeepEqual(got, want) {
		t.Errorf("next: got %v, want %v", got, want)
	}
}

func TestHops(t *testing.T) {
	h := newHops(shape{jobs: 2, tasks: layers([]int{1, 2, 1}, all)})
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	h.made("a", 0, at(0))
	h.end("a", 0, at(10))
	h.made("a", 1, at(15))
	h.made("a", 2, at(17))
	h.made("b", 0, at(18))
	h.end("a", 1, at(20))
	h.end("a", 2, at(30))
	h.made("a", 3, at(31))
	h.made("a", 3, at(40)) // another attempt is no hop
	want := []time.Duration{5 * time.Millisecond, 7 * time.Millisecond, time.Millisecond}
	if !reflect.DeepEqual(h.times, want) {
		t.Errorf("got %v, want %v", h.times, want)
	}
	if h.end("a", 3, at(50)) {
		t.Error("the other job has not ended")
	}
	for n := range 4 {
		if last := h.end("b", n, at(60)); last != (n == 3) {
			t.Errorf("task %d: got %v for the last", n, last)
		}
	}
}

func TestCountWrites(t *testing.T) {
	const metrics = `# HELP apiserver_request_total Counter
apiserver_request_total{code="201",resource="pods",subresource="",verb="POST"} 100
apiserver_request_total{code="409",resource="pods",subresource="",verb="POST"} 2
apiserver_request_total{code="201",resource="pods",subresource="binding",verb="POST"} 100
apiserver_request_total{code="200",resource="pods",subresource="status",verb="PATCH"} 200
apiserver_request_total{code="200",resource="pods",subresource="",verb="PATCH"} 1e+02
apiserver_request_total{code="200",resource="pods",subresource="",verb="DELETE"} 3
apiserver_request_total{code="200",resource="pods",subresource="",verb="LIST"} 7
apiserver_request_total{code="201",resource="batchjobs",subresource="",verb="POST"} 9
apiserver_request_total{code="200",resource="batchjobs",subresource="status",verb="PATCH"} 5
apiserver_request_total{code="200",resource="batchjobs",subresource="status",verb="GET"} 5
`
	if got, want := countWrites(metrics), (writes{creates: 102, patches: 100, deletes: 3, statuses: 5}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	after := spent{cpu: 3 * time.Second, writes: countWrites(metrics)}
	if got := costOf(spent{cpu: time.Second}, after, 1); got.CPUEach != 2000 || got.writes() != 210 {
		t.Errorf("got %+v", got)
	}
}

func TestProcess(t *testing.T) {
	pid, parent, used, err := process("42 (a (strange) name) S 7 42 42 0 -1 4194560 900 0 0 0 150 25 0 0 20 0 9 0")
	if err != nil || pid != 42 || parent != 7 || used != 1750*time.Millisecond {
		t.Errorf("got %d, %d, %s, %v", pid, parent, used, err)
	}
	if _, _, _, err := process("42 (short) S 1"); err == nil {
		t.Error("got no error")
	}
}

// TestUsed: what a process that was started uses is counted with the one that started it.
func TestUsed(t *testing.T) {
	child := exec.CommandContext(t.Context(), "sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo; read line")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close(); _ = child.Wait() }()
	if _, err := out.Read(make([]byte, 1)); err != nil { // it has worked, and waits
		t.Fatal(err)
	}
	b := &bench{processes: map[string]int{"this": os.Getpid(), "child": child.Process.Pid}}
	parts, err := b.used()
	if err != nil || parts["child"] == 0 {
		t.Fatalf("got %v, %v", parts, err)
	}
	delete(b.processes, "child")
	whole, err := b.used()
	if err != nil || len(whole) != 1 || whole["this"] < parts["this"]+parts["child"] {
		t.Errorf("got %v, %v; before %v", whole, err, parts)
	}
}

func TestSpreadAndPercentile(t *testing.T) {
	if got, want := spreadOf([]float64{4, 1, 3, 2}), (spread{2.5, 1, 4}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	var values []time.Duration
	for n := range 200 {
		values = append(values, time.Duration(200-n))
	}
	for percent, want := range map[int]time.Duration{50: 100, 99: 198, 100: 200} {
		if got := percentile(values, percent); got != want {
			t.Errorf("%d: got %d, want %d", percent, got, want)
		}
	}
	if got := percentile(values[:3], 99); got != 200 {
		t.Errorf("of three: got %d, want 200", got)
	}
}

// measured are rounds in which the machine is ever slower, and ours at 0.9 of floor2.
func measured() (results []result) {
	for round, slow := range []float64{1, 2, 4} {
		for _, r := range []result{
			{Subject: floor, Seconds: 8}, {Subject: floor2, Seconds: 9}, {Subject: job, Seconds: 20},
			{Subject: ours, Seconds: 10, Cost: &cost{CPUEach: 2, Creates: 1, Patches: 1, Statuses: 0.05}},
		} {
			r.Round, r.Shape, r.Instances, r.Seconds = round, "S1-2000", 2000, r.Seconds*slow
			results = append(results, r)
		}
	}
	return append(results, result{Shape: "S6", Subject: ours, Error: "never ends"})
}

func TestRowsCompareWithinRounds(t *testing.T) {
	list := rows(measured())
	if len(list) != 4 {
		t.Fatalf("got %d rows, want 4: what failed has none", len(list))
	}
	got := list[3]
	if got.Subject != ours || got.OfFloor2.Median != 0.9 || got.OfFloor2.Min != 0.9 || got.OfJob.Median != 2 || got.Seconds != (spread{20, 10, 40}) {
		t.Errorf("got %+v", got)
	}
	if list[1].OfFloor2 != nil || list[0].CPU != nil || got.HopP50 != nil {
		t.Error("what was not measured has a value")
	}
}

func TestBars(t *testing.T) {
	results := measured()
	got := map[string]string{}
	for _, b := range barsOf(rows(results), []figure{{Name: livePod, Value: 4000}, {Name: restart, Value: 5}}, results) {
		got[b.Name] = b.Verdict
	}
	for name, want := range map[string]string{
		"S1-2000: rate, of floor2's":        met,
		"S1-2000: writes for each instance": met,
		"S1-10000: rate, of floor2's":       notMeasured,
		"S6: ends":                          notMet,
		"S6: status":                        notMeasured,
		livePod:                             notMet,
		finishedJob:                         notMeasured,
		restart:                             met,
	} {
		if got[name] != want {
			t.Errorf("%s: got %q, want %q", name, got[name], want)
		}
	}
}

func TestVerdict(t *testing.T) {
	list := []row{
		{Shape: "S1-400", Subject: ours, OfFloor2: &spread{Median: 0.9}},
		{Shape: "S4-200", Subject: ours, OfFloor2: &spread{Median: 0.1}},
	}
	if err := verdict(list); err == nil || strings.Contains(err.Error(), "S1-400") || !strings.Contains(err.Error(), "S4-200") {
		t.Errorf("got %v", err)
	}
}

func TestChartIsXML(t *testing.T) {
	d := xml.NewDecoder(bytes.NewReader(chart(rows(measured()))))
	bars := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			bars++
		}
	}
	if bars != 5 { // and the background
		t.Errorf("got %d rectangles, want 5", bars)
	}
	if got := string(chart(nil)); strings.Contains(got, "NaN") {
		t.Errorf("got %s", got)
	}
}

func TestReport(t *testing.T) {
	var out bytes.Buffer
	results := measured()
	list := rows(results)
	report(&out, list, []figure{{Name: livePod, Value: 4000, Unit: "B"}}, barsOf(list, nil, results))
	for _, want := range []string{"S1-2000  ours    2000       20.00", "0.90", "2.05", "heap for each live Pod  4000 B", "not measured"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, &out)
		}
	}
}

func TestProberCountsWhoWaits(t *testing.T) {
	start := time.Now().Add(-time.Minute)
	p := &prober{cancel: func() {}, jobs: newWaits(), bare: newWaits(), made: map[types.UID]bool{}}
	p.jobs.started["served"], p.jobs.started["waiting"] = start, start
	p.bare.started["bare"] = start
	pod := func(name, job string) *corev1.Pod {
		out := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}}
		if job != "" {
			out.Annotations = map[string]string{v1alpha1.AnnotationJobName: job}
		}
		return out
	}
	p.saw(pod("first", "served"), start.Add(time.Second))
	p.saw(pod("second", "served"), start.Add(2*time.Second))
	p.saw(pod("bare", ""), start.Add(3*time.Second))
	jobs, bare := p.stop()
	if least := percentile(jobs, 50); least != time.Second || len(jobs) != 2 || percentile(jobs, 100) < time.Minute {
		t.Errorf("jobs: got %v", jobs)
	}
	if len(bare) != 1 || bare[0] != 3*time.Second {
		t.Errorf("bare Pods: got %v, want 3 s", bare)
	}
	if p.pods() != 2 {
		t.Errorf("got %d Pods, want 2", p.pods())
	}
}
