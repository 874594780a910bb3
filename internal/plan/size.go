// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"reflect"
	"time"

	"batchcompute.dev/operator/api/v1alpha1"
)

// MemorySize estimates how many bytes of memory the spec and the status of a job take, within a
// third. Objects of the same size as JSON differ by a factor of ten in this. Cost: linear, some ten
// nanoseconds a field, and no memory.
func MemorySize(job *v1alpha1.BatchJob) int {
	return valueSize(reflect.ValueOf(&job.Spec)) + valueSize(reflect.ValueOf(&job.Status))
}

// What resolve.Job and a status add to a spec, in bytes: of a task with its Env and its standing, of a
// dependence, and of an instance, whose index may be a range of its own.
const (
	startedTask       = 1300
	startedDependence = 16
	startedInstance   = 6
)

// StartedSize estimates how many bytes of memory a job takes while instances of it are in progress: its
// spec, what that resolves to, and its status at worst.
func StartedSize(job *v1alpha1.BatchJob) int {
	size, tasks := valueSize(reflect.ValueOf(&job.Spec)), job.Spec.Job.Tasks
	size += len(tasks)*startedTask + len(job.Spec.Job.Dependences)*startedDependence
	instances := int64(0)
	for i := range tasks {
		if n := tasks[i].TaskInstanceNum; n != nil {
			instances += min(max(*n, 0), v1alpha1.MaxTaskInstances)
		}
	}
	return size + int(min(instances, v1alpha1.MaxTaskInstances))*startedInstance
}

var location = reflect.TypeFor[time.Location]()

// The parts of a map of Go: its header, and groups of slots with a control word, seven eighths of which
// are in use at most.
const (
	mapHeader  = 48
	groupSlots = 8
	groupWord  = 8
)

// valueSize returns how much memory v refers to, without its own.
func valueSize(v reflect.Value) int {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() || v.Type().Elem() == location { // one for all times
			return 0
		}
		return int(v.Type().Elem().Size()) + valueSize(v.Elem())
	case reflect.String:
		return roundUp(v.Len())
	case reflect.Struct:
		size := 0
		for i := range v.NumField() {
			size += valueSize(v.Field(i))
		}
		return size
	case reflect.Slice:
		size := roundUp(v.Cap() * int(v.Type().Elem().Size()))
		for i := range v.Len() {
			size += valueSize(v.Index(i))
		}
		return size
	case reflect.Map:
		if v.IsNil() {
			return 0
		}
		groups := (v.Len() + groupSlots - 2) / (groupSlots - 1)
		size := mapHeader + groups*(groupWord+groupSlots*int(v.Type().Key().Size()+v.Type().Elem().Size()))
		for i := v.MapRange(); i.Next(); {
			size += valueSize(i.Key()) + valueSize(i.Value())
		}
		return size
	}
	return 0
}

// roundUp is the size of the memory that is given for n bytes, roughly.
func roundUp(n int) int { return (n + 7) &^ 7 }
