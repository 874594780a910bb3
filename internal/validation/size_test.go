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

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"pgregory.net/rapid"

	"batchcompute.dev/operator/api/v1alpha1"
)

// drawSpec draws any spec: every field absent, empty or filled, lists of up to 3 items.
func drawSpec(t *rapid.T) *v1alpha1.BatchJobSpec {
	spec := &v1alpha1.BatchJobSpec{}
	fill(t, reflect.ValueOf(spec).Elem())
	return spec
}

func fill(t *rapid.T, v reflect.Value) {
	switch v.Kind() {
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

// statusOf puts each instance of a task where place says: 0 nowhere yet, 1 succeeded, 2
// failed, and from 3 on active or retrying with a number of retries.
func statusOf(name string, n, retries int, place func(i int) int) v1alpha1.TaskStatus {
	lists := make([][]int, 3+2*(retries+1))
	for i := range n {
		k := place(i) % len(lists)
		lists[k] = append(lists[k], i)
	}
	s := v1alpha1.TaskStatus{Name: name, State: v1alpha1.TaskRunning, Succeeded: indexList(lists[1]), Failed: indexList(lists[2])}
	for k, list := range lists[3:] {
		if len(list) == 0 {
			continue
		}
		group := indexList(list)
		if k/2 > 0 {
			group = fmt.Sprintf("r%d:%s", k/2, group)
		}
		if k%2 == 0 {
			s.Active = strings.TrimPrefix(s.Active+";"+group, ";")
			s.Starting += int64((len(list) + 1) / 2)
			s.Running += int64(len(list) / 2)
		} else {
			s.Retrying = strings.TrimPrefix(s.Retrying+";"+group, ";")
		}
	}
	if s.Starting > 0 && s.Running == 0 {
		s.State = v1alpha1.TaskStarting
	}
	if s.Active == "" && s.Retrying == "" {
		s.State = v1alpha1.TaskFailedInterrupted
	}
	return s
}

func TestPropertyWorstStatusSize(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec, status := &v1alpha1.BatchJobSpec{}, v1alpha1.BatchJobStatus{}
		for k := range rapid.IntRange(1, 5).Draw(t, "tasks") {
			name := fmt.Sprint("task", k)
			n, retries := rapid.IntRange(1, 120).Draw(t, "instances"), rapid.IntRange(0, 5).Draw(t, "retries")
			spec.Job.Tasks = append(spec.Job.Tasks, v1alpha1.Task{TaskName: name, TaskInstanceNum: ptr(int64(n)), MaxRetryCount: ptr(int64(retries))})
			places := rapid.SliceOfN(rapid.IntRange(0, 14), n, n).Draw(t, "places")
			status.Tasks = append(status.Tasks, statusOf(name, n, retries, func(i int) int { return places[i] }))
		}
		got := len("[]") + WorstStatusSize(spec) - fixedStatusSize
		if want := len(jsonOf(t, status.Tasks)); got < want {
			t.Fatalf("at most %d bytes, but here are %d: %s", got, want, jsonOf(t, status.Tasks))
		}
	})
}

// The two promises: 100,000 instances in one object take at most 600 KiB in the worst
// pattern, and 5,000 tasks of one instance fit beside a spec of 1 MiB.
func TestWorstStatusSizePromises(t *testing.T) {
	one := &request("a").Spec
	one.Job.Tasks[0].TaskInstanceNum, one.Job.Tasks[0].MaxRetryCount = ptr(int64(100_000)), ptr(int64(5))
	worst := WorstStatusSize(one)
	if worst > 600<<10 {
		t.Errorf("100,000 instances: %d bytes", worst)
	}
	status := statusOf("a", 100_000, 5, func(i int) int { return i%2 + 1 })
	data, err := json.Marshal(status)
	if err != nil || len(data) > worst || len(data) < worst*95/100 {
		t.Errorf("every other instance failed: %d bytes, estimated %d (%v)", len(data), worst, err)
	}
	t.Logf("100,000 instances: %d bytes, estimated %d", len(data), worst)

	many := &v1alpha1.BatchJobSpec{}
	for i := range 5000 {
		many.Job.Tasks = append(many.Job.Tasks, v1alpha1.Task{TaskName: fmt.Sprintf("task-%04d", i)})
	}
	worst = WorstStatusSize(many)
	if MaxSpecSize+worst > MaxStoredSize {
		t.Errorf("5,000 tasks: %d bytes, room for %d", worst, MaxStoredSize-MaxSpecSize)
	}
	t.Logf("5,000 tasks: estimated %d of %d bytes", worst, MaxStoredSize-MaxSpecSize)
}

func TestWorstStatusSizeOfWrongNumbers(t *testing.T) {
	spec := &request("a").Spec
	for n, most := range map[int64]int{-1 << 63: 20 << 10, -1: 20 << 10, 0: 20 << 10, 1<<63 - 1: 700 << 10} {
		spec.Job.Tasks[0].TaskInstanceNum, spec.Job.Tasks[0].MaxRetryCount = &n, &n
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
		if stepsTo(row.field) == nil {
			t.Errorf("no field spec.%s", row.field)
		}
	}
	for _, row := range advice {
		if stepsTo(row.field) == nil {
			t.Errorf("no field spec.%s", row.field)
		}
	}
	if stepsTo("job.nope") != nil {
		t.Error("a field that is none has steps")
	}
}
