// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"cmp"
	"reflect"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
)

// mutable are the fields of the spec that may change after creation, by JSON name.
var mutable = map[string]bool{"suspend": true, "terminate": true, "retryToken": true, "ttlSecondsAfterFinished": true}

// ValidateUpdate returns which fields of the spec changed and may not, or not so, in the
// order of the fields; nil when there are none. It looks at changes only: an object that
// would be refused today can still get a label. Absent and empty lists are the same.
// What a job in its state takes is read off oldJob's status. Neither object is changed.
// Cost: linear in the size of the spec.
func (v Validator) ValidateUpdate(oldJob, newJob *v1alpha1.BatchJob) []Problem {
	c := v.checker(submitJob)
	path := field.NewPath("spec")
	before, after := reflect.ValueOf(&oldJob.Spec).Elem(), reflect.ValueOf(&newJob.Spec).Elem()
	for _, f := range specShape.fields {
		if !mutable[f.name] {
			c.unchanged(f.shape, before.Field(f.index), after.Field(f.index), path, f.name)
		}
	}
	c.checkSteering(oldJob, newJob, path)
	return c.result()
}

// checkSteering checks the changes of the fields that may change.
// Source: BatchCompute, TerminateJob, RetryJobs.
func (c *checker) checkSteering(oldJob, newJob *v1alpha1.BatchJob, path *field.Path) {
	before, after := &oldJob.Spec, &newJob.Spec
	if before.Terminate && !after.Terminate {
		c.fail(errcode.UnsupportedOperation, path, "terminate", "must stay true: a terminated job cannot be started again; submit another BatchJob")
	}
	if after.RetryToken != before.RetryToken && after.RetryToken != "" {
		state := oldJob.Status.State
		switch {
		case after.Terminate:
			c.fail(errcode.UnsupportedOperation, path, "retryToken", "must not change on a job that was terminated; submit another BatchJob")
		case oldJob.Status.Reason == v1alpha1.ReasonAlreadyRan:
			c.fail(errcode.UnsupportedOperation, path, "retryToken", "must not change on a job that shows the result of one that was deleted; submit another BatchJob")
		case state != v1alpha1.JobFailed:
			c.fail(errcode.UnsupportedOperation, path, "retryToken", "must change only while the job is %s; it is %s",
				v1alpha1.JobFailed, cmp.Or(state, v1alpha1.JobSubmitted))
		default:
			c.checkToken(after.RetryToken, path, "retryToken")
		}
	}
	if ttl := after.TTLSecondsAfterFinished; ttl != nil && (before.TTLSecondsAfterFinished == nil || *before.TTLSecondsAfterFinished != *ttl) {
		c.checkTTL(ttl, path)
	}
}

// UpdateWarnings returns what the user of an accepted update should know.
func (v Validator) UpdateWarnings(oldJob, newJob *v1alpha1.BatchJob) []string {
	if newJob.Spec.RetryToken == oldJob.Spec.RetryToken || newJob.Annotations[v1alpha1.AnnotationTerminate] == "" {
		return nil
	}
	return []string{"metadata.annotations[" + v1alpha1.AnnotationTerminate + "] is still set: the instances that it names fail again at once; remove it first"}
}

// unchanged reports the innermost fields that differ. path is the object that a and
// b are the field name of. It recurses with the nesting of the types.
func (c *checker) unchanged(s *shape, a, b reflect.Value, path *field.Path, name string) {
	switch s.kind {
	case reflect.Struct:
		child := path.Child(name)
		for i := range s.fields {
			f := &s.fields[i]
			c.unchanged(f.shape, a.Field(f.index), b.Field(f.index), child, f.name)
		}
	case reflect.Pointer:
		if a.IsNil() || b.IsNil() {
			if a.IsNil() != b.IsNil() {
				c.changed(path, name, "")
			}
			return
		}
		c.unchanged(s.elem, a.Elem(), b.Elem(), path, name)
	case reflect.Slice:
		c.unchangedList(s, a, b, path, name)
	case reflect.Int64:
		if a.Int() != b.Int() {
			c.changed(path, name, ", was %d, got %d", a.Int(), b.Int())
		}
	case reflect.Bool:
		if a.Bool() != b.Bool() {
			c.changed(path, name, ", was %t, got %t", a.Bool(), b.Bool())
		}
	case reflect.String: // may be a command, which is not repeated
		if a.String() != b.String() {
			c.changed(path, name, "")
		}
	default:
		if !equality.Semantic.DeepEqual(a.Interface(), b.Interface()) {
			c.changed(path, name, "")
		}
	}
}

// unchangedList compares item by item; of lists of different lengths it reports only
// that, since one item more at the front changes all others.
func (c *checker) unchangedList(s *shape, a, b reflect.Value, path *field.Path, name string) {
	if a.Len() != b.Len() {
		c.changed(path, name, ", had %d items, got %d", a.Len(), b.Len())
		return
	}
	list := path.Child(name)
	for i := range a.Len() {
		x, y := a.Index(i), b.Index(i)
		if s.elem.kind != reflect.Struct {
			if !equality.Semantic.DeepEqual(x.Interface(), y.Interface()) {
				c.changed(list.Index(i), "", "")
			}
			continue
		}
		item := list.Index(i)
		for k := range s.elem.fields {
			f := &s.elem.fields[k]
			c.unchanged(f.shape, x.Field(f.index), y.Field(f.index), item, f.name)
		}
	}
}

func (c *checker) changed(path *field.Path, name, values string, args ...any) {
	c.fail(errcode.UnsupportedOperation, path, name, "must not change after the job was submitted"+values+"; submit another BatchJob", args...)
}
