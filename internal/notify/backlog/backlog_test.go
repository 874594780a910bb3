// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backlog

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/notify/event"
	"batchcompute.dev/operator/internal/ranges"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// instances are how many each of the tasks of testJob has.
var instances = []int{2, 1, 3}

func numbering() Numbering {
	return NewNumbering(len(instances), func(i int) int { return instances[i] })
}

func testJob() *Job {
	return &Job{UID: "uid", Namespace: "default", Name: "j", JobID: "job-1", DisplayName: "J", Tasks: []string{"a", "b", "c"}, Numbering: numbering()}
}

// allEvents announces all, each with a variable that has its name.
func allEvents() *v1alpha1.Notification {
	n := &v1alpha1.Notification{TopicName: "t"}
	for _, name := range event.Names() {
		n.EventConfigs = append(n.EventConfigs, v1alpha1.EventConfig{EventName: string(name), EventVars: []v1alpha1.EventVar{{Name: "is", Value: string(name)}}})
	}
	return n
}

// record is one event of the model, which keeps each by itself.
type record struct {
	Entry
	// number is that of the event, and subject what it is about: "job", "task 1", "instance 4".
	number  int
	subject string
}

func (r *record) id() string { return fmt.Sprintf("%s/%d/%d/%d", r.Name, r.Run, r.Attempt, r.number) }

// life plays runs of a job: it has the events of each subject in the order in which they happen.
type life struct {
	t     *rapid.T
	run   int
	queue map[string][]record
	// job are the events of the job that are left in this run, after JOB_RUNNING the last ones.
	job  []record
	next time.Time
}

func newLife(t *rapid.T) *life {
	l := &life{t: t, run: -1, next: start}
	l.begin()
	return l
}

// begin queues the events of another run.
func (l *life) begin() {
	l.run++
	l.queue = map[string][]record{}
	l.job = l.states("job", 0, event.JobRunning, event.JobFailedInterrupted, event.JobSucceed, event.JobFailed)
	for i := range instances {
		subject := fmt.Sprint("task ", i)
		l.queue[subject] = l.states(subject, i, event.TaskRunning, event.TaskFailedInterrupted, event.TaskSucceed, event.TaskFailed)
	}
	for i := range numbering().limit(event.TaskInstanceFailed) {
		l.queue[fmt.Sprint("instance ", i)] = l.attempts(i)
	}
}

// states returns the events of a subject: the first, perhaps the second, and one of the others.
func (l *life) states(subject string, number int, names ...event.Name) []record {
	list := []record{l.record(subject, number, 0, names[0])}
	if rapid.Bool().Draw(l.t, "interrupted") {
		list = append(list, l.record(subject, number, 0, names[1]))
	}
	return append(list, l.record(subject, number, 0, rapid.SampledFrom(names[2:]).Draw(l.t, "end")))
}

func (l *life) attempts(number int) []record {
	var list []record
	last := rapid.IntRange(0, 3).Draw(l.t, "attempts")
	for attempt := range last + 1 {
		names := []event.Name{event.ComputeNodeCreated, event.ComputeNodeRunning, event.TaskInstanceRunning, event.ComputeNodeAbnormal, event.ComputeNodeDeleting}
		if attempt == last && rapid.Bool().Draw(l.t, "interrupted") {
			names = append(names, event.TaskInstanceFailedInterrupted)
		}
		for _, name := range names {
			list = append(list, l.record(fmt.Sprint("instance ", number), number, attempt, name))
		}
	}
	end := rapid.SampledFrom([]event.Name{event.TaskInstanceSucceed, event.TaskInstanceFailed}).Draw(l.t, "end")
	return append(list, l.record(fmt.Sprint("instance ", number), number, last, end))
}

func (l *life) record(subject string, number, attempt int, name event.Name) record {
	e := Entry{Key: Key{Name: name, Run: l.run, Attempt: attempt}, Numbers: ranges.Of(number)}
	switch rapid.IntRange(0, 3).Draw(l.t, "details") {
	case 0:
		e.ExitCode, e.Reason, e.Message = new(rapid.Int32Range(0, 2).Draw(l.t, "code")), "Failed", "exit code"
	case 1:
		e.Message, e.Node = rapid.SampledFrom([]string{"one", strings.Repeat("<", v1alpha1.MaxMessageSize/6)}).Draw(l.t, "message"), "node-1"
	case 2:
		e.JobState = string(v1alpha1.JobStarting)
	}
	return record{e, number, subject}
}

// pass returns what happens between two passes, in no order. The job runs first and ends last.
func (l *life) pass() []record {
	l.next = l.next.Add(time.Second)
	var out []record
	if l.job[0].Name == event.JobRunning {
		out, l.job = append(out, l.job[0]), l.job[1:]
	}
	for _, subject := range slices.Sorted(maps.Keys(l.queue)) {
		q := l.queue[subject]
		n := min(rapid.IntRange(0, 4).Draw(l.t, "n"), len(q))
		if out = append(out, q[:n]...); n == len(q) {
			delete(l.queue, subject)
		} else {
			l.queue[subject] = q[n:]
		}
	}
	if len(l.queue) == 0 {
		out = append(out, l.job...)
		l.begin()
	}
	for i := range out {
		out[i].Time = l.next
	}
	return out
}

// model is a backlog with one record for each event, in the order in which they happened.
type model struct {
	t       *rapid.T
	records []record
	backlog Backlog
}

func (m *model) add(pass []record) {
	m.records = append(m.records, pass...)
	entries := make([]Entry, len(pass))
	for i := range pass {
		entries[i] = pass[i].Entry
	}
	m.backlog = m.backlog.Add(rapid.Permutation(entries).Draw(m.t, "pass"))
}

// some returns some of the events, and some that are in no backlog.
func (m *model) some(label string) (Acks, map[string]bool) {
	acks, ids := Acks{}, map[string]bool{}
	acks.Add(Key{Name: event.TaskInstanceFailed, Run: 99}, ranges.Of(1, 5))
	share := rapid.IntRange(0, 3).Draw(m.t, label)
	for i := range m.records {
		if r := &m.records[i]; rapid.IntRange(0, 3).Draw(m.t, "taken") < share {
			acks.Add(r.Key, r.Numbers)
			ids[r.id()] = true
		}
	}
	return acks, ids
}

func (m *model) remove(ids map[string]bool) {
	m.records = slices.DeleteFunc(slices.Clone(m.records), func(r record) bool { return ids[r.id()] })
}

// check compares the backlog, of which the events in skip are not asked for, with the records.
func (m *model) check(skip Acks, skipped map[string]bool) {
	t, job, n := m.t, testJob(), allEvents()
	t.Helper()
	want, bySubject := map[string]*record{}, map[string][]string{}
	for i := range m.records {
		if r := &m.records[i]; !skipped[r.id()] {
			want[r.id()] = r
			bySubject[r.subject] = append(bySubject[r.subject], r.id())
		}
	}
	seen, order, running, ended := map[string]bool{}, map[string][]string{}, map[int]bool{}, map[int]bool{}
	for due := range m.backlog.Events(job, n, skip) {
		r, id := want[due.String()], due.Event.ID()
		if r == nil || seen[id] {
			t.Fatalf("%s is not due, or due twice", id)
		}
		seen[id] = true
		order[r.subject] = append(order[r.subject], r.id())
		m.checkEvent(&due, r)
		if ended[due.Run] || due.Run > 0 && ended[due.Run+1] {
			t.Fatalf("%s is behind the end of the job", id)
		}
		if due.Name == event.JobRunning && running[due.Run] {
			t.Fatalf("%s is behind other events of its run", id)
		}
		running[due.Run] = true
		ended[due.Run] = ended[due.Run] || due.Name == event.JobSucceed || due.Name == event.JobFailed
	}
	if diff := cmp.Diff(bySubject, order); diff != "" {
		t.Fatalf("the events by subject (-want +got):\n%s", diff)
	}
	if got := m.backlog.Len(); skip == nil && got != len(m.records) {
		t.Fatalf("Len is %d, want %d", got, len(m.records))
	}
}

// checkEvent compares an event with its record: what the backlog says of it must be true, and may be missing.
func (m *model) checkEvent(due *Due, r *record) {
	e, d := &due.Event, &due.Event.Details
	if err := e.Validate(); err != nil {
		m.t.Fatalf("%s: %v", e.ID(), err)
	}
	if len(e.Vars) != 1 || e.Vars[0].Value != string(e.Name) {
		m.t.Fatalf("%s has the variables %v", e.ID(), e.Vars)
	}
	for _, text := range [][2]string{{d.Reason, r.Reason}, {d.Message, r.Message}, {d.Machine, r.Node}} {
		if text[0] != "" && text[0] != text[1] {
			m.t.Fatalf("%s says %q, want %q", e.ID(), text[0], text[1])
		}
	}
	if d.ExitCode != nil && (r.ExitCode == nil || *d.ExitCode != *r.ExitCode) || e.Time.Before(r.Time) {
		m.t.Fatalf("%s has exit code %v and time %s", e.ID(), d.ExitCode, e.Time)
	}
	if d.JobState != string(v1alpha1.JobRunning) && d.JobState != r.JobState {
		m.t.Fatalf("%s has the state %q of the job", e.ID(), d.JobState)
	}
}

// checkStored writes and reads the backlog.
func (m *model) checkStored() {
	back, err := Parse(m.backlog.Stored(), numbering())
	if err != nil {
		m.t.Fatal(err)
	}
	if diff := cmp.Diff(m.backlog, back); diff != "" && len(m.backlog)+len(back) > 0 {
		m.t.Fatalf("after Stored and Parse (-want +got):\n%s", diff)
	}
}

func storedSize(t interface{ Fatal(...any) }, b Backlog) int {
	if len(b) == 0 {
		return 0
	}
	text, err := json.Marshal(b.Stored())
	if err != nil {
		t.Fatal(err)
	}
	return len(text)
}

var worthOf = map[event.Level]int{event.Job: 2, event.Task: 1}

// checkBound bounds the backlog: it takes no more, keeps its order, and loses instances before tasks before the job.
func (m *model) checkBound() {
	size := rapid.IntRange(0, 12_000).Draw(m.t, "size")
	before := m.backlog.Stored()
	bounded, lost := m.backlog.Bound(size)
	if got := storedSize(m.t, bounded); got > size {
		m.t.Fatalf("bound to %d, it takes %d bytes", size, got)
	}
	if diff := cmp.Diff(before, m.backlog.Stored()); diff != "" {
		m.t.Fatalf("Bound changed its receiver:\n%s", diff)
	}
	if got := m.backlog.Len() - bounded.Len(); got != lost {
		m.t.Fatalf("lost %d, want %d", lost, got)
	}
	kept := map[string]bool{}
	for due := range bounded.Events(testJob(), allEvents(), nil) {
		kept[due.String()] = true
	}
	rest, worth, most := *m, 2, 0
	rest.backlog, rest.records = bounded, nil
	for i := range m.records {
		if r := &m.records[i]; kept[r.id()] {
			worth = min(worth, worthOf[r.Name.Level()])
			rest.records = append(rest.records, *r)
		} else {
			most = max(most, worthOf[r.Name.Level()])
		}
	}
	if lost > 0 && most > worth {
		m.t.Fatalf("an event of worth %d is lost, and one of %d is kept", most, worth)
	}
	rest.check(nil, nil)
}

// TestModel: whatever is added and acknowledged, no event is lost, doubled or made up, and those of one job, task or
// instance come in the order in which they happened.
func TestModel(t *testing.T) {
	merged := false
	rapid.Check(t, func(t *rapid.T) {
		l, m := newLife(t), &model{t: t}
		for range rapid.IntRange(1, 40).Draw(t, "passes") {
			before := slices.Clone(m.backlog)
			m.add(l.pass())
			merged = merged || len(m.backlog) < len(before)
			acks, ids := m.some("acknowledged")
			m.checkKeep(acks, ids)
			m.check(acks, ids)
			if rapid.IntRange(0, 4).Draw(t, "remove") == 0 {
				m.checkRemove(acks, ids)
			}
			m.check(nil, nil)
			m.checkStored()
			m.checkBound()
		}
	})
	if !merged {
		t.Error("no backlog was merged")
	}
}

func (m *model) checkKeep(acks Acks, ids map[string]bool) {
	kept := m.backlog.Keep(acks)
	if got := kept.Len(); got != len(ids) {
		m.t.Fatalf("Keep returns %d events, want %d", got, len(ids))
	}
	for k, set := range kept {
		for i := range set.All() {
			if !ids[(&record{Entry: Entry{Key: k}, number: i}).id()] {
				m.t.Fatalf("Keep returns %v %d", k, i)
			}
		}
	}
}

func (m *model) checkRemove(acks Acks, ids map[string]bool) {
	var removed int
	if m.backlog, removed = m.backlog.Remove(acks); removed != len(ids) {
		m.t.Fatalf("removed %d events, want %d", removed, len(ids))
	}
	if _, again := m.backlog.Remove(acks); again != 0 {
		m.t.Fatalf("the same acknowledgement removed %d more", again)
	}
	m.remove(ids)
}

// TestMaxEntries: however many causes each pass brings, a backlog has no more entries than there are keys, and some.
func TestMaxEntries(t *testing.T) {
	var b Backlog
	for pass := range 50 {
		var events []Entry
		for code := range 200 {
			events = append(events, Entry{
				Key: Key{Name: event.TaskInstanceFailed}, Numbers: ranges.Of(200*pass + code), Time: start,
				Details: Details{ExitCode: new(int32(code)), Reason: "Failed"},
			})
		}
		if b = b.Add(events); len(b) > MaxEntries {
			t.Fatalf("pass %d: %d entries", pass, len(b))
		}
	}
	if b.Len() != 50*200 {
		t.Errorf("%d events are left", b.Len())
	}
}

// TestAdd: what is the same of several events is kept, and the rest left out.
func TestAdd(t *testing.T) {
	entry := func(number int, change func(*Entry)) Entry {
		e := Entry{
			Key: Key{Name: event.TaskInstanceFailed}, Numbers: ranges.Of(number), Time: start,
			Details: Details{ExitCode: new(int32(1)), Reason: "Failed", Message: "exit code 1", Node: "node-1"},
		}
		change(&e)
		return e
	}
	same := func(*Entry) {}
	for name, tc := range map[string]struct {
		change func(*Entry)
		want   []Entry // nil: one entry for each
	}{
		"the same":         {same, []Entry{entry(0, func(e *Entry) { e.Numbers = ranges.Of(0, 1) })}},
		"another message":  {func(e *Entry) { e.Message = "x" }, []Entry{entry(0, func(e *Entry) { e.Numbers, e.Message = ranges.Of(0, 1), "" })}},
		"no node":          {func(e *Entry) { e.Node = "" }, []Entry{entry(0, func(e *Entry) { e.Numbers, e.Node = ranges.Of(0, 1), "" })}},
		"later":            {func(e *Entry) { e.Time = start.Add(1) }, []Entry{entry(0, func(e *Entry) { e.Numbers, e.Time = ranges.Of(0, 1), start.Add(1) })}},
		"earlier":          {func(e *Entry) { e.Time = start.Add(-1) }, []Entry{entry(0, func(e *Entry) { e.Numbers = ranges.Of(0, 1) })}},
		"another code":     {func(e *Entry) { e.ExitCode = new(int32(2)) }, nil},
		"no code":          {func(e *Entry) { e.ExitCode = nil }, nil},
		"another reason":   {func(e *Entry) { e.Reason = "x" }, nil},
		"another state":    {func(e *Entry) { e.JobState = "STARTING" }, nil},
		"another run":      {func(e *Entry) { e.Run = 1 }, nil},
		"another attempt":  {func(e *Entry) { e.Attempt = 1 }, nil},
		"another name":     {func(e *Entry) { e.Name = event.TaskFailed }, nil},
		"without anything": {func(e *Entry) { e.Details = Details{} }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			given := []Entry{entry(0, same), entry(1, tc.change)}
			want := Backlog(tc.want)
			if want == nil {
				want = given
			}
			got := Backlog(nil).Add(given)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if d := (Details{ExitCode: new(int32(1)), Reason: "a"}).merge(Details{}).merge(Details{ExitCode: new(int32(1)), Reason: "a"}); d != (Details{}) {
		t.Errorf("what two do not have in common came back: %+v", d)
	}
}

// TestNothingChanges: without events and acknowledgements nothing is copied.
func TestNothingChanges(t *testing.T) {
	b := large()
	if n := testing.AllocsPerRun(10, func() { b.Add(nil); b.Remove(nil); b.Remove(Acks{}) }); n > 0 {
		t.Errorf("it takes %v allocations", n)
	}
}

// many is how many instances large and the benchmarks have.
const many = v1alpha1.MaxTaskInstances

// every returns every second number less than many, from first on: no set of numbers has a longer form.
func every(first int) ranges.Set {
	list := make([]int, 0, many/2)
	for i := first; i < many; i += 2 {
		list = append(list, i)
	}
	return ranges.Of(list...)
}

// large has all that one attempt of many instances brings.
func large() Backlog {
	var events []Entry
	for _, name := range []event.Name{event.ComputeNodeCreated, event.ComputeNodeRunning, event.TaskInstanceRunning, event.ComputeNodeDeleting, event.TaskInstanceSucceed} {
		events = append(events, Entry{Key: Key{Name: name}, Numbers: every(0), Time: start})
	}
	events = append(events, Entry{Key: Key{Name: event.TaskInstanceFailed}, Numbers: every(1), Time: start})
	return Backlog(nil).Add(events)
}

// TestLargeSets: a set takes at most 17 KB, and a backlog what it is bound to.
func TestLargeSets(t *testing.T) {
	for _, e := range large() {
		if got := len(FormatNumbers(e.Name, e.Numbers)); got > 17_000 {
			t.Errorf("%s: %d bytes", e.Name, got)
		}
	}
	b := large().Add([]Entry{{Key: Key{Name: event.JobFailed}, Numbers: ranges.Of(0), Time: start}})
	for _, size := range []int{0, 1000, 40_000, 90_000, 200_000} {
		bounded, lost := b.Bound(size)
		if got := storedSize(t, bounded); got > size || lost+bounded.Len() != b.Len() {
			t.Errorf("bound to %d: %d bytes, %d lost, %d left", size, got, lost, bounded.Len())
		}
		if size > 0 && bounded[len(bounded)-1].Name != event.JobFailed {
			t.Errorf("bound to %d: the end of the job is lost", size)
		}
	}
}

func BenchmarkAdd(b *testing.B) {
	backlog := large()
	events := make([]Entry, 0, 200)
	for i := range 200 {
		events = append(events, Entry{Key: Key{Name: event.TaskInstanceFailed}, Numbers: ranges.Of(2 * i), Time: start})
	}
	b.Run("a pass of 200", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			backlog.Add(events)
		}
	})
	all := make([]Entry, 0, many)
	for i := range many {
		all = append(all, Entry{Key: Key{Name: event.TaskInstanceSucceed}, Numbers: ranges.Of(i), Time: start})
	}
	b.Run("all instances at once", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			Backlog(nil).Add(all)
		}
	})
}

func BenchmarkRemove(b *testing.B) {
	backlog, batch, half := large(), Acks{}, Acks{}
	batch.Add(Key{Name: event.TaskInstanceSucceed}, every(0).First(100))
	half.Add(Key{Name: event.TaskInstanceSucceed}, every(0))
	for name, acks := range map[string]Acks{"a batch of 100": batch, "50,000": half} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				backlog.Remove(acks)
			}
		})
	}
}

func BenchmarkStored(b *testing.B) {
	backlog := large()
	n := NewNumbering(1, func(int) int { return many })
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(backlog.Stored(), n); err != nil {
			b.Fatal(err)
		}
	}
}
