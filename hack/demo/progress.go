// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/ranges"
)

// namespace is where the samples run.
const namespace = "default"

// follow shows the progress of the jobs with these names until all have ended, and returns them as they ended, by
// name. Other jobs of the namespace are somebody else's.
func (d *demo) follow(ctx context.Context, names []string) ([]*v1alpha1.BatchJob, error) {
	ctx, cancel := context.WithTimeout(ctx, jobTimeout)
	defer cancel()
	var list v1alpha1.BatchJobList
	if err := d.client.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("listing the jobs: %w", err)
	}
	w, err := d.client.Watch(ctx, &list, client.InNamespace(namespace))
	if err != nil {
		return nil, fmt.Errorf("watching the jobs: %w", err)
	}
	defer w.Stop()
	board := &board{out: d.out, redraw: d.terminal, width: d.width, said: map[string]string{}}
	jobs := followed{names: names, jobs: map[string]*v1alpha1.BatchJob{}}
	for i := range list.Items {
		jobs.see(&list.Items[i], false)
	}
	for {
		board.draw(jobs.sorted())
		if len(jobs.unfinished()) == 0 {
			return jobs.sorted(), nil
		}
		event, ok := <-w.ResultChan()
		if !ok || ctx.Err() != nil {
			return nil, fmt.Errorf("these jobs have not ended after %s: %s", jobTimeout, strings.Join(jobs.unfinished(), "; "))
		}
		if job, ok := event.Object.(*v1alpha1.BatchJob); ok {
			jobs.see(job, event.Type == watch.Deleted)
		}
	}
}

// followed are the jobs that are waited for.
type followed struct {
	names []string // sorted
	jobs  map[string]*v1alpha1.BatchJob
}

// see notes a job, if it is one of those.
func (f *followed) see(job *v1alpha1.BatchJob, deleted bool) {
	switch {
	case !slices.Contains(f.names, job.Name):
	case deleted:
		delete(f.jobs, job.Name)
	default:
		f.jobs[job.Name] = job
	}
}

// sorted returns the jobs that exist, by name.
func (f *followed) sorted() (jobs []*v1alpha1.BatchJob) {
	for _, name := range f.names {
		if job := f.jobs[name]; job != nil {
			jobs = append(jobs, job)
		}
	}
	return jobs
}

// unfinished says which jobs have not ended, and what each does.
func (f *followed) unfinished() (out []string) {
	for _, name := range f.names {
		switch job := f.jobs[name]; {
		case job == nil:
			out = append(out, name+" (deleted)")
		case job.Status.EndTime == nil:
			line := name + " is " + cmp.Or(string(job.Status.State), "not looked at by the operator")
			if job.Status.Message != "" {
				line += ": " + firstLine(job.Status.Message, 200)
			}
			out = append(out, line)
		}
	}
	return out
}

// board shows one line a task: redrawn in place on a terminal; elsewhere, a line is
// printed when it has changed.
type board struct {
	out    io.Writer
	redraw bool
	width  int               // of the screen: a line that wrapped could not be redrawn
	lines  int               // on the screen now
	said   map[string]string // by task, where nothing is redrawn
}

func (b *board) draw(jobs []*v1alpha1.BatchJob) {
	if b.redraw && b.lines > 0 {
		fmt.Fprintf(b.out, "\033[%dA\033[J", b.lines)
	}
	b.lines = 0
	for _, job := range jobs {
		for i := range job.Spec.Job.Tasks {
			key, line := taskLine(job, i)
			switch {
			case b.redraw:
				fmt.Fprintln(b.out, firstLine(line, b.width-1))
				b.lines++
			case b.said[key] != line:
				fmt.Fprintf(b.out, "%s %s\n", time.Now().Format(time.TimeOnly), line)
				b.said[key] = line
			}
		}
	}
}

// taskLine is what the board says of the i-th task of a job.
func taskLine(job *v1alpha1.BatchJob, i int) (key, line string) {
	task := &job.Spec.Job.Tasks[i]
	name, total := task.TaskName, 1
	if name == "" {
		name = v1alpha1.DefaultTaskName
	}
	if task.TaskInstanceNum != nil {
		total = int(*task.TaskInstanceNum)
	}
	status := v1alpha1.TaskStatus{State: v1alpha1.TaskPending}
	for _, s := range job.Status.Tasks {
		if s.Name == name {
			status = s
		}
	}
	done, _ := ranges.Parse(status.Succeeded)
	bar := strings.Repeat("█", 20*done.Len()/total) + strings.Repeat("░", 20-20*done.Len()/total)
	line = fmt.Sprintf("%-10s %-12s %-9s %s %d/%d", job.Name, name, status.State, bar, done.Len(), total)
	if status.Message != "" {
		line += "  " + firstLine(status.Message, 90)
	}
	return job.Name + "/" + name, line
}

// firstLine bounds a message to one line of the screen.
func firstLine(s string, n int) string {
	s, _, _ = strings.Cut(s, "\n")
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
