// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"encoding/json"
	"reflect"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
)

// Bounds of a stored BatchJob. etcd takes 1.5 MiB in one request; what is left over
// is for metadata. Unit: bytes.
const (
	// MaxSpecSize is the most that a spec may take.
	MaxSpecSize = 1 << 20
	// MaxStoredSize is the most that a spec may take together with the worst status
	// that it can reach: 1.4 MiB.
	MaxStoredSize = 14 << 20 / 10
)

// checkSize checks that the object, and all that it will become, fits into etcd. A
// request that has too many tasks or instances is refused for that alone.
func (c *checker) checkSize(spec *v1alpha1.BatchJobSpec, path *field.Path) {
	size := SpecSize(spec)
	if size > MaxSpecSize {
		c.fail(errcode.LimitExceeded, path, "", "must be at most %d bytes as JSON, got %d", MaxSpecSize, size)
		return
	}
	if len(spec.Job.Tasks) > v1alpha1.MaxTasks || countInstances(spec.Job.Tasks) > v1alpha1.MaxTaskInstances {
		return
	}
	if status := WorstStatusSize(spec); size+status > MaxStoredSize {
		c.fail(errcode.LimitExceeded, path, "",
			"must be at most %d bytes as JSON together with its largest possible status, got %d and %d", MaxStoredSize, size, status)
	}
}

// instancesOf is the number of instances of a task: 1 when it is absent, and 0 when it
// is negative.
func instancesOf(t *v1alpha1.Task) int64 {
	if t.TaskInstanceNum == nil {
		return 1
	}
	return max(*t.TaskInstanceNum, 0)
}

// countInstances is the number of instances of a job, or something over the limit.
func countInstances(tasks []v1alpha1.Task) int64 {
	var sum int64
	for i := range tasks {
		sum += min(instancesOf(&tasks[i]), v1alpha1.MaxTaskInstances+1)
	}
	return sum
}

// SpecSize returns the number of bytes that encoding/json writes for spec, without
// writing them. Cost: linear, no memory.
func SpecSize(spec *v1alpha1.BatchJobSpec) int {
	return encodedSize(specShape, reflect.ValueOf(spec).Elem())
}

// encodedSize returns the length of the JSON form of v, whose shape is s. It recurses
// with the nesting of the types.
func encodedSize(s *shape, v reflect.Value) int {
	switch s.kind {
	case reflect.Struct:
		return structSize(s, v)
	case reflect.Pointer:
		if v.IsNil() {
			return len("null")
		}
		return encodedSize(s.elem, v.Elem())
	case reflect.Slice:
		if v.IsNil() {
			return len("null")
		}
		size := len("[]") + max(v.Len()-1, 0)
		for i := range v.Len() {
			size += encodedSize(s.elem, v.Index(i))
		}
		return size
	case reflect.String:
		return stringSize(v.String())
	case reflect.Int64:
		return intSize(v.Int())
	case reflect.Bool:
		if v.Bool() {
			return len("true")
		}
		return len("false")
	default:
		b, _ := json.Marshal(v.Interface()) // what cannot be encoded never arrives
		return len(b)
	}
}

func structSize(s *shape, v reflect.Value) int {
	size := len("{}")
	comma := 0
	for i := range s.fields {
		f := &s.fields[i]
		value := v.Field(f.index)
		if f.omitEmpty && isEmpty(value) {
			continue
		}
		size += comma + len(f.name) + len(`"":`) + encodedSize(f.shape, value)
		comma = len(",")
	}
	return size
}

// isEmpty is what encoding/json calls empty.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.String, reflect.Slice, reflect.Map, reflect.Array:
		return v.Len() == 0
	case reflect.Struct:
		return false
	default:
		return v.IsZero()
	}
}

// stringSize is the length of s as a JSON string, with the escapes that encoding/json
// uses.
func stringSize(s string) int {
	size := len(`""`) + len(s)
	for i := 0; i < len(s); i++ {
		switch ch := s[i]; {
		case ch == '"' || ch == '\\' || ch == '\n' || ch == '\r' || ch == '\t' || ch == '\b' || ch == '\f':
			size++
		case ch < ' ' || ch == '<' || ch == '>' || ch == '&':
			size += len(`\u0000`) - 1
		case ch >= utf8.RuneSelf:
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 || r == '\u2028' || r == '\u2029' {
				size += len(`\ufffd`) - n
			}
			i += n - 1
		}
	}
	return size
}

// intSize is the number of characters of n in decimal.
func intSize(n int64) int {
	size := 1
	if n < 0 {
		size++
	}
	for n /= 10; n != 0; n /= 10 {
		size++
	}
	return size
}

// The parts of a status, as JSON. Unit: bytes.
const (
	// fixedStatusSize is all that does not grow with the tasks: state, times, metrics,
	// conditions, 10 failures, and the messages of 20 tasks.
	fixedStatusSize = 18 << 10
	// An entry of status.tasks without its name, with the longest state.
	taskStatusSize = len(`{"name":"","state":"FAILED_INTERRUPTED"},`)
	// An entry of a task with one instance is longest while that is prepared.
	singleStatusSize = len(`{"name":"","state":"STARTING","active":[{"indexes":"0"}],"starting":1},`)
	retriesSize      = len(`"retries":5,`)
	// The lists of indexes.
	countersSize  = len(`,"starting":,"running":`)
	succeededSize = len(`,"succeeded":""`)
	failedSize    = len(`,"failed":""`)
	activeSize    = len(`,"active":[]`)
	retryingSize  = len(`,"retrying":[]`)
	groupSize     = len(`{"indexes":""},`)
)

// WorstStatusSize returns the most bytes that the status of a job with this spec can
// take as JSON, without the reasons of single tasks and without the messages of all but
// 20 of them: the writer of a status leaves those out when room is short. It is the sum
// of
//
//   - a fixed part;
//   - for each task, its entry and its name;
//   - for each instance, its index, written once, and a comma: in the worst pattern no
//     two neighbours share a range, and a range of two is no shorter;
//   - the lists that the indexes stand in. There are at most as many as instances:
//     succeeded, failed, and, for each number of retries, one group that is active and
//     one that waits for its next attempt.
//
// Cost: linear in the tasks, whatever the number of instances.
func WorstStatusSize(spec *v1alpha1.BatchJobSpec) int {
	size := fixedStatusSize
	for i := range spec.Job.Tasks {
		t := &spec.Job.Tasks[i]
		size += len(taskName(spec.Job.Tasks, i))
		retries := int64(0)
		if t.MaxRetryCount != nil {
			retries = min(max(*t.MaxRetryCount, 0), v1alpha1.MaxRetryCountLimit)
		}
		n := min(instancesOf(t), v1alpha1.MaxTaskInstances) // more is refused
		if n <= 1 {
			size += singleStatusSize + min(int(retries), 1)*retriesSize
			continue
		}
		groups := int(min(n, 2*(retries+1)))
		size += taskStatusSize + countersSize + 2*intSize(n) + activeSize + retryingSize +
			groups*(groupSize+min(int(retries), 1)*retriesSize) + indexesSize(n)
		if n > int64(groups) {
			size += succeededSize + failedSize
		}
	}
	return size
}

// indexesSize is the length of 0 to n-1 in decimal, each with a comma.
func indexesSize(n int64) int {
	size := n * 2
	for power := int64(10); power < n; power *= 10 {
		size += n - power
	}
	return int(size)
}
