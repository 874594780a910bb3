// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command demo brings a cluster up, installs the operator as a user would, runs the
// sample jobs, and shows them at work. Then a program with the vendor's SDK submits a job to the gateway.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/term"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/hack/internal/install"
	"batchcompute.dev/operator/hack/internal/receiver"
)

// samples is the directory of the jobs that are shown, and sampleZone their zone.
const (
	samples    = "config/samples"
	sampleZone = "ap-guangzhou-2"
)

// jobTimeout bounds how long the jobs may take.
const jobTimeout = 5 * time.Minute

func main() {
	t := install.Target{Out: os.Stdout, Store: true, Gateway: true}
	flag.StringVar(&t.Cluster, "cluster", "local", "who runs the cluster: local, kind or existing")
	flag.StringVar(&t.Node, "node", "auto", "what runs the Pods of a local cluster: node, process or auto")
	flag.StringVar(&t.Name, "name", "demo", "name of the cluster")
	flag.StringVar(&t.Image, "image", "", "the operator's image, for an existing cluster")
	flag.StringVar(&t.AgentImage, "agent-image", "", "the agent's image, for an existing cluster")
	flag.Parse()
	log.SetLogger(logr.Discard()) // what there is to say is said here
	install.Main(func(ctx context.Context) error {
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
		width, _, err := term.GetSize(int(os.Stdout.Fd())) // fails where it is no terminal
		return (&demo{target: t, out: os.Stdout, terminal: err == nil, width: max(width, 40)}).run(ctx)
	})
}

// demo is one run of the demonstration.
type demo struct {
	target   install.Target
	cluster  *install.Cluster
	client   client.WithWatch
	out      io.Writer
	receiver *receiver.Receiver // of notifications; nil if the cluster cannot reach one
	terminal bool
	width    int // of the terminal
}

func (d *demo) run(ctx context.Context) (err error) {
	d.title("A Kubernetes cluster")
	if d.cluster, err = install.Up(ctx, d.target); err != nil {
		return err
	}
	if d.cluster.NodeKind == "process" {
		fmt.Fprintln(d.out, "Pods run as local processes on this machine, and the manager beside them: the process node is for trying out, never for production.")
	}
	if err := d.listen(); err != nil {
		return err
	}
	d.title("The operator")
	if err := d.cluster.Install(ctx); err != nil {
		return err
	}
	if d.client, err = d.cluster.Client(); err != nil {
		return err
	}
	d.title("The jobs")
	names, err := d.submit(ctx)
	if err != nil {
		return err
	}
	jobs, err := d.follow(ctx, names)
	if err != nil {
		return err
	}
	d.title("What the tasks printed")
	for _, job := range jobs {
		if err := d.showLogs(ctx, job); err != nil {
			return err
		}
	}
	if err := d.showResults(ctx, jobs); err != nil {
		return err
	}
	d.title("How the jobs ended")
	if err := d.kubectl(ctx, "", nil, append([]string{"get", "batchjobs"}, names...)...); err != nil {
		return err
	}
	if err := check(jobs); err != nil {
		return err
	}
	d.title("A program with the vendor's SDK")
	zone, err := d.zone(ctx)
	if err != nil {
		return err
	}
	if err := d.showSDK(ctx, zone); err != nil {
		return err
	}
	d.next()
	return nil
}

// showResults shows what jobs have left outside of the cluster.
func (d *demo) showResults(ctx context.Context, jobs []*v1alpha1.BatchJob) error {
	for _, job := range jobs {
		var err error
		switch {
		case job.Name == "data" && d.cluster.Store != nil:
			d.title("What the job data has stored")
			err = d.showObjects(ctx, job)
		case job.Name == notificationSample && d.receiver != nil:
			d.title("What the receiver of the job " + notificationSample + " got")
			err = d.showEvents(ctx, job)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) title(text string) { fmt.Fprintf(d.out, "\n── %s\n", text) }

// kubectl runs kubectl in front of the user; source is what is shown before it and makes stdin.
func (d *demo) kubectl(ctx context.Context, source string, stdin io.Reader, args ...string) error {
	fmt.Fprintf(d.out, "$ %skubectl %s\n", source, strings.Join(args, " "))
	cmd := d.cluster.Kubectl(ctx, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, d.out, d.out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("kubectl %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// submit applies the samples, and returns the names of their jobs; jobs of an earlier run go first, since a job
// runs once.
func (d *demo) submit(ctx context.Context) ([]string, error) {
	zone, err := d.zone(ctx)
	if err != nil {
		return nil, err
	}
	if err := d.deleteSamples(ctx); err != nil {
		return nil, err
	}
	text, show, err := d.manifests(ctx)
	if err != nil {
		return nil, err
	}
	edit := ""
	if zone != sampleZone {
		fmt.Fprintf(d.out, "The samples ask for zone %s, which no node has; here they run in zone %s.\n", sampleZone, zone)
		text, edit = strings.ReplaceAll(text, sampleZone, zone), fmt.Sprintf(" | sed s/%s/%s/", sampleZone, zone)
	}
	names, err := jobsIn(text)
	if err != nil {
		return nil, err
	}
	return names, d.kubectl(ctx, show+edit+" | ", strings.NewReader(text), "apply", "-f", "-")
}

// manifests returns the samples that can run on this cluster, and the command that prints them.
func (d *demo) manifests(ctx context.Context) (text, show string, err error) {
	// Not apply -k: it asks for an order of its own, and warns that the samples have theirs.
	built, err := d.cluster.Kubectl(ctx, "kustomize", samples).Output()
	if err != nil {
		return "", "", fmt.Errorf("building the samples: %w", err)
	}
	text, show = string(built), "kubectl kustomize "+samples
	if d.cluster.Store != nil {
		if err := d.prepareData(ctx); err != nil {
			return "", "", err
		}
	}
	extra := d.extraSamples()
	if len(extra) == 0 {
		return text, show, nil
	}
	show = fmt.Sprintf("(%s; cat", show)
	for _, name := range extra {
		sample, err := os.ReadFile(samplePath(name))
		if err != nil {
			return "", "", err
		}
		text += "---\n" + string(sample)
		show += " " + samplePath(name)
	}
	return text, show + ")", nil
}

// jobsIn returns the names of the BatchJobs in manifests, sorted.
func jobsIn(manifests string) ([]string, error) {
	var names []string
	for d := yaml.NewYAMLOrJSONDecoder(strings.NewReader(manifests), 4096); ; {
		var object metav1.PartialObjectMetadata
		switch err := d.Decode(&object); {
		case errors.Is(err, io.EOF):
			slices.Sort(names)
			return names, nil
		case err != nil:
			return nil, fmt.Errorf("reading the samples: %w", err)
		case object.Kind == "BatchJob":
			names = append(names, object.Name)
		}
	}
}

// deleteSamples deletes the samples of an earlier run.
func (d *demo) deleteSamples(ctx context.Context) error {
	for _, name := range append([]string{notificationSample}, dataSamples...) {
		if err := d.cluster.Kubectl(ctx, "delete", "-f", samplePath(name), "--ignore-not-found").Run(); err != nil {
			return fmt.Errorf("deleting the jobs of an earlier run: %w", err)
		}
	}
	for try := 1; ; try++ {
		err := d.cluster.Kubectl(ctx, "delete", "-k", samples, "--ignore-not-found").Run()
		if err == nil {
			return nil
		}
		if try == 2 { // the first time, a job that is deleted as well may still use a ComputeEnv
			return fmt.Errorf("deleting the jobs of an earlier run: %w", err)
		}
	}
}

// zone returns the samples' zone if a node has it, else one that a node has.
func (d *demo) zone(ctx context.Context) (string, error) {
	var nodes corev1.NodeList
	if err := d.client.List(ctx, &nodes); err != nil {
		return "", fmt.Errorf("listing the nodes: %w", err)
	}
	found := ""
	for _, n := range nodes.Items {
		switch zone := n.Labels[corev1.LabelTopologyZone]; {
		case zone == sampleZone:
			return zone, nil
		case found == "":
			found = zone
		}
	}
	if found == "" {
		return "", fmt.Errorf("no node says which zone it is in; label one: kubectl label node NAME %s=%s", corev1.LabelTopologyZone, sampleZone)
	}
	return found, nil
}

// check compares the ends of the jobs with what the samples are made for. It names each that ended otherwise.
func check(jobs []*v1alpha1.BatchJob) error {
	var errs []error
	for _, job := range jobs {
		want := v1alpha1.JobSucceed
		if job.Name == "retries" { // fails on purpose
			want = v1alpha1.JobFailed
		}
		if job.Status.State != want {
			errs = append(errs, fmt.Errorf("job %s is %s, not %s: %s", job.Name, job.Status.State, want, job.Status.Message))
		}
	}
	return errors.Join(errs...)
}

// down is what removes what this demo made.
func (d *demo) down() string {
	out := "make demo-down"
	if d.target.Name != "demo" {
		out += " NAME=" + d.target.Name
	}
	if d.target.Cluster != "local" {
		out += " CLUSTER=" + d.target.Cluster
	}
	return out
}

// next says what to type now.
func (d *demo) next() {
	kubectl := "kubectl"
	if _, err := exec.LookPath(kubectl); err != nil {
		if kubectl, err = filepath.Rel(".", d.cluster.KubectlPath()); err != nil || strings.HasPrefix(kubectl, "..") {
			kubectl = d.cluster.KubectlPath()
		}
	}
	d.title("What next")
	fmt.Fprintf(d.out, `  export KUBECONFIG=%s
  %[2]s get batchjobs -o wide
  %[2]s describe batchjob pipeline
  %[2]s explain batchjob.spec.job.tasks
  %[2]s apply -f config/samples/dag.yaml     # your own job here
  %-42[3]s # removes everything
`, d.cluster.Kubeconfig, kubectl, d.down())
}
