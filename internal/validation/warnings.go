// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/dag"
)

// Bounds of the warnings: HTTP headers carry them.
const (
	// MaxWarnings is how many warnings there are at most, the one that counts what
	// was left out included.
	MaxWarnings = 20
	// MaxWarning is the length of a warning. Unit: bytes, all ASCII.
	MaxWarning = 256
)

// Warnings returns what the user of an accepted BatchJob should know: fields without
// effect, commands that seem to hold a credential, and waits that may get very long.
// They come in the order of the fields that they name. What holds for several tasks is
// said once, for the first of them. job is not changed. Cost: linear in its size.
func (v Validator) Warnings(job *v1alpha1.BatchJob) []string {
	spec := reflect.ValueOf(&job.Spec).Elem()
	w := &warner{}
	for _, r := range warningRules.before {
		w.apply(r, spec)
	}
	tasks := job.Spec.Job.Tasks
	path := field.NewPath("spec", "job", "tasks")
	for i := range tasks {
		w.task(reflect.ValueOf(&tasks[i]).Elem(), path.Index(i))
	}
	w.lines = append(w.lines, timeoutWarning(&job.Spec.Job)...)
	for _, r := range warningRules.after {
		w.apply(r, spec)
	}
	return w.result()
}

// rule is one row of a table, ready to be applied.
type rule struct {
	steps []step
	when  func(reflect.Value) bool
	text  string
}

// step leads from a struct to a field of it, and, if that is a list and items is set,
// on to each of its items.
type step struct {
	name  string
	index int
	items bool
}

// warningRules are the rows of all tables in the order of their fields: those of the
// spec before its tasks, those of a task, and those of the spec behind its tasks.
var warningRules = compileRules()

type compiledRules struct{ before, task, after []rule }

func compileRules() compiledRules {
	var all []rule
	add := func(rows []carried, text string) {
		for _, row := range rows {
			if row.refuse != "" {
				continue
			}
			r := rule{steps: stepsTo(row.field), when: row.when, text: text}
			if row.note != "" {
				r.text += "; " + row.note
			}
			all = append(all, r)
		}
	}
	add(notBuiltYet, "has no effect yet")
	add(neverOnKubernetes, "has no effect on Kubernetes")
	for _, a := range advice {
		all = append(all, rule{steps: stepsTo(a.field), when: a.when, text: a.text})
	}
	slices.SortStableFunc(all, func(a, b rule) int { return inSpecOrder(a.steps, b.steps) })
	rules := compiledRules{}
	tasks := stepsTo("job.tasks")
	for _, r := range all {
		switch n := len(tasks); {
		case len(r.steps) > n && inSpecOrder(r.steps[:n], tasks) == 0:
			r.steps = r.steps[n:]
			rules.task = append(rules.task, r)
		case inSpecOrder(r.steps, tasks) < 0:
			rules.before = append(rules.before, r)
		default:
			rules.after = append(rules.after, r)
		}
	}
	return rules
}

// inSpecOrder compares paths by the order in which the types declare their fields.
func inSpecOrder(a, b []step) int {
	return slices.CompareFunc(a, b, func(x, y step) int { return x.index - y.index })
}

// stepsTo resolves a path of a table; it is nil when the types do not have it, which
// a test excludes.
func stepsTo(path string) []step {
	var steps []step
	s := specShape
	for part := range strings.SplitSeq(path, ".") {
		name, items := strings.CutSuffix(part, "[]")
		f, ok := s.field(name)
		if !ok {
			return nil
		}
		steps = append(steps, step{name: name, index: f.index, items: items})
		s = f.shape
		for s.elem != nil {
			s = s.elem
		}
	}
	return steps
}

// warner collects warnings.
type warner struct {
	lines   []string
	tasks   map[int]*taskWarning // by position in warningRules.task
	ordered []*taskWarning
}

// taskWarning is a warning that holds for one task or for several.
type taskWarning struct {
	line  int // where it stands in lines
	field string
	text  string
	more  int // tasks after the first
}

// apply adds the warning of a rule that holds for the spec.
func (w *warner) apply(r rule, spec reflect.Value) {
	if p := find(r.steps, r.when, spec, field.NewPath("spec")); p != nil {
		w.lines = append(w.lines, p.String()+" "+r.text)
	}
}

// task adds the warnings of one task. Those that an earlier task had are counted.
func (w *warner) task(t reflect.Value, path *field.Path) {
	for i, r := range warningRules.task {
		known := w.tasks[i]
		if known == nil {
			p := find(r.steps, r.when, t, path)
			if p == nil {
				continue
			}
			if w.tasks == nil {
				w.tasks = map[int]*taskWarning{}
			}
			known = &taskWarning{line: len(w.lines), field: p.String(), text: r.text}
			w.tasks[i] = known
			w.ordered = append(w.ordered, known)
			w.lines = append(w.lines, "")
			continue
		}
		if found(r.steps, r.when, t) {
			known.more++
		}
	}
}

// result writes the lines out.
func (w *warner) result() []string {
	for _, t := range w.ordered {
		tasks := ""
		switch t.more {
		case 0:
		case 1:
			tasks = " (and in 1 more task)"
		default:
			tasks = fmt.Sprintf(" (and in %d more tasks)", t.more)
		}
		w.lines[t.line] = t.field + tasks + " " + t.text
	}
	if more := len(w.lines) - MaxWarnings + 1; more > 1 {
		w.lines = append(w.lines[:MaxWarnings-1], fmt.Sprintf("%d more warnings are not shown", more))
	}
	return w.lines
}

// found says whether v has the field that steps lead to, with a value that counts.
func found(steps []step, when func(reflect.Value) bool, v reflect.Value) bool {
	_, ok := search(steps, when, v, nil)
	return ok
}

// find is found, and returns the path of the field, or of the first such item.
func find(steps []step, when func(reflect.Value) bool, v reflect.Value, path *field.Path) *field.Path {
	indexes, ok := search(steps, when, v, nil)
	if !ok {
		return nil
	}
	for _, s := range steps {
		path = path.Child(s.name)
		if s.items {
			path = path.Index(indexes[0])
			indexes = indexes[1:]
		}
	}
	return path
}

// search follows steps from the struct v, and returns the positions in the lists that
// it went through. It recurses at most as deep as a table's path is long.
func search(steps []step, when func(reflect.Value) bool, v reflect.Value, indexes []int) ([]int, bool) {
	for k, s := range steps {
		v = v.Field(s.index)
		if s.items {
			for i := range v.Len() {
				if found, ok := search(steps[k+1:], when, v.Index(i), append(indexes, i)); ok {
					return found, true
				}
			}
			return nil, false
		}
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return nil, false
			}
			v = v.Elem()
			if v.Kind() == reflect.Struct && k == len(steps)-1 && when == nil {
				return indexes, true // given, though perhaps empty
			}
		}
	}
	if when != nil {
		return indexes, !v.IsZero() && when(v)
	}
	if v.Kind() == reflect.Slice {
		return indexes, v.Len() > 0
	}
	return indexes, !v.IsZero()
}

// maxChain is the sum of timeouts along dependences above which a user is warned: 30
// days. Unit: seconds.
const maxChain = 30 * 86400

// timeoutWarning says which chain of tasks may take longest, if that is too long.
// Retries are not counted.
func timeoutWarning(job *v1alpha1.Job) []string {
	g := graphOf(job)
	if g == nil {
		return nil
	}
	order, ok := g.Order()
	if !ok {
		return nil
	}
	ends := make([]int64, len(order))
	last := 0
	for _, i := range order {
		var begin int64
		for _, p := range g.Predecessors(int(i)) {
			begin = max(begin, ends[p])
		}
		// Saturates: 5,000 timeouts of the longest kind cannot overflow, a wrong one could.
		ends[i] = begin + min(timeoutOf(&job.Tasks[i]), maxTimeout)
		if ends[i] > ends[last] || ends[i] == ends[last] && int(i) < last {
			last = int(i)
		}
	}
	if ends[last] <= maxChain {
		return nil
	}
	path := field.NewPath("spec", "job", "tasks").Index(last).Child("timeout")
	return []string{fmt.Sprintf("%s and the timeouts of the tasks that it waits for add up to %d days, more than %d",
		path, (ends[last]+86399)/86400, maxChain/86400)}
}

// timeoutOf is the timeout of a task, the default one when it is absent, 0 or wrong.
func timeoutOf(t *v1alpha1.Task) int64 {
	if t.Timeout == nil || *t.Timeout <= 0 {
		return v1alpha1.DefaultTimeoutSeconds
	}
	return *t.Timeout
}

// graphOf returns the graph of a job's tasks, without the dependences that name no
// task; nil when there are no tasks or too many.
func graphOf(job *v1alpha1.Job) *dag.Graph {
	if len(job.Tasks) == 0 || len(job.Tasks) > v1alpha1.MaxTasks {
		return nil
	}
	names := make(taskNames, len(job.Tasks))
	for i := range job.Tasks {
		if name := taskName(job.Tasks, i); !names.has(name) {
			names[name] = i
		}
	}
	edges := make([]dag.Edge, 0, len(job.Dependences))
	for _, d := range job.Dependences {
		if names.has(d.StartTask) && names.has(d.EndTask) {
			edges = append(edges, dag.Edge{From: names[d.StartTask], To: names[d.EndTask]})
		}
	}
	return dag.New(len(job.Tasks), edges)
}

func (n taskNames) has(name string) bool {
	_, ok := n[name]
	return ok
}
