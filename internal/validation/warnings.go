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
	return jobWarnings(job, v.offers())
}

func jobWarnings(job *v1alpha1.BatchJob, o offers) []string {
	spec := reflect.ValueOf(&job.Spec).Elem()
	topics := topicsOf(o, &job.ObjectMeta, job.Spec.Job.Notifications)
	w := &warner{subject: subject{job: &job.Spec.Job, offers: o, topics: topics}, lines: append(appliedSecrets(job.Annotations), topics.advice()...)}
	for _, r := range warningRules.before {
		w.apply(r, spec)
	}
	tasks := job.Spec.Job.Tasks
	path := field.NewPath("spec", "job", "tasks")
	for i := range tasks {
		w.addTask(&tasks[i], path.Index(i))
	}
	w.subject.task, w.subject.machine = nil, machine{}
	w.lines = append(w.lines, timeoutWarning(&job.Spec.Job)...)
	for _, r := range warningRules.after {
		w.apply(r, spec)
	}
	return w.result()
}

func envWarnings(env *v1alpha1.ComputeEnv, o offers) []string {
	spec := reflect.ValueOf(&env.Spec).Elem()
	topics := topicsOf(o, &env.ObjectMeta, env.Spec.Notifications)
	w := &warner{
		subject: subject{machine: machine{env.Spec.EnvData, env.Spec.MountDataDisks}, offers: o, topics: topics},
		lines:   append(appliedSecrets(env.Annotations), topics.advice()...),
	}
	for _, r := range envRules {
		w.apply(r, spec)
	}
	return w.result()
}

// rule is one row of a table, ready to be applied.
type rule struct {
	adviceRow
	steps []step
}

// subject is what the warnings are about: what a row may ask beside the value itself.
type subject struct {
	job     *v1alpha1.Job
	task    *v1alpha1.Task
	machine machine
	offers  offers
	topics  *topics
	// hosts are those of which it was said that nobody knows their store.
	hosts map[string]bool
}

// concerns says whether a rule has anything to do with the subject.
func (r *rule) concerns(s *subject) bool {
	return (r.task == nil || s.task != nil && r.task(s.task)) && (r.job == nil || s.job != nil && r.job(s.job)) &&
		(r.offered == nil || s.offers != nil && r.offered(s.offers))
}

// isDerived says whether the size of a machine type comes from its name.
func (s *subject) isDerived(v reflect.Value) bool {
	if s.offers == nil {
		return false
	}
	it := s.offers.InstanceType(v.String())
	return it != nil && it.Derived
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

// carriedAdvice are the rows that say that a field has no effect.
func carriedAdvice(rows []carried) []adviceRow {
	var all []adviceRow
	for _, row := range rows {
		a := adviceRow{field: row.field, when: row.when, text: "has no effect on Kubernetes"}
		if row.note != "" {
			a.text += "; " + row.note
		}
		all = append(all, a)
	}
	return all
}

// jobAdvice are all rows for BatchJobs.
func jobAdvice() []adviceRow {
	return slices.Concat(carriedAdvice(neverOnKubernetes), advice, dataAdvice, []adviceRow{topicAdvice("job.notifications[].topicName")})
}

// envRules are the rows for ComputeEnvs, in the order of their fields: those of a placement
// and of a task's computeEnv, and a few of their own.
var envRules = func() []rule {
	rows := slices.Concat(carriedAdvice(envNeverOnKubernetes), sourceAdvice, []adviceRow{topicAdvice("notifications[].topicName")})
	for _, row := range jobAdvice() {
		field, ok := strings.CutPrefix(row.field, "job.tasks[].computeEnv.")
		if ok = ok || strings.HasPrefix(field, "placement."); ok && stepsTo(envShape, field) != nil {
			row.field = field
			rows = append(rows, row)
		}
	}
	return compile(envShape, rows)
}()

// compile returns the rows as rules, in the order of the fields of a spec of shape s.
func compile(s *shape, rows []adviceRow) []rule {
	all := make([]rule, 0, len(rows))
	for _, row := range rows {
		all = append(all, rule{adviceRow: row, steps: stepsTo(s, row.field)})
	}
	slices.SortStableFunc(all, func(a, b rule) int { return inSpecOrder(a.steps, b.steps) })
	return all
}

func compileRules() compiledRules {
	rules := compiledRules{}
	tasks := stepsTo(specShape, "job.tasks")
	for _, r := range compile(specShape, jobAdvice()) {
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
func stepsTo(s *shape, path string) []step {
	var steps []step
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
	subject subject
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
	if p, text := w.find(&r, spec, field.NewPath("spec")); p != nil {
		w.lines = append(w.lines, p.String()+" "+text)
	}
}

// addTask adds the warnings of one task. Those that an earlier task had are counted.
func (w *warner) addTask(task *v1alpha1.Task, path *field.Path) {
	w.subject.task, w.subject.machine = task, machine{}
	if env := task.ComputeEnv; env != nil {
		w.subject.machine = machine{env.EnvData, env.MountDataDisks}
	}
	t := reflect.ValueOf(task).Elem()
	for i := range warningRules.task {
		r := &warningRules.task[i]
		known := w.tasks[i]
		if known == nil {
			p, text := w.find(r, t, path)
			if p == nil {
				continue
			}
			if w.tasks == nil {
				w.tasks = map[int]*taskWarning{}
			}
			known = &taskWarning{line: len(w.lines), field: p.String(), text: text}
			w.tasks[i] = known
			w.ordered = append(w.ordered, known)
			w.lines = append(w.lines, "")
			continue
		}
		if _, _, ok := w.search(r, t); ok {
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

// search says whether a rule holds for the struct v, for which value in it, and at which positions
// in the lists that its steps go through.
func (w *warner) search(r *rule, v reflect.Value) (reflect.Value, []int, bool) {
	if !r.concerns(&w.subject) {
		return v, nil, false
	}
	if r.item != nil {
		i := r.item(w.subject.machine)
		return v, []int{i}, i >= 0
	}
	when := r.when
	if r.asks != nil {
		when = func(v reflect.Value) bool { return r.asks(&w.subject, v) }
	}
	return search(r.steps, when, v, nil)
}

// find is search, and returns the path of the field, or of the first such item, and what is said of it.
func (w *warner) find(r *rule, v reflect.Value, path *field.Path) (at *field.Path, text string) {
	found, indexes, ok := w.search(r, v)
	if !ok {
		return nil, ""
	}
	if text = r.text; r.says != nil {
		text += r.says(&w.subject, found)
	}
	for _, s := range r.steps {
		path = path.Child(s.name)
		if s.items {
			path = path.Index(indexes[0])
			indexes = indexes[1:]
		}
	}
	return path, text
}

// search follows steps from the struct v, and returns the value that they lead to, and the positions in
// the lists that it went through. It recurses at most as deep as a table's path is long.
func search(steps []step, when func(reflect.Value) bool, v reflect.Value, indexes []int) (reflect.Value, []int, bool) {
	given := false
	for k, s := range steps {
		v = v.Field(s.index)
		if s.items {
			for i := range v.Len() {
				if found, at, ok := search(steps[k+1:], when, v.Index(i), append(indexes, i)); ok {
					return found, at, true
				}
			}
			return v, nil, false
		}
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return v, nil, false
			}
			v, given = v.Elem(), k == len(steps)-1
			if v.Kind() == reflect.Struct && k == len(steps)-1 && when == nil {
				return v, indexes, true // given, though perhaps empty
			}
		}
	}
	if when != nil {
		return v, indexes, (given || !v.IsZero()) && when(v)
	}
	if v.Kind() == reflect.Slice {
		return v, indexes, v.Len() > 0
	}
	return v, indexes, !v.IsZero()
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
