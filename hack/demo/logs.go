// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/naming"
)

// shownLogs bounds the instances of a task whose logs are shown.
const shownLogs = 3

// showLogs prints the log of each task of a job.
func (d *demo) showLogs(ctx context.Context, job *v1alpha1.BatchJob) error {
	for _, task := range job.Spec.Job.Tasks {
		name := cmp.Or(task.TaskName, v1alpha1.DefaultTaskName)
		var pods corev1.PodList
		err := d.client.List(ctx, &pods, client.InNamespace(namespace), client.MatchingLabels{
			v1alpha1.LabelJobID: job.Status.JobID, v1alpha1.LabelTaskName: naming.TaskLabel(name),
		})
		if err != nil {
			return fmt.Errorf("listing the pods of task %s: %w", name, err)
		}
		slices.SortFunc(pods.Items, func(a, b corev1.Pod) int {
			return cmp.Or(number(a, v1alpha1.LabelTaskInstanceIndex)-number(b, v1alpha1.LabelTaskInstanceIndex),
				number(a, v1alpha1.LabelAttempt)-number(b, v1alpha1.LabelAttempt))
		})
		for i, pod := range pods.Items {
			if i == shownLogs && len(pods.Items) > shownLogs+1 {
				fmt.Fprintf(d.out, "%-28s and %d more like it\n", "", len(pods.Items)-shownLogs)
				break
			}
			if err := d.showLog(ctx, job.Name+"/"+name, pod); err != nil {
				return err
			}
		}
		if len(pods.Items) == 0 {
			fmt.Fprintf(d.out, "%-28s (never ran)\n", job.Name+"/"+name)
		}
	}
	return nil
}

func (d *demo) showLog(ctx context.Context, title string, pod corev1.Pod) error {
	out, err := d.cluster.Kubectl(ctx, "-n", namespace, "logs", pod.Name).Output()
	if err != nil {
		return fmt.Errorf("reading the log of pod %s: %w", pod.Name, err)
	}
	title += "[" + pod.Labels[v1alpha1.LabelTaskInstanceIndex] + "]"
	if attempt := number(pod, v1alpha1.LabelAttempt); attempt > 0 {
		title += fmt.Sprintf(" retry %d", attempt)
	}
	for line := range strings.Lines(string(out)) {
		fmt.Fprintf(d.out, "%-28s %s\n", title, strings.TrimRight(line, "\n"))
	}
	return nil
}

func number(pod corev1.Pod, label string) int {
	n, _ := strconv.Atoi(pod.Labels[label])
	return n
}
