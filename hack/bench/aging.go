// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"

	"batchcompute.dev/operator/hack/internal/install"
)

// S7 is S4 twice: before and after many jobs have been done and kept.
const (
	s7       = "S7"
	s7Before = "S7-before"
	s7After  = "S7-after"
)

// age measures S4, has many jobs done, which are kept, measures S4 again, and then restarts
// the manager.
func (b *bench) age(ctx context.Context) error {
	n := part(b.small)
	s4 := func(name string) error {
		for round := range b.rounds {
			if err := b.record(ctx, round, shape{name: name, jobs: 2000 / n, tasks: single(1)}, ours); err != nil {
				return err
			}
		}
		return nil
	}
	if err := s4(s7Before); err != nil {
		return err
	}
	kept := shape{jobs: 10_000 / n, tasks: single(1)}
	namespace, err := b.namespace(ctx)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, timeout(kept.total()))
	defer cancel()
	if _, err := b.batchJobs(limited, namespace, kept); err != nil {
		return fmt.Errorf("having jobs done that are kept: %w", err)
	}
	if err := s4(s7After); err != nil {
		return err
	}
	if err := b.restart(ctx); err != nil {
		return fmt.Errorf("restarting the manager: %w", err)
	}
	return b.clear(ctx, namespace)
}

// restart ends the manager as an upgrade does, starts it again, and times how long it takes
// until it says that it serves, and until a new job has its first Pod.
func (b *bench) restart(ctx context.Context) error {
	if err := syscall.Kill(b.manager, syscall.SIGTERM); err != nil {
		return err
	}
	if err := poll(ctx, func() bool { return gone(b.manager) }); err != nil {
		return err
	}
	begin := time.Now()
	if err := b.cluster.Start(ctx, install.ManagerPart); err != nil {
		return err
	}
	if err := poll(ctx, func() bool { return ready(ctx, b.cluster.ReadyURL) }); err != nil {
		return err
	}
	b.figure(figure{Name: restart, Value: time.Since(begin).Seconds(), Unit: "s"})
	namespace, err := b.namespace(ctx)
	if err != nil {
		return err
	}
	wait, err := b.follow(ctx, namespace, &corev1.PodList{}, func(watch.Event) (bool, error) { return true, nil })
	if err != nil {
		return err
	}
	// The webhook's certificate may take the API server a moment.
	job := batchJob(namespace, 0, small, atOnce)
	if err := poll(ctx, func() bool { return b.kube.Create(ctx, job) == nil }); err != nil {
		return err
	}
	if err := wait(); err != nil {
		return err
	}
	b.figure(figure{Name: restartFirst, Value: time.Since(begin).Seconds(), Unit: "s"})
	if err := b.findProcesses(ctx); err != nil {
		return err
	}
	return b.clear(ctx, namespace)
}

// gone tells whether a process has ended, even if nobody has asked how.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) {
		return true
	}
	return strings.HasPrefix(string(stat[strings.LastIndex(string(stat), ")")+1:]), " Z")
}

func ready(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// poll waits until something is so.
func poll(ctx context.Context, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for !done() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}
