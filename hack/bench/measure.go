// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
)

// result is one measurement.
type result struct {
	Round     int     `json:"round"`
	Shape     string  `json:"shape"`
	Subject   string  `json:"subject"`
	Instances int     `json:"instances"` // those of the small jobs beside among them
	Seconds   float64 `json:"seconds"`
	// Error is why there is nothing else to be said.
	Error string `json:"error,omitempty"`
	// Processor is what each program used of it, in milliseconds for each instance.
	Processor map[string]float64 `json:"processorMillisecondsPerInstance,omitempty"`
	// Cost is the operator's.
	Cost *cost `json:"cost,omitempty"`
	// Hops are from the end of the last task that one waits for to its first Pod.
	HopP50 float64 `json:"hopP50ms,omitempty"`
	HopP99 float64 `json:"hopP99ms,omitempty"`
	// Fairness is how long small jobs that came meanwhile waited for their first Pod, and what
	// of it is the cluster's: bare Pods of a bare client.
	FairP50 float64 `json:"fairnessP50ms,omitempty"`
	FairP99 float64 `json:"fairnessP99ms,omitempty"`
	BareP50 float64 `json:"fairnessBareP50ms,omitempty"`
	BareP99 float64 `json:"fairnessBareP99ms,omitempty"`
	Probes  int     `json:"fairnessJobs,omitempty"`
}

// cost is what the operator took for its work. Writes and events are for each instance.
type cost struct {
	CPU         float64 `json:"cpuSeconds"`
	CPUEach     float64 `json:"cpuMillisecondsPerInstance"`
	RSS         float64 `json:"peakRSSMiB"`
	Creates     float64 `json:"podCreates"`
	Patches     float64 `json:"podPatches"`
	Deletes     float64 `json:"podDeletes"`
	Statuses    float64 `json:"statusWrites"`
	Events      float64 `json:"eventWrites"`
	StatusBytes int     `json:"maxStatusBytes"`
}

// writes are those that the work cannot do without, so events are not among them.
func (c cost) writes() float64 { return c.Creates + c.Patches + c.Deletes + c.Statuses }

func (r result) rate() float64 { return float64(r.Instances) / r.Seconds }

// record measures and keeps the result. What fails is kept too, and the other shapes are measured.
func (b *bench) record(ctx context.Context, round int, s shape, subject string) error {
	r, err := b.measure(ctx, s, subject)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.Round, r.Shape, r.Subject = round, s.name, subject+b.suffix
	line := fmt.Sprintf("%8.2f s %8.1f instances/s", r.Seconds, r.rate())
	if err != nil {
		r.Error = err.Error()
		line = r.Error
		b.failed++
	}
	b.results = append(b.results, r)
	fmt.Fprintf(os.Stderr, "round %d %-9s %-8s %s\n", round+1, r.Shape, r.Subject, line)
	return nil
}

// timeout is how long so many instances may take. A machine that does others' work as well is slow,
// but it manages one in a tenth of a second.
func timeout(instances int) time.Duration {
	return 3*time.Minute + time.Duration(instances)*100*time.Millisecond
}

// measure has a subject do the work of a shape once, and clears up behind it, which takes no
// time of anybody's.
func (b *bench) measure(ctx context.Context, s shape, subject string) (r result, err error) {
	r.Instances = s.total()
	namespace, err := b.namespace(ctx)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, b.clear(ctx, namespace)) }()
	limited, cancel := context.WithTimeout(ctx, timeout(s.total()))
	defer cancel()
	before, err := b.used()
	if err != nil {
		return r, err
	}
	defer func() {
		after, e := b.used()
		r.Processor, err = map[string]float64{}, errors.Join(err, e)
		for name, t := range after {
			r.Processor[name] = milliseconds(t-before[name]) / float64(r.Instances)
		}
	}()
	if subject == ours {
		err = b.measureOurs(limited, &r, namespace, s)
		return r, err
	}
	begin := time.Now()
	_, err = b.do(limited, subject, namespace, s)
	r.Seconds = time.Since(begin).Seconds()
	return r, err
}

// measureOurs also looks at what the operator takes for it.
func (b *bench) measureOurs(ctx context.Context, r *result, namespace string, s shape) error {
	var p *prober
	if s.probed {
		other, err := b.namespace(ctx)
		if err != nil {
			return err
		}
		if p, err = b.probe(ctx, other); err != nil {
			return err
		}
		defer func() {
			p.stop()
			if err := b.clear(ctx, other); err != nil {
				fmt.Fprintln(os.Stderr, "clearing up behind the small jobs:", err)
			}
		}()
	}
	if err := forgetPeak(b.manager); err != nil {
		return err
	}
	before, err := b.spent(ctx)
	if err != nil {
		return err
	}
	begin := time.Now()
	seen, err := b.do(ctx, ours, namespace, s)
	r.Seconds = time.Since(begin).Seconds()
	if err != nil {
		return err
	}
	if p != nil {
		jobs, bare := p.stop()
		r.FairP50, r.FairP99, r.Probes = milliseconds(percentile(jobs, 50)), milliseconds(percentile(jobs, 99)), len(jobs)
		r.BareP50, r.BareP99 = milliseconds(percentile(bare, 50)), milliseconds(percentile(bare, 99))
		r.Instances += p.pods()
	}
	after, err := b.spent(ctx)
	if err != nil {
		return err
	}
	events, err := b.events(ctx, namespace)
	if err != nil {
		return err
	}
	c := costOf(before, after, r.Instances)
	c.Events, c.StatusBytes = float64(events)/float64(s.total()), seen.statusBytes
	if c.RSS, err = peak(b.manager); err != nil {
		return err
	}
	r.Cost = &c
	if len(seen.hops) > 0 {
		r.HopP50, r.HopP99 = milliseconds(percentile(seen.hops, 50)), milliseconds(percentile(seen.hops, 99))
	}
	return nil
}

// namespace makes a new one.
func (b *bench) namespace(ctx context.Context) (string, error) {
	b.seq++
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("bench-", b.seq)}}
	if err := b.kube.Create(ctx, ns); err != nil {
		return "", fmt.Errorf("making a namespace: %w", err)
	}
	return ns.Name, nil
}

// clear deletes what is in a namespace, so that it burdens no measurement that comes after. An
// empty namespace burdens nobody, and to delete it as well would take seconds; nor do events,
// which nobody watches and which are more than all else.
func (b *bench) clear(ctx context.Context, namespace string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	kinds := []struct {
		object client.Object
		list   client.ObjectList
	}{
		{&v1alpha1.BatchJob{}, &v1alpha1.BatchJobList{}},
		{&batchv1.Job{}, &batchv1.JobList{}},
		{&corev1.Pod{}, &corev1.PodList{}},
	}
	for {
		var errs error
		left := 0
		for _, k := range kinds {
			// What is too much for one request ends with an error and has come some way.
			errs = errors.Join(errs, b.kube.DeleteAllOf(ctx, k.object, client.InNamespace(namespace),
				client.GracePeriodSeconds(0), client.PropagationPolicy(metav1.DeletePropagationBackground)))
			if err := b.kube.List(ctx, k.list, client.InNamespace(namespace), client.Limit(1)); err != nil {
				return fmt.Errorf("listing what is left in %s: %w", namespace, err)
			}
			left += meta.LenList(k.list)
		}
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("clearing %s: %w", namespace, errors.Join(ctx.Err(), errs))
		case <-time.After(200 * time.Millisecond):
		}
	}
}
