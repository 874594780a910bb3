// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"pgregory.net/rapid"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/proof"
)

// drawSpec draws any spec: every field absent, empty or filled, lists of up to 3 items.
func drawSpec(t *rapid.T) *v1alpha1.BatchJobSpec {
	spec := &v1alpha1.BatchJobSpec{}
	fill(t, reflect.ValueOf(spec).Elem())
	return spec
}

func fill(t *rapid.T, v reflect.Value) {
	if v.Type() == reflect.TypeFor[resource.Quantity]() {
		q := rapid.SampledFrom([]string{"0", "1", "-1", "1500m", "2Gi", "1e30", "0.0000000001"}).Draw(t, "quantity")
		v.Set(reflect.ValueOf(resource.MustParse(q)))
		return
	}
	switch v.Kind() {
	case reflect.Map:
		for range rapid.IntRange(0, 3).Draw(t, "entries") {
			if v.IsNil() {
				v.Set(reflect.MakeMap(v.Type()))
			}
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(t, key)
			fill(t, value)
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case reflect.Pointer:
		if rapid.Bool().Draw(t, "given") {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem())
		}
	case reflect.Slice:
		if n := rapid.IntRange(-1, 3).Draw(t, "items"); n >= 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				fill(t, v.Index(i))
			}
		}
	case reflect.String:
		v.SetString(rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
			"", "a", "COS", "cos://b/in/", "/data", "<&>\u2028\x00\xff\"\\\t\r\n\b\f\x7f", "LOCAL", "PACKAGE", "img-x",
		})).Draw(t, "text"))
	case reflect.Int64:
		v.SetInt(rapid.Int64().Draw(t, "number"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "switch"))
	default:
		t.Fatalf("cannot fill %s", v.Type())
	}
}

func TestPropertySpecSize(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := drawSpec(t)
		data, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		if got := SpecSize(spec); got != len(data) {
			t.Fatalf("%d bytes, want %d: %s", got, len(data), data)
		}
	})
}

func TestEncodedSizeOfOtherTypes(t *testing.T) {
	type other struct {
		Null     *int64            `json:"null"`
		List     []string          `json:"list"`
		Map      map[string]string `json:"map,omitempty"`
		Empty    map[string]string `json:"empty,omitempty"`
		Float    float64           `json:"float"`
		Quantity resource.Quantity `json:"quantity"`
		Struct   struct{}          `json:"struct,omitempty"`
	}
	v := other{Map: map[string]string{"a": "b"}, Float: 1.5, Quantity: resource.MustParse("12Gi")}
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if got := encodedSize(shapeOf(reflect.TypeOf(v)), reflect.ValueOf(v)); got != len(data) {
		t.Errorf("%d bytes, want %d: %s", got, len(data), data)
	}
}

func TestPropertyUpdate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old := &v1alpha1.BatchJob{Spec: *drawSpec(t)}
		if got := (Validator{}).ValidateUpdate(old, old.DeepCopy()); got != nil {
			t.Fatalf("a copy differs: %v", got)
		}
		other := &v1alpha1.BatchJob{Spec: *drawSpec(t)}
		same := jsonOf(t, old.Spec) == jsonOf(t, other.Spec)
		got := (Validator{}).ValidateUpdate(old, other)
		if same != (got == nil) {
			t.Fatalf("same JSON: %v, but %d problems", same, len(got))
		}
	})
}

func TestUpdateOfTypesTakenWhole(t *testing.T) {
	type other struct {
		Quantity resource.Quantity `json:"quantity"`
		Map      map[string]string `json:"map"`
	}
	a := other{resource.MustParse("1Gi"), nil}
	b := other{resource.MustParse("1024Mi"), map[string]string{}}
	c := other{resource.MustParse("2Gi"), map[string]string{"a": "b"}}
	compare := func(x, y other) []string {
		checker := &checker{}
		checker.unchanged(shapeOf(reflect.TypeOf(x)), reflect.ValueOf(x), reflect.ValueOf(y), field.NewPath("spec"), "other")
		return summary(checker.result())
	}
	if got := compare(a, b); got != nil {
		t.Errorf("equal values differ: %v", got)
	}
	want := []string{"UnsupportedOperation spec.other.quantity", "UnsupportedOperation spec.other.map"}
	if got := compare(a, c); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func jsonOf(t *rapid.T, v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// indexList writes indexes as ranges.
func indexList(indexes []int) string {
	var b strings.Builder
	for i := 0; i < len(indexes); {
		j := i
		for j+1 < len(indexes) && indexes[j+1] == indexes[j]+1 {
			j++
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		if i == j {
			fmt.Fprint(&b, indexes[i])
		} else {
			fmt.Fprintf(&b, "%d-%d", indexes[i], indexes[j])
		}
		i = j + 1
	}
	return b.String()
}

// slot is a list of a task's status and, where the list has groups, the head of one.
type slot struct{ list, head string }

// budget is what bounds the attempts of a task.
type budget struct {
	retries, machines int // maxRetryCount and resourceMaxRetryCount
	types             int // how many machine types are named
	action            v1alpha1.FailedAction
	named             bool // a ComputeEnv has the machines
}

// slots are all the slots that the instances of a task can be in, those first whose use
// makes the status longest.
func (b budget) slots() []slot {
	var out []slot
	retries, machines, action := b.retries, min((b.machines+1)*max(b.types, 1)-1, v1alpha1.MaxResourceRetryCount), b.action
	if b.named { // whose count may become any, and which does not hold
		machines, action = 100, v1alpha1.FailedActionTerminate
	}
	if action == v1alpha1.FailedActionFastInterrupt {
		retries = 0 // such a task is interrupted and not run again
	}
	for r := range retries + 1 {
		for m := range machines + 1 {
			head := headOf("r", r) + headOf("m", m)
			out = append(out, slot{"active", head})
			if head != "" {
				out = append(out, slot{"retrying", head})
			}
			if action != v1alpha1.FailedActionInterrupt && action != v1alpha1.FailedActionFastInterrupt || r < retries {
				continue
			}
			out = append(out, slot{"interrupted", head})
			for run := range heldRuns - 1 {
				out = append(out, slot{"interrupted", headOf("x", 9990+run) + head})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b slot) int { return len(b.head) - len(a.head) })
	// The first of each list opens it, and the second that is active a counter: that is
	// longer than most heads.
	var first []slot
	take := func(list string) {
		i := slices.IndexFunc(out, func(x slot) bool { return x.list == list })
		switch {
		case i >= 0:
			first, out = append(first, out[i]), slices.Delete(out, i, i+1)
		case list == "active":
			first = append(first, slot{list: list})
		}
	}
	for _, list := range []string{"active", "interrupted", "retrying", "active"} {
		take(list)
	}
	return slices.Concat(first, []slot{{list: "succeeded"}, {list: "failed"}}, out)
}

func headOf(letter string, n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(letter, n)
}

// statusOf puts each instance of a task where place says.
func statusOf(name string, n int, place func(i int) slot) v1alpha1.TaskStatus {
	lists := map[slot][]int{}
	for i := range n {
		x := place(i)
		lists[x] = append(lists[x], i)
	}
	text := map[string]string{}
	active := 0
	for x, list := range lists {
		part := indexList(list)
		if x.head != "" {
			part = x.head + ":" + part
		}
		if text[x.list] != "" {
			part = ";" + part
		}
		text[x.list] += part
		if x.list == "active" {
			active += len(list)
		}
	}
	s := v1alpha1.TaskStatus{
		Name: name, State: v1alpha1.TaskRunning, Succeeded: text["succeeded"], Failed: text["failed"],
		Active: text["active"], Retrying: text["retrying"], Interrupted: text["interrupted"],
		Starting: int64((active + 1) / 2), Running: int64(active / 2),
	}
	switch {
	case len(lists) == 1 && len(lists[slot{list: "active"}]) > 0 && s.Running == 0:
		s.State = v1alpha1.TaskStarting
	case s.Interrupted != "" && s.Active == "" && s.Retrying == "":
		s.State = v1alpha1.TaskFailedInterrupted
	}
	return s
}

// task is a task of the spec with n instances.
func (b budget) task(name string, n int) v1alpha1.Task {
	t := v1alpha1.Task{TaskName: name, TaskInstanceNum: ptr(int64(n)), MaxRetryCount: ptr(int64(b.retries)),
		ResourceMaxRetryCount: ptr(int64(b.machines)), FailedAction: b.action}
	if b.named {
		t.EnvID = "pool"
	} else {
		t.ComputeEnv = &v1alpha1.AnonymousComputeEnv{EnvData: &v1alpha1.EnvData{InstanceTypes: make([]string, b.types)}}
	}
	return t
}

var actions = []v1alpha1.FailedAction{v1alpha1.FailedActionTerminate, v1alpha1.FailedActionInterrupt, v1alpha1.FailedActionFastInterrupt}

// worstTasksSize is what the tasks add to WorstStatusSize, less what explains.
func worstTasksSize(spec *v1alpha1.BatchJobSpec) int {
	n := len(spec.Job.Tasks)
	return WorstStatusSize(spec) - fixedStatusSize - min(n, v1alpha1.MaxTaskMessages)*messageSize - min(n, v1alpha1.MaxTaskReasons)*reasonSize
}

// Wherever the instances are, the status is no longer than the bound.
func TestPropertyWorstStatusSize(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec, status := &v1alpha1.BatchJobSpec{}, v1alpha1.BatchJobStatus{}
		for k := range rapid.IntRange(1, 5).Draw(t, "tasks") {
			name := fmt.Sprint("task", k)
			n := rapid.OneOf(rapid.IntRange(1, 9), rapid.IntRange(1, 120)).Draw(t, "instances")
			b := budget{
				retries: rapid.IntRange(0, 5).Draw(t, "retries"), machines: rapid.SampledFrom([]int{0, 1, 9, 10, 100}).Draw(t, "machines"),
				types: rapid.SampledFrom([]int{0, 1, 2, 10}).Draw(t, "types"), action: rapid.SampledFrom(actions).Draw(t, "action"),
				named: rapid.IntRange(0, 3).Draw(t, "named") == 0,
			}
			spec.Job.Tasks = append(spec.Job.Tasks, b.task(name, n))
			slots := b.slots()
			places := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(0, min(8, len(slots)-1)), rapid.IntRange(0, len(slots)-1)), n, n).Draw(t, "places")
			status.Tasks = append(status.Tasks, statusOf(name, n, func(i int) slot { return slots[places[i]] }))
		}
		if got, want := len("[]")+worstTasksSize(spec), len(jsonOf(t, status.Tasks)); got < want {
			t.Fatalf("at most %d bytes, but here are %d: %s", got, want, jsonOf(t, status.Tasks))
		}
	})
}

// greedy puts one instance into each slot, in order, and the rest so that no two
// neighbours share a list.
func greedy(slots []slot) func(i int) slot {
	return func(i int) slot {
		if i < len(slots) {
			return slots[i]
		}
		return []slot{{list: "succeeded"}, {list: "failed"}}[i%2]
	}
}

// The bound is not wasteful: the worst pattern that we know comes close to it, whatever the
// number of instances and the budgets.
func TestWorstStatusSizeIsReached(t *testing.T) {
	for _, action := range actions {
		for _, n := range []int{1, 2, 3, 4, 5, 10, 100, 1000, 10_000, 100_000} {
			for _, retries := range []int{0, 1, 5} {
				for _, b := range []budget{{}, {machines: 3}, {machines: 100}, {machines: 100, types: 10}, {named: true}} {
					if b.types > 1 && (n > 1 && n < 100_000 || retries == 1) {
						continue // there is a slot for each, as with one type
					}
					b.retries, b.action = retries, action
					spec := &v1alpha1.BatchJobSpec{}
					spec.Job.Tasks = []v1alpha1.Task{b.task("a", n)}
					data, err := json.Marshal(statusOf("a", n, greedy(b.slots())))
					got, bound := len(data)+len(","), worstTasksSize(spec)
					slack := 2 // per cent; of a short entry, a few bytes are more
					switch {
					case n < 100:
						slack = 15
					case n < 1000:
						slack = 7
					}
					if err != nil || got > bound || got < bound-bound*slack/100 {
						t.Errorf("%+v, %d instances: %d bytes, bound %d (%v): %.200s", b, n, got, bound, err, data)
					}
				}
			}
		}
	}
}

// longest is a text that is as long as JSON as any message may be.
var longest = strings.Repeat("<", v1alpha1.MaxMessageSize/len(`\u003c`))

// fullStatus has everything but tasks, each as long as it can be.
func fullStatus() v1alpha1.BatchJobStatus {
	at := metav1.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC)
	counts := func(n int64) (m v1alpha1.StateMetrics) {
		for v, i := reflect.ValueOf(&m).Elem(), 0; i < v.NumField(); i++ {
			v.Field(i).SetInt(n)
		}
		return m
	}
	name, reason := strings.Repeat("n", v1alpha1.MaxTaskNameLength), v1alpha1.ReasonContainerConfig
	pod, node := strings.Repeat("p", 63), strings.Repeat("h", 253)
	s := v1alpha1.BatchJobStatus{
		ObservedGeneration: 999_999, JobID: "job-12345678", State: v1alpha1.JobFailedInterrupted, Reason: reason, Message: longest,
		StartTime: &at, EndTime: &at, Run: 9999, RetryToken: strings.Repeat("<", v1alpha1.MaxTokenLength),
		TaskProgress: "5000/5000", TaskInstanceProgress: "100000/100000", TaskMetrics: counts(5000), TaskInstanceMetrics: counts(100_000),
	}
	for range v1alpha1.MaxFailures {
		s.Failures = append(s.Failures, v1alpha1.TaskInstanceFailure{
			TaskName: name, TaskInstanceIndex: 99_999, Attempt: 105, Time: at, ExitCode: ptr(int32(-1 << 31)),
			Reason: reason, Message: longest, PodName: pod, NodeName: node,
		})
	}
	for range v1alpha1.MaxWaiting {
		s.Waiting = append(s.Waiting, v1alpha1.TaskInstanceWait{TaskName: name, TaskInstanceIndex: 99_999, Reason: reason, Message: longest, PodName: pod})
	}
	for range v1alpha1.MaxPodKeys {
		s.PodKeys = append(s.PodKeys, strings.Repeat("f", proof.IDLength))
	}
	for _, kind := range []string{ // Reconciling ends where DeletionDelayed can begin
		v1alpha1.ConditionAccepted, v1alpha1.ConditionSuspended, v1alpha1.ConditionInvalidAnnotation, v1alpha1.ConditionDeletionDelayed,
		v1alpha1.ConditionStalled, v1alpha1.ConditionComplete, v1alpha1.ConditionFailed,
	} {
		s.Conditions = append(s.Conditions, metav1.Condition{
			Type: kind, Status: metav1.ConditionFalse, ObservedGeneration: 999_999, LastTransitionTime: at, Reason: reason, Message: longest,
		})
	}
	return s
}

func TestFixedStatusSize(t *testing.T) {
	data, err := json.Marshal(fullStatus())
	if got := len(data) + len(`,"tasks":[]`); err != nil || got > fixedStatusSize || got < fixedStatusSize*97/100 {
		t.Errorf("all but the tasks: %d bytes, counted as %d (%v)", got, fixedStatusSize, err)
	}
}

// The promise for one task: 100,000 instances in one object take at most 600 KiB in the
// worst pattern, with ten machine types as with one; where instances are held at the end they
// still fit beside half a megabyte of spec.
func TestWorstStatusSizeOfManyInstances(t *testing.T) {
	const promise, room = 600 << 10, MaxStoredSize - 512<<10
	for name, tc := range map[string]struct {
		budget
		most int
	}{
		"no machine is asked for again":  {budget{}, promise},
		"one type, a hundred times":      {budget{machines: 100}, promise},
		"ten types, a hundred times":     {budget{machines: 100, types: 10}, promise},
		"ten types, and held at the end": {budget{machines: 100, types: 10, action: v1alpha1.FailedActionInterrupt}, room},
		"in a ComputeEnv":                {budget{named: true}, promise},
	} {
		b := tc.budget
		b.retries = 5
		spec := &v1alpha1.BatchJobSpec{}
		spec.Job.Tasks = []v1alpha1.Task{b.task("a", 100_000)}
		bound := WorstStatusSize(spec)
		status := fullStatus()
		status.Tasks = []v1alpha1.TaskStatus{statusOf("a", 100_000, greedy(b.slots()))}
		status.Tasks[0].Reason, status.Tasks[0].Message = v1alpha1.ReasonContainerConfig, longest
		data, err := json.Marshal(status)
		if err != nil || len(data) > bound || len(data) < bound*98/100 {
			t.Errorf("%s: %d bytes, bound %d (%v)", name, len(data), bound, err)
		}
		if bound > tc.most {
			t.Errorf("%s: %d bytes, at most %d", name, bound, tc.most)
		}
		t.Logf("100,000 instances, maxRetryCount 5, %s: %d bytes in the worst pattern, bound %d of %d", name, len(data), bound, tc.most)
	}
}

// 5,000 tasks of one instance in a ComputeEnv, whose machines they may lose a hundred times.
func TestWorstStatusSizeOfManyTasksInAComputeEnv(t *testing.T) {
	for _, retries := range []int{0, 5} {
		spec := &v1alpha1.BatchJobSpec{}
		for i := range v1alpha1.MaxTasks {
			spec.Job.Tasks = append(spec.Job.Tasks, budget{retries: retries, named: true}.task(fmt.Sprintf("task-%04d", i), 1))
		}
		bound := WorstStatusSize(spec)
		t.Logf("5,000 tasks with envId, maxRetryCount %d: bound %d, which leaves %d for the spec", retries, bound, MaxStoredSize-bound)
		if MaxStoredSize-bound < MaxSpecSize*9/10 {
			t.Errorf("5,000 tasks: %d bytes, which leaves %d for the spec", bound, MaxStoredSize-bound)
		}
	}
}

// The promise for many tasks: 5,000 of one instance fit beside a spec of 1 MiB.
func TestWorstStatusSizeOfManyTasks(t *testing.T) {
	spec, status := &v1alpha1.BatchJobSpec{}, fullStatus()
	for i := range v1alpha1.MaxTasks {
		name := fmt.Sprintf("task-%04d", i)
		spec.Job.Tasks = append(spec.Job.Tasks, v1alpha1.Task{TaskName: name})
		task := statusOf(name, 1, func(int) slot { return slot{list: "active"} })
		if i < v1alpha1.MaxTaskReasons {
			task.Reason = v1alpha1.ReasonContainerConfig
		}
		if i < v1alpha1.MaxTaskMessages {
			task.Message = longest
		}
		status.Tasks = append(status.Tasks, task)
	}
	bound := WorstStatusSize(spec)
	if MaxSpecSize+bound > MaxStoredSize {
		t.Errorf("5,000 tasks: %d bytes, limit %d", bound, MaxStoredSize-MaxSpecSize)
	}
	data, err := json.Marshal(status)
	if err != nil || len(data) > bound || len(data) < bound*99/100 {
		t.Errorf("5,000 tasks: %d bytes, bound %d (%v)", len(data), bound, err)
	}
	t.Logf("5,000 tasks: %d bytes in the worst pattern, bound %d of %d, %d for each task", len(data), bound, MaxStoredSize-MaxSpecSize, bound/v1alpha1.MaxTasks)
}

func TestWorstStatusSizeOfWrongNumbers(t *testing.T) {
	spec := &request("a").Spec
	for n, most := range map[int64]int{-1 << 63: 19 << 10, -1: 19 << 10, 0: 19 << 10, 1<<63 - 1: 700 << 10} {
		spec.Job.Tasks[0].TaskInstanceNum, spec.Job.Tasks[0].MaxRetryCount, spec.Job.Tasks[0].ResourceMaxRetryCount = &n, &n, &n
		if got := WorstStatusSize(spec); got <= 0 || got > most {
			t.Errorf("%d instances: %d bytes", n, got)
		}
	}
}

func TestIndexesSize(t *testing.T) {
	text := ""
	for n := range 1200 {
		if got := indexesSize(int64(n)); got != len(text) {
			t.Fatalf("%d indexes: %d bytes, want %d", n, got, len(text))
		}
		text += fmt.Sprint(n, ",")
	}
}

func TestShapeKnowsEveryFieldOfTheTables(t *testing.T) {
	for _, row := range slices.Concat(notBuiltYet, neverOnKubernetes) {
		if stepsTo(specShape, row.field) == nil {
			t.Errorf("no field spec.%s", row.field)
		}
	}
	for _, row := range advice {
		if stepsTo(specShape, row.field) == nil {
			t.Errorf("no field spec.%s", row.field)
		}
	}
	for _, row := range envNotBuiltYet {
		if stepsTo(envShape, row.field) == nil {
			t.Errorf("no field spec.%s of a ComputeEnv", row.field)
		}
	}
	if stepsTo(specShape, "job.nope") != nil {
		t.Error("a field that is none has steps")
	}
}
