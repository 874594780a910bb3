// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"encoding/json"
	"reflect"
	"slices"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
)

// Bounds of a stored BatchJob. etcd takes 1.5 MiB in one request; what is left over
// is for metadata. What each Pod has a copy of has bounds of its own: maxKubernetes, and within
// it maxAffinity and maxAnnotations. Unit: bytes.
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

// envSpecSize is SpecSize for a ComputeEnv.
func envSpecSize(spec *v1alpha1.ComputeEnvSpec) int {
	return encodedSize(envShape, reflect.ValueOf(spec).Elem())
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
		return wholeSize(v.Interface())
	}
}

// wholeSize is encodedSize of a value that is taken whole. What may be large is not written.
func wholeSize(v any) int {
	switch v := v.(type) {
	case map[string]string:
		if v != nil {
			return mapSize(v)
		}
	case *metav1.FieldsV1:
		if v != nil {
			return max(len(v.GetRawBytes()), len("null"))
		}
	}
	b, _ := json.Marshal(v) // what cannot be encoded never arrives
	return len(b)
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

// escape is how many bytes more than itself an ASCII character takes in a JSON string, with
// the escapes that encoding/json uses.
var escape = func() (more [utf8.RuneSelf]uint8) {
	for ch := range byte(utf8.RuneSelf) {
		switch ch {
		case '"', '\\', '\n', '\r', '\t', '\b', '\f':
			more[ch] = 1
		case '<', '>', '&':
			more[ch] = uint8(len(`\u0000`) - 1)
		default:
			if ch < ' ' {
				more[ch] = uint8(len(`\u0000`) - 1)
			}
		}
	}
	return more
}()

// stringSize is the length of s as a JSON string.
func stringSize(s string) int {
	size := len(`""`) + len(s)
	for i := 0; i < len(s); i++ {
		if ch := s[i]; ch < utf8.RuneSelf {
			size += int(escape[ch])
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 || r == '\u2028' || r == '\u2029' {
			size += len(`\ufffd`) - n
		}
		i += n - 1
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
	// conditions, and the failures and waits with the longest names and messages.
	fixedStatusSize = 18264
	// A message and a reason of a task; not every task has them.
	messageSize = len(`,"message":""`) + v1alpha1.MaxMessageSize
	reasonSize  = len(`,"reason":""`) + len(v1alpha1.ReasonContainerConfig) // none is longer
	// An entry of status.tasks without its name, by the longest state that it can have.
	taskStatusSize = len(`{"name":"","state":"RUNNABLE"},`)
	heldStatusSize = len(`{"name":"","state":"FAILED_INTERRUPTED"},`)
	// An entry of a task with one instance is longest while that is prepared, or when it is
	// held. One with a history makes the task RUNNING.
	singleStartingSize = len(`{"name":"","state":"STARTING","active":"0","starting":1},`)
	singleRunningSize  = len(`{"name":"","state":"RUNNING","active":"0","starting":1},`)
	singleHeldSize     = len(`{"name":"","state":"FAILED_INTERRUPTED","interrupted":"0"},`)
	// The lists of indexes, and the counters of those that are active.
	succeededSize   = len(`,"succeeded":""`)
	failedSize      = len(`,"failed":""`)
	activeSize      = len(`,"active":""`)
	retryingSize    = len(`,"retrying":""`)
	interruptedSize = len(`,"interrupted":""`)
	startingSize    = len(`,"starting":`)
	runningSize     = len(`,"running":`)
	// heldRuns is of how many runs of a job instances of one task are held at once, and
	// runSize the longest head of a run, as in "x9999r5:0". More runs take that many
	// resumptions while instances stay held; they are let in, and not counted.
	heldRuns = 10
	runSize  = len(`x9999`)
)

// WorstStatusSize returns the most bytes that the status of a job with this spec can
// take as JSON. It is the sum of
//
//   - a fixed part;
//   - for each task, its entry and its name, and for as many as may have them a reason and a
//     message: the writer of a status leaves out those of further tasks;
//   - for each instance, its index, written once, and a comma: in the worst pattern no
//     two neighbours share a range, and a range of two is no shorter;
//   - the lists that the indexes stand in, and the heads of their groups, such as "r1m2:".
//     An instance opens one list or group at most, so with few instances it is only the
//     longest of them.
//
// Cost: linear in the tasks, whatever the number of instances.
func WorstStatusSize(spec *v1alpha1.BatchJobSpec) int {
	tasks := len(spec.Job.Tasks)
	size := fixedStatusSize + min(tasks, v1alpha1.MaxTaskMessages)*messageSize + min(tasks, v1alpha1.MaxTaskReasons)*reasonSize
	if len(spec.Job.Notifications) > 0 {
		size += v1alpha1.MaxNotificationStatusSize
	}
	for i := range spec.Job.Tasks {
		t := &spec.Job.Tasks[i]
		size += len(taskName(spec.Job.Tasks, i))
		n := int(min(instancesOf(t), v1alpha1.MaxTaskInstances)) // more is refused
		if n <= 1 {
			size += worstSingleSize(t)
			continue
		}
		entry := taskStatusSize
		if isInterrupting(t) {
			entry = heldStatusSize
		}
		size += entry + indexesSize(int64(n)) + worstLists(t, n)
	}
	return size
}

// failedAction is what happens to a machine of the task: one of a ComputeEnv is never held.
func failedAction(t *v1alpha1.Task) v1alpha1.FailedAction {
	if hasEnvID(t) {
		return v1alpha1.FailedActionTerminate
	}
	return t.FailedAction
}

func isInterrupting(t *v1alpha1.Task) bool {
	action := failedAction(t)
	return action == v1alpha1.FailedActionInterrupt || action == v1alpha1.FailedActionFastInterrupt
}

// worstSingleSize is the longest entry of a task with one instance, without its name.
func worstSingleSize(t *v1alpha1.Task) int {
	size := singleStartingSize
	if h := activeHeads(t); len(h) > 0 {
		size = max(size, singleRunningSize+h[0].size)
	}
	if isInterrupting(t) {
		size = max(size, singleHeldSize+heldHeads(t)[0].size)
	}
	return size
}

// heads are how many heads of groups there are of one size, in bytes with the colon.
type heads struct{ size, count int }

// activeHeads are the heads that the groups of the active instances of t can have, the
// longest first; those that wait for their next attempt can have the same. A task that is
// interrupted at once never retries its command.
func activeHeads(t *v1alpha1.Task) []heads {
	retries := retryLimit(t.MaxRetryCount, v1alpha1.MaxRetryCountLimit)
	if failedAction(t) == v1alpha1.FailedActionFastInterrupt {
		retries = 0
	}
	out := machineHeads(t, len("r5"), retries)
	return longestFirst(append(out, machineHeads(t, 0, 1)...))
}

// heldHeads are the same for the instances that are held: those have used up what retries
// of their command there are, in any of several runs of the job.
func heldHeads(t *v1alpha1.Task) []heads {
	head := 0
	if failedAction(t) == v1alpha1.FailedActionInterrupt && retryLimit(t.MaxRetryCount, v1alpha1.MaxRetryCountLimit) > 0 {
		head = len("r5")
	}
	out := machineHeads(t, runSize+head, heldRuns-1)
	return longestFirst(append(out, machineHeads(t, head, 1)...))
}

// machineLimit is the highest number of machines that an instance can have lost and still be retried:
// in each of the rounds that resourceMaxRetryCount allows all of its types are tried, but no
// more than MaxResourceRetryCount machines in all. A ComputeEnv has a count and types of its own, which may change at any
// time.
func machineLimit(t *v1alpha1.Task) int {
	if hasEnvID(t) {
		return v1alpha1.MaxResourceRetryCount
	}
	types := 1
	if env := t.ComputeEnv; env != nil && env.EnvData != nil {
		types = min(max(len(env.EnvData.InstanceTypes), 1), maxInstanceTypes)
	}
	return min((retryLimit(t.ResourceMaxRetryCount, v1alpha1.MaxResourceRetryCount)+1)*types-1, v1alpha1.MaxResourceRetryCount)
}

// machineHeads are count beginnings of a head, each of the given size, each with every
// number of machines that were not acquired.
func machineHeads(t *v1alpha1.Task, begin, count int) []heads {
	limit := machineLimit(t)
	var out []heads
	for _, m := range []heads{{0, 1}, {len("m1"), min(limit, 9)}, {len("m10"), min(limit, 99) - 9}, {len("m100"), limit - 99}} {
		if size := begin + m.size; size > 0 && m.count > 0 && count > 0 {
			out = append(out, heads{size + len(":"), m.count * count})
		}
	}
	return out
}

func retryLimit(count *int64, most int64) int {
	if count == nil {
		return 0
	}
	return int(min(max(*count, 0), most))
}

func longestFirst(h []heads) []heads {
	slices.SortFunc(h, func(a, b heads) int { return b.size - a.size })
	return h
}

// worstLists is what the lists and the heads of their groups add to the indexes of n
// instances, 2 or more, and a comma for each: the n largest of all that an instance can add
// by being the first in its list or its group.
func worstLists(t *v1alpha1.Task, n int) int {
	active := activeHeads(t)
	retrying := slices.Clone(active)
	// The first index of a list needs no comma. The counters of active instances take two.
	openings := []heads{
		{succeededSize - 1, 1}, {failedSize - 1, 1},
		{activeSize - 1 + startingSize + intSize(int64(n)) + takeLongest(active), 1},
		{runningSize + intSize(int64(n)) + takeLongest(active), 1},
	}
	if len(retrying) > 0 { // an instance without a history that waits has not been issued
		openings = append(openings, heads{retryingSize - 1 + takeLongest(retrying), 1})
	}
	openings = slices.Concat(openings, active, retrying)
	if isInterrupting(t) {
		held := heldHeads(t)
		openings = append(openings, heads{interruptedSize - 1 + takeLongest(held), 1})
		openings = append(openings, held...)
	}
	size := 0
	for _, o := range longestFirst(openings) {
		count := min(o.count, n)
		size, n = size+count*o.size, n-count
	}
	return size
}

// takeLongest takes one of the longest heads out and returns its size; 0 when none is left.
func takeLongest(h []heads) int {
	for i := range h {
		if h[i].count > 0 {
			h[i].count--
			return h[i].size
		}
	}
	return 0
}

// indexesSize is the length of 0 to n-1 in decimal, each with a comma.
func indexesSize(n int64) int {
	size := n * 2
	for power := int64(10); power < n; power *= 10 {
		size += n - power
	}
	return int(size)
}
