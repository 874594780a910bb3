// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"batchcompute.dev/operator/api/v1alpha1"
)

func newJobs(t interface{ Fatal(...any) }) (*Jobs, *prometheus.Registry) {
	reg := prometheus.NewPedanticRegistry()
	m, err := NewJobs(reg)
	if err != nil {
		t.Fatal(err)
	}
	return m, reg
}

// values are the series of a registry that are not 0, with the values of their labels in the
// order of the labels' names; of a histogram, its count and sum.
func values(t interface{ Fatal(...any) }, reg prometheus.Gatherer) map[string]float64 {
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, s := range f.Metric {
			name := f.GetName()
			for _, l := range s.Label {
				name += " " + l.GetValue()
			}
			switch f.GetType() {
			case dto.MetricType_GAUGE:
				out[name] = s.Gauge.GetValue()
			case dto.MetricType_COUNTER:
				out[name] = s.Counter.GetValue()
			default:
				out[name+" count"], out[name+" sum"] = float64(s.Histogram.GetSampleCount()), s.Histogram.GetSampleSum()
			}
		}
	}
	maps.DeleteFunc(out, func(_ string, v float64) bool { return v == 0 })
	return out
}

func key(name string) types.NamespacedName { return types.NamespacedName{Namespace: "ns", Name: name} }

func TestGauges(t *testing.T) {
	m, reg := newJobs(t)
	m.Observe(key("a"), Snapshot{Instances: v1alpha1.StateMetrics{PendingCount: 1, RunnableCount: 2, StartingCount: 3, RunningCount: 4}, Unmade: 2})
	m.Observe(key("b"), Snapshot{Instances: v1alpha1.StateMetrics{RunningCount: 1, SucceedCount: 5, FailedCount: 6, FailedInterruptedCount: 7}, Held: 3})
	want := map[string]float64{
		"batchjob_task_instances PENDING": 1, "batchjob_task_instances RUNNABLE": 2, "batchjob_task_instances STARTING": 3,
		"batchjob_task_instances RUNNING": 5, "batchjob_task_instances SUCCEED": 5, "batchjob_task_instances FAILED": 6,
		"batchjob_task_instances FAILED_INTERRUPTED": 7, "batchjob_claims_without_pod": 2, "batchjob_finished_pods_held": 3,
	}
	if diff := cmp.Diff(want, values(t, reg)); diff != "" {
		t.Errorf("two jobs (-want +got):\n%s", diff)
	}
	m.Observe(key("a"), Snapshot{Instances: v1alpha1.StateMetrics{SucceedCount: 10}})
	m.Forget(key("b"))
	m.Forget(key("never seen"))
	if diff := cmp.Diff(map[string]float64{"batchjob_task_instances SUCCEED": 10}, values(t, reg)); diff != "" {
		t.Errorf("one job, which continued (-want +got):\n%s", diff)
	}
	m.Forget(key("a"))
	if got := values(t, reg); len(got) > 0 {
		t.Errorf("no job: %v", got)
	}
}

// Whatever is observed and forgotten in whatever order, the gauges are the sums over the
// last snapshots.
func TestPropertyGauges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, reg := newJobs(t)
		last := map[types.NamespacedName]Snapshot{}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			k := key(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "job"))
			if rapid.Bool().Draw(t, "forget") {
				m.Forget(k)
				delete(last, k)
				continue
			}
			draw := func(what string) int64 { return rapid.Int64Range(0, 100_000).Draw(t, what) }
			s := Snapshot{Instances: v1alpha1.StateMetrics{PendingCount: draw("pending"), RunningCount: draw("running")}, Held: int(draw("held"))}
			m.Observe(k, s)
			last[k] = s
		}
		want := map[string]float64{}
		for _, s := range last {
			want["batchjob_task_instances PENDING"] += float64(s.Instances.PendingCount)
			want["batchjob_task_instances RUNNING"] += float64(s.Instances.RunningCount)
			want["batchjob_finished_pods_held"] += float64(s.Held)
		}
		maps.DeleteFunc(want, func(_ string, v float64) bool { return v == 0 })
		if diff := cmp.Diff(want, values(t, reg)); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

func TestCounters(t *testing.T) {
	m, reg := newJobs(t)
	m.Wrote("create", "pods", nil)
	m.Wrote("create", "pods", nil)
	m.Wrote("guess", "nodes", nil)
	m.Retried(BudgetMachine, v1alpha1.ReasonEvicted, 3)
	m.Retried(BudgetMachine, v1alpha1.ReasonEvicted, 0)
	m.Retried(BudgetMachine, v1alpha1.ReasonEvicted, -1)
	m.Retried("unknown budget", "a sentence of the kubelet", 1)
	m.Ended("SUCCEED", 1, 100)
	m.Ended("FAILED", 0, 2)
	m.Ended("RUNNING", 1, -1)
	m.StatusBytes(600 << 10)
	m.DependenceLatency(1500 * time.Millisecond)
	m.DependenceLatency(-time.Hour)
	want := map[string]float64{
		"batchjob_api_writes_total pods ok create": 2, "batchjob_api_writes_total other ok other": 1,
		"batchjob_task_instance_retries_total machine Evicted": 3, "batchjob_task_instance_retries_total other other": 1,
		"batchjob_jobs_ended_total SUCCEED": 1, "batchjob_jobs_ended_total other": 1,
		"batchjob_task_instances_ended_total SUCCEED": 100, "batchjob_task_instances_ended_total FAILED": 2,
		"batchjob_status_size_bytes count": 1, "batchjob_status_size_bytes sum": 600 << 10,
		"batchjob_dependence_latency_seconds count": 2, "batchjob_dependence_latency_seconds sum": 1.5,
	}
	if diff := cmp.Diff(want, values(t, reg)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestResultOfWrites(t *testing.T) {
	pods := schema.GroupResource{Resource: "pods"}
	internal := func(text string) error { return apierrors.NewInternalError(errors.New(text)) }
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"none":               {nil, "ok"},
		"conflict":           {apierrors.NewConflict(pods, "p", nil), "conflict"},
		"not found":          {apierrors.NewNotFound(pods, "p"), "notfound"},
		"gone":               {&apierrors.StatusError{ErrStatus: metav1.Status{Code: http.StatusGone, Reason: metav1.StatusReasonGone}}, "notfound"},
		"exists":             {apierrors.NewAlreadyExists(pods, "p"), "exists"},
		"quota":              {apierrors.NewForbidden(pods, "p", errors.New("exceeded quota: q")), "refused"},
		"invalid":            {apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, "p", nil), "refused"},
		"bad request":        {apierrors.NewBadRequest("LimitRange"), "refused"},
		"unauthorized":       {apierrors.NewUnauthorized("token"), "refused"},
		"429":                {apierrors.NewTooManyRequests("later", 1), "throttled"},
		"413":                {apierrors.NewRequestEntityTooLargeError("limit is 3145728"), "toolarge"},
		"etcd":               {internal("etcdserver: request is too large"), "toolarge"},
		"gRPC":               {internal("rpc error: code = ResourceExhausted desc = trying to send message larger than max (2 vs. 1)"), "toolarge"},
		"internal":           {internal("no leader"), "error"},
		"timeout":            {apierrors.NewServerTimeout(pods, "create", 1), "error"},
		"no answer":          {errors.New("connection refused"), "error"},
		"wrapped":            {fmt.Errorf("storing the status: %w", apierrors.NewConflict(pods, "p", nil)), "conflict"},
		"wrapped, too large": {fmt.Errorf("storing the status: %w", internal("etcdserver: request is too large")), "toolarge"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := resultOf(tc.err); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
			if !slices.Contains(results, tc.want) {
				t.Errorf("%q is not in the closed set", tc.want)
			}
		})
	}
}

func TestNilCountsNothing(*testing.T) {
	var m *Jobs
	m.Observe(key("a"), Snapshot{})
	m.Forget(key("a"))
	m.Wrote("create", "pods", nil)
	m.StatusBytes(1)
	m.DependenceLatency(1)
	m.Retried(BudgetCommand, v1alpha1.ReasonTimeout, 1)
	m.Ended("FAILED", 1, 1)
}

func TestRegisteredOnce(t *testing.T) {
	_, reg := newJobs(t)
	var already prometheus.AlreadyRegisteredError
	if m, err := NewJobs(reg); m != nil || !errors.As(err, &already) {
		t.Errorf("%v, %v", m, err)
	}
}

// Many goroutines may use a Jobs, and what they leave adds up. Most of the worth of this
// test is under the race detector.
func TestConcurrentUse(t *testing.T) {
	m, reg := newJobs(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 200 {
				m.Observe(key(fmt.Sprint(i)), Snapshot{Unmade: n})
				m.Wrote("patch", "pods", nil)
			}
			if i%2 == 0 {
				m.Forget(key(fmt.Sprint(i)))
			}
		})
	}
	wg.Wait()
	want := map[string]float64{"batchjob_claims_without_pod": 4 * 199, "batchjob_api_writes_total pods ok patch": 8 * 200}
	if diff := cmp.Diff(want, values(t, reg)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// full has every series that there can be, without those of mistakes.
func full(t *testing.T) *prometheus.Registry {
	m, reg := newJobs(t)
	for _, verb := range verbs {
		for _, resource := range resources {
			for _, result := range results {
				m.writes.WithLabelValues(verb, resource, result)
			}
		}
	}
	for _, budget := range budgets {
		for _, reason := range retryReasons {
			m.Retried(budget, reason, 1)
		}
	}
	if _, err := NewCatalog(reg); err != nil {
		t.Fatal(err)
	}
	if _, err := NewNotifications(reg); err != nil {
		t.Fatal(err)
	}
	if _, err := NewEnvs(reg); err != nil {
		t.Fatal(err)
	}
	return reg
}

func TestNamesFollowTheConventions(t *testing.T) {
	problems, err := testutil.GatherAndLint(full(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// The table of docs/metrics.md has every metric that is registered, with its type and its
// labels' values, and no other. Those of the gateway are another program's, whose package has its own test.
func TestDocument(t *testing.T) {
	families, err := full(t).Gather()
	if err != nil {
		t.Fatal(err)
	}
	registered := map[string]string{}
	for _, f := range families {
		registered[f.GetName()] = strings.ToLower(f.GetType().String()) + " " + labelsOf(f)
	}
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, line := range strings.Split(string(text), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) < 6 || !strings.HasPrefix(line, "| `batchjob_") || strings.HasPrefix(line, "| `batchjob_gateway_") {
			continue
		}
		var labels []string
		for _, part := range strings.Split(strings.TrimSpace(cells[3]), "<br>") {
			if label, list, ok := strings.Cut(strings.ReplaceAll(part, "`", ""), ": "); ok {
				labels = append(labels, label+"="+strings.Join(slices.Sorted(slices.Values(strings.Fields(list))), ","))
			}
		}
		slices.Sort(labels)
		documented[strings.Trim(cells[1], " `")] = strings.TrimSpace(cells[2]) + " " + strings.Join(labels, " ")
	}
	if diff := cmp.Diff(registered, documented); diff != "" {
		t.Errorf("docs/metrics.md (-registered +documented):\n%s", diff)
	}
}

// labelsOf are the labels of a family, each with all its values, sorted.
func labelsOf(f *dto.MetricFamily) string {
	values := map[string]map[string]bool{}
	for _, s := range f.Metric {
		for _, l := range s.Label {
			if values[l.GetName()] == nil {
				values[l.GetName()] = map[string]bool{}
			}
			values[l.GetName()][l.GetValue()] = true
		}
	}
	var out []string
	for _, label := range slices.Sorted(maps.Keys(values)) {
		out = append(out, label+"="+strings.Join(slices.Sorted(maps.Keys(values[label])), ","))
	}
	return strings.Join(out, " ")
}

// Every metric that the alerts and the document's queries ask for is there, under the name
// that a histogram's parts have.
func TestQueriesAskForWhatIsThere(t *testing.T) {
	families, err := full(t).Gather()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, f := range families {
		if f.GetType() != dto.MetricType_HISTOGRAM {
			known[f.GetName()] = true
			continue
		}
		for _, part := range []string{"_bucket", "_count", "_sum"} {
			known[f.GetName()+part] = true
		}
	}
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```promql\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	alerts := alertExpressions(t)
	if len(blocks) == 0 || len(alerts) < 4 {
		t.Fatalf("%d blocks of queries and %d alerts", len(blocks), len(alerts))
	}
	for _, b := range blocks {
		alerts = append(alerts, b[1])
	}
	for _, expr := range alerts {
		for _, name := range regexp.MustCompile(`\bbatchjob_\w+`).FindAllString(expr, -1) {
			if !known[name] {
				t.Errorf("%s is not there: %s", name, expr)
			}
		}
		if strings.Count(expr, "(") != strings.Count(expr, ")") || strings.Count(expr, `"`)%2 != 0 {
			t.Errorf("brackets or quotes do not match: %s", expr)
		}
	}
}

func alertExpressions(t *testing.T) []string {
	text, err := os.ReadFile("../../config/prometheus/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var rule struct {
		Spec struct {
			Groups []struct {
				Name  string
				Rules []struct {
					Alert, Expr, For    string
					Labels, Annotations map[string]string
				}
			}
		}
	}
	if err := yaml.Unmarshal(text, &rule); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, g := range rule.Spec.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" || r.Expr == "" || r.For == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" {
				t.Errorf("alert %q is not complete", r.Alert)
			}
			out = append(out, r.Expr)
		}
	}
	return out
}
