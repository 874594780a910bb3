// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command bench measures how close the operator comes to what the API server and etcd of this
// machine can take. Nodes are pretended; Pods run and end at once.
//
// In every round each shape of work is done by each subject in turn, so that what else the
// machine does hits all alike: by a bare client that only creates the Pods (floor), by one
// that also patches each of them once, as whoever tracks their outcomes must (floor2), by the
// operator (ours), and where the shape fits by the cluster's own Job controller (job). After
// that the last two do some of it again in a cluster that allows each 100 requests a second.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"batchcompute.dev/operator/hack/internal/install"
	"batchcompute.dev/operator/internal/testutil/freeport"
)

// What a client may ask of the API server in a second: as good as anything, and what is
// usual. The subjects of the latter have limited behind their names.
const (
	lifted  = 5000
	usual   = 100
	limited = "@100"
)

// memory names the step that is no shape.
const memory = "memory"

// bench is one run.
type bench struct {
	target   install.Target
	rounds   int
	only     []string // names of shapes; empty is the usual ones
	by       []string // subjects
	small    bool
	check    bool
	usual    bool // measure at the usual limits as well
	bind     bool
	keep     bool
	out      string
	began    time.Time
	versions map[string]string

	cluster  *install.Cluster
	kube     client.WithWatch
	pod      *corev1.Pod // what all subjects make
	api      rest.Interface
	manager  int    // process
	profiles string // address
	suffix   string // of subjects
	// processes are all that run for the cluster, by name, and this one.
	processes map[string]int

	seq     int
	failed  int
	results []result
	figures []figure
}

func main() {
	b := &bench{began: time.Now(), target: install.Target{
		Cluster: "local", Node: "fake", Out: os.Stderr, FakeNodes: 12, // of 500 Pods each
	}}
	var only, by string
	flag.StringVar(&b.target.Name, "name", "bench", "name of the cluster, which must not be up")
	flag.IntVar(&b.rounds, "rounds", 3, "how often everything is measured")
	flag.StringVar(&only, "shapes", "", "what is measured, as names with commas between: "+strings.Join(names(), ", ")+". Empty: all but S6, S7 and S8, which take long")
	flag.StringVar(&by, "subjects", "", "who does it, as names with commas between: "+strings.Join(every, ", ")+". Empty: all of them")
	flag.BoolVar(&b.small, "small", false, "a tenth of the work, for a first look")
	flag.BoolVar(&b.usual, "limited", true, "measure S1-2000 and S4 also with clients that may make 100 requests a second; not with --small or --bind")
	flag.BoolVar(&b.bind, "bind", false, "bind Pods to nodes at once, in the place of the scheduler, so that more of the time is the operator's")
	flag.BoolVar(&b.check, "check", false, "measure little, and fail if the operator is far slower than it should be")
	flag.StringVar(&b.out, "out", "bin/bench/results.json", "where the results go; the chart goes beside")
	flag.BoolVar(&b.keep, "keep", false, "leave the cluster up at the end")
	flag.Parse()
	if only != "" {
		b.only = strings.Split(only, ",")
	}
	b.by = every
	if by != "" {
		b.by = strings.Split(by, ",")
	}
	log.SetLogger(logr.Discard()) // what there is to say is said here
	install.Main(func(ctx context.Context) error {
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
		defer stop()
		return b.run(ctx)
	})
}

// names are those of all that can be asked for.
func names() (list []string) {
	for _, s := range shapes(false) {
		list = append(list, s.name)
	}
	return append(list, s7, memory)
}

// run measures, and tells what there is even if it was cut short.
func (b *bench) run(ctx context.Context) error {
	for _, name := range b.only {
		if !slices.Contains(names(), name) {
			return fmt.Errorf("there is no shape %q, only %s", name, strings.Join(names(), ", "))
		}
	}
	for _, name := range b.by {
		if !slices.Contains(every, name) {
			return fmt.Errorf("there is no subject %q, only %s", name, strings.Join(every, ", "))
		}
	}
	if running, err := b.isUp(ctx); err != nil {
		return err
	} else if running {
		return fmt.Errorf("cluster %s is up: another run has it, or was told to keep it. Take it down (bin/cluster down --name %s), or use another --name",
			b.target.Name, b.target.Name)
	}
	err := b.all(ctx)
	if !b.keep {
		err = errors.Join(err, install.Down(b.target))
	}
	if len(b.results)+len(b.figures) > 0 {
		list := rows(b.results)
		report(os.Stdout, list, b.figures, barsOf(list, b.figures, b.results))
		err = errors.Join(err, b.write())
	}
	if b.failed > 0 {
		err = errors.Join(err, fmt.Errorf("%d measurements failed", b.failed))
	}
	if b.check && err == nil {
		err = verdict(rows(b.results))
	}
	return err
}

// isUp reports whether anything runs of the cluster. What a run left that was killed goes.
func (b *bench) isUp(ctx context.Context) (bool, error) {
	if c, err := install.Find(ctx, b.target); err == nil {
		running, err := c.Processes(ctx)
		if err != nil || len(running) > 0 {
			return true, err
		}
		return false, install.Down(b.target)
	}
	return false, nil
}

func (b *bench) all(ctx context.Context) (err error) {
	if b.pod, err = operatorsPod(); err != nil {
		return err
	}
	if err := b.setUp(ctx, lifted); err != nil {
		return err
	}
	if err := b.interleaved(ctx, b.shapes()); err != nil {
		return err
	}
	if b.asked(memory, true) {
		if err := b.measureMemory(ctx); err != nil {
			return err
		}
	}
	if b.asked(s7, false) {
		if err := b.age(ctx); err != nil {
			return err
		}
	}
	shapes := b.limitedShapes()
	if len(shapes) == 0 {
		return b.write()
	}
	if err := errors.Join(b.write(), install.Down(b.target)); err != nil {
		return err
	}
	b.suffix = limited
	if err := b.setUp(ctx, usual); err != nil {
		return err
	}
	return b.interleaved(ctx, shapes)
}

// interleaved measures every shape by every subject in each round.
func (b *bench) interleaved(ctx context.Context, shapes []shape) error {
	for round := range b.rounds {
		for _, s := range shapes {
			if s.once && round > 0 {
				continue
			}
			for _, subject := range s.subjects {
				if !slices.Contains(b.by, subject) {
					continue
				}
				if err := b.record(ctx, round, s, subject); err != nil {
					return err
				}
			}
		}
		if err := b.write(); err != nil {
			return err
		}
	}
	return nil
}

// setUp brings up a cluster whose clients may ask so much in a second.
func (b *bench) setUp(ctx context.Context, qps int) error {
	addresses, err := freeport.Addresses(1)
	if err != nil {
		return err
	}
	b.profiles = addresses[0]
	b.target.QPS = qps
	if !slices.Contains(b.by, job) {
		// So many that its collector of Pods keeps up with S6. At the default, 20, finished Pods pile
		// up, until kwok, which watches all of them, is cut off as too slow and lists them over and
		// over. Without a limit the collector sends thousands of deletions at once.
		b.target.Args = []string{
			fmt.Sprintf("kube-controller-manager=--kube-api-qps=%d", usual),
			fmt.Sprintf("kube-controller-manager=--kube-api-burst=%d", usual*3/2), // by default, too, half as many again
		}
	}
	b.target.ManagerArgs = []string{"--job-quota=0", "--job-bytes-quota=0", "--pprof-bind-address=" + b.profiles}
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
	if b.versions, err = b.versionsOf(ctx); err != nil {
		return err
	}
	if b.bind {
		if err := b.bindPods(ctx); err != nil {
			return err
		}
	}
	return b.findProcesses(ctx)
}

// findProcesses notes who runs.
func (b *bench) findProcesses(ctx context.Context) (err error) {
	if b.manager, err = b.cluster.HostManagerPID(ctx); err != nil {
		return err
	}
	if b.processes, err = b.cluster.Processes(ctx); err != nil {
		return err
	}
	b.processes["bench"] = os.Getpid()
	return nil
}

// asked tells whether something was asked for, by its name or because nothing was.
func (b *bench) asked(name string, usually bool) bool {
	if b.check {
		return false
	}
	return slices.Contains(b.only, name) || usually && len(b.only) == 0
}

// shapes are those that were asked for.
func (b *bench) shapes() (list []shape) {
	if b.check {
		for _, c := range checked {
			list = append(list, c.shape)
		}
	}
	for _, s := range shapes(b.small) {
		if b.asked(s.name, !s.once) {
			list = append(list, s)
		}
	}
	return list
}

// limitedShapes are those of them that are measured at the usual limits as well.
func (b *bench) limitedShapes() (list []shape) {
	for _, s := range b.shapes() {
		if b.usual && !b.small && !b.bind && (s.name == "S1-2000" || s.name == "S4") {
			s.subjects = []string{ours, job}
			list = append(list, s)
		}
	}
	return list
}

// verdict is what --check comes to.
func verdict(list []row) error {
	var errs error
	for _, c := range checked {
		got := 0.0
		for _, r := range list {
			if r.Shape == c.shape.name && r.Subject == ours && r.OfFloor2 != nil {
				got = r.OfFloor2.Median
			}
		}
		if got < c.least {
			errs = errors.Join(errs, fmt.Errorf("%s runs at %.2f of the rate of a bare client that patches, and must at %.2f", c.shape.name, got, c.least))
		}
	}
	return errs
}
