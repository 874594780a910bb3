// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command bench measures how close the operator comes to what the API server and etcd of this
// machine can take. Nodes are pretended; Pods run and end at once.
//
// In every round each shape of work is done by each subject in turn, so that what else the
// machine does hits all alike: by a bare client that only creates the Pods (floor), by one
// that also patches each of them once, as whoever tracks their outcomes must (floor2), by the
// operator (ours), and where the shape fits by the cluster's own Job controller (job).
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/go-logr/logr"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"batchcompute.dev/operator/hack/internal/install"
)

// bench is one run.
type bench struct {
	target install.Target
	rounds int
	only   string
	small  bool
	out    string
	keep   bool

	cluster *install.Cluster
	kube    client.WithWatch
	api     rest.Interface
	manager int // process
	seq     int
	results []result
}

func main() {
	b := &bench{target: install.Target{
		Cluster: "local", Node: "fake", Out: os.Stderr, FakeNodes: 8, Unlimited: true,
	}}
	flag.StringVar(&b.target.Name, "name", "bench", "name of the cluster, which must not be up")
	flag.IntVar(&b.rounds, "rounds", 3, "how often everything is measured")
	flag.StringVar(&b.only, "shapes", "", "which shapes, as names with commas between; empty is all")
	flag.BoolVar(&b.small, "small", false, "a tenth of the work, for a first look")
	flag.StringVar(&b.out, "out", "bin/bench/results.json", "where the results go")
	flag.BoolVar(&b.keep, "keep", false, "leave the cluster up at the end")
	flag.Parse()
	log.SetLogger(logr.Discard()) // what there is to say is said here
	install.Main(func(ctx context.Context) error {
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
		return b.run(ctx)
	})
}

func (b *bench) run(ctx context.Context) (err error) {
	if !b.keep {
		defer func() {
			if downErr := install.Down(b.target); err == nil {
				err = downErr
			}
		}()
	}
	if err := b.setUp(ctx); err != nil {
		return err
	}
	for round := range b.rounds {
		for _, s := range b.shapes() {
			for _, subject := range s.subjects {
				r, err := b.measure(ctx, s, subject)
				if err != nil {
					return fmt.Errorf("%s by %s: %w", s.name, subject.name, err)
				}
				r.Round = round
				b.results = append(b.results, r)
				fmt.Fprintf(os.Stderr, "round %d %-4s %-7s %7.2f s %8.1f instances/s\n", round+1, s.name, subject.name, r.Seconds, r.rate())
			}
		}
	}
	report(os.Stdout, b.results)
	return b.write()
}

func (b *bench) setUp(ctx context.Context) (err error) {
	if b.cluster, err = install.Up(ctx, b.target); err != nil {
		return err
	}
	if err := b.cluster.Install(ctx); err != nil {
		return err
	}
	if b.kube, err = b.cluster.Client(); err != nil {
		return err
	}
	if err := batchv1.AddToScheme(b.kube.Scheme()); err != nil {
		return err
	}
	if b.api, err = b.cluster.API(); err != nil {
		return err
	}
	b.manager, err = b.cluster.HostManagerPID(ctx)
	return err
}

// shapes are those that were asked for.
func (b *bench) shapes() (list []shape) {
	for _, s := range shapes(b.small) {
		if b.only == "" || slices.Contains(strings.Split(b.only, ","), s.name) {
			list = append(list, s)
		}
	}
	return list
}

func (b *bench) write() error {
	data, err := json.MarshalIndent(b.results, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the results: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(b.out), 0o755); err != nil {
		return err
	}
	return os.WriteFile(b.out, append(data, '\n'), 0o644)
}
