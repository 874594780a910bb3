// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
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

// follow shows the jobs' progress until all have ended, and returns them as they ended,
// by name.
func (d *demo) follow(ctx context.Context) ([]*v1alpha1.BatchJob, error) {
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
	jobs := map[string]*v1alpha1.BatchJob{}
	for i := range list.Items {
		jobs[list.Items[i].Name] = &list.Items[i]
	}
	for {
		sorted := slices.SortedFunc(mapValues(jobs), func(a, b *v1alpha1.BatchJob) int { return strings.Compare(a.Name, b.Name) })
		board.draw(sorted)
		if !slices.ContainsFunc(sorted, func(j *v1alpha1.BatchJob) bool { return j.Status.EndTime == nil }) {
			return sorted, nil
		}
		event, ok := <-w.ResultChan()
		if !ok || ctx.Err() != nil {
			return nil, fmt.Errorf("the jobs have not ended after %s", jobTimeout)
		}
		if job, ok := event.Object.(*v1alpha1.BatchJob); ok && event.Type != watch.Deleted {
			jobs[job.Name] = job
		}
	}
}

func mapValues(m map[string]*v1alpha1.BatchJob) func(func(*v1alpha1.BatchJob) bool) {
	return func(yield func(*v1alpha1.BatchJob) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
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
