// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command soak runs BatchJobs with real Pods for a while, kills the manager and the node
// under them all the time, and then compares what became of the jobs with what becomes of
// them without faults. It ends with a table, and with 1 if anything is wrong.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"batchcompute.dev/operator/hack/internal/install"
	"batchcompute.dev/operator/hack/soak/ledger"
)

func main() {
	s := &soak{out: os.Stdout, target: install.Target{Cluster: "local", Out: os.Stdout, Args: impatience}}
	flag.StringVar(&s.target.Node, "node", "auto", "what runs the Pods: node, process or auto")
	flag.StringVar(&s.target.Name, "name", "soak", "name of the cluster, which must not be up")
	flag.DurationVar(&s.duration, "duration", 90*time.Second, "how long new jobs are submitted; then those that run may end")
	flag.IntVar(&s.atOnce, "jobs", 0, "how many jobs are active at once; 0 is 50 in a long soak, and one of each shape in one of less than 5 minutes")
	flag.IntVar(&s.unitSeconds, "unit-seconds", 0, "how many seconds commands take, more or less; 0 is 15 in a long soak, and 3 in a short one")
	flag.DurationVar(&s.killEvery, "kill-every", 5*time.Second, "how often the manager is killed; 0 is never")
	flag.BoolVar(&s.nodeDies, "node-dies", true, "kill the node as well")
	flag.StringVar(&s.only, "shapes", "", "which jobs, as names with commas between; empty is all")
	flag.BoolVar(&s.keep, "keep", false, "leave the cluster up at the end")
	flag.Parse()
	s.measure()
	log.SetLogger(logr.Discard()) // what there is to say is said here
	install.Main(func(ctx context.Context) error {
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
		defer stop()
		return s.run(ctx)
	})
}

// impatience makes the control plane notice within seconds that a node is dead, and put
// its Pods out, for which it usually takes minutes.
var impatience = []string{
	"kube-controller-manager=--node-monitor-grace-period=16s",
	"kube-apiserver=--default-not-ready-toleration-seconds=10",
	"kube-apiserver=--default-unreachable-toleration-seconds=10",
}

// soak is one run.
type soak struct {
	target      install.Target
	out         io.Writer
	duration    time.Duration
	atOnce      int
	unitSeconds int
	killEvery   time.Duration
	nodeDies    bool
	only        string
	keep        bool

	cluster *install.Cluster
	kube    kube
	books   ledger.Ledger
	faults  faults
	tally   tally
}

// short is a soak that is.
const short = 5 * time.Minute

// measure decides what was not asked for. Two cores start some Pods in a second at most: in
// a short soak few jobs come to their ends in time, and in a long one commands must take
// theirs, or the node does nothing but start Pods, the manager's, which was killed, among
// the last.
func (s *soak) measure() {
	jobs, unitSeconds := 50, 15
	if s.duration < short {
		jobs, unitSeconds = len(shapes), 3
	}
	s.atOnce, s.unitSeconds = cmp.Or(s.atOnce, jobs), cmp.Or(s.unitSeconds, unitSeconds)
}

func (s *soak) run(ctx context.Context) (err error) {
	if !s.keep {
		defer func() {
			if downErr := install.Down(s.target); err == nil {
				err = downErr
			}
		}()
	}
	if s.cluster, err = install.Up(ctx, s.target); err != nil {
		return err
	}
	if err := s.cluster.Install(ctx); err != nil {
		return err
	}
	if s.kube, err = s.cluster.Client(); err != nil {
		return err
	}
	began := time.Now()
	if err := s.soak(ctx); err != nil {
		return err
	}
	findings := s.books.Findings()
	s.printTable(time.Since(began), findings)
	if len(findings) > 0 {
		return fmt.Errorf("%d things are wrong", len(findings))
	}
	return nil
}
