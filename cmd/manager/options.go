// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/url"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client/config"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/controllers/batchjob"
	"batchcompute.dev/operator/internal/nodes"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/webhook"
)

// options are the manager's flags.
type options struct {
	catalog         string
	notifySecrets   string
	namespace       string
	leaderElect     bool
	metricsAddr     string
	metricsSecure   bool
	probeAddr       string
	pprofAddr       string
	webhookAddr     string
	webhookDir      string
	webhookURL      *url.URL
	webhookClientCA string
	jobQuota        int64
	jobBytesQuota   int64
	envQuota        int64
	templateQuota   int64
	largeJobMemory  int
	agentImage      string
	imageVolumes    string
	hold            time.Duration
	unknownZones    string
	workers         int
	resourceWait    time.Duration
	qps             float64
	burst           int
	verbosity       int
}

// defaultNamespace is where config/default puts the manager.
const defaultNamespace = "batchcompute-system"

// defaultJobBytesQuota is 64 KiB for each of the 1,000 jobs of --job-quota, three times what a
// small one takes; an eighth of the manager's memory limit, so that one namespace cannot use it
// up; and such that 30 full namespaces fit into etcd's default size, 2 GiB.
const defaultJobBytesQuota = 64 << 20

// maxHold is longer than anybody needs to look at a container.
const maxHold = 30 * 24 * time.Hour

// The values of --unknown-zones.
const (
	zonesWait   = "wait"
	zonesReject = "reject"
)

// parseOptions reads the command line, without the program's name.
func parseOptions(args []string) (*options, error) {
	o := &options{}
	fs := flag.NewFlagSet("manager", flag.ContinueOnError)
	fs.StringVar(&o.catalog, "catalog", "",
		"File of kind Catalog: images, machines, disks, charge types, priorities and mirrors. It is watched: a change takes "+
			"effect without a restart, and an invalid one is ignored. Empty: built-in defaults.")
	fs.StringVar(&o.notifySecrets, "notification-secrets-dir", "",
		"Directory with a file for each key of the Secret that the catalogue's topics of notifications take their keys from. Its files are read "+
			"again whenever they are needed. Empty: topics with keys cannot be used.")
	fs.StringVar(&o.namespace, "namespace", cmp.Or(os.Getenv("POD_NAMESPACE"), defaultNamespace),
		"Namespace of the manager's own objects: lease, certificate, service. Default: $POD_NAMESPACE.")
	fs.BoolVar(&o.leaderElect, "leader-elect", true,
		"Reconcile only while holding the lease, so that several replicas can stand by. Webhooks are served by all.")
	fs.StringVar(&o.metricsAddr, "metrics-bind-address", ":8443", "Address of /metrics; 0 turns it off.")
	fs.BoolVar(&o.metricsSecure, "metrics-secure", true,
		"Serve metrics over HTTPS and only to those who may get /metrics.")
	fs.StringVar(&o.probeAddr, "health-probe-bind-address", ":8081", "Address of /healthz and /readyz; 0 turns it off.")
	fs.StringVar(&o.pprofAddr, "pprof-bind-address", "", "Address of /debug/pprof. Empty: off. It has no access control.")
	fs.StringVar(&o.webhookAddr, "webhook-bind-address", ":9443", "Address of the admission webhook.")
	fs.StringVar(&o.webhookDir, "webhook-cert-dir", "",
		"Directory with tls.crt and tls.key for the webhook, as cert-manager writes them. "+
			"Empty: the manager makes and rotates its own and keeps the webhook configuration's caBundle.")
	fs.Func("webhook-url", "https URL without path under which the API server reaches the webhook of a manager that runs "+
		"outside the cluster. Empty: through the service.", o.setWebhookURL)
	fs.StringVar(&o.webhookClientCA, "webhook-client-ca-file", "",
		"File with the authorities, in PEM, of the client certificates that API servers show to the webhook; nobody else is answered. "+
			"It is read again when it changes. Empty: no certificate is asked for, see docs/security.md.")
	fs.Int64Var(&o.jobQuota, "job-quota", 1000, "How many BatchJobs a namespace may keep, finished ones included, unless its annotation "+
		v1alpha1.AnnotationJobQuota+" says another number; 0 means any number.")
	o.jobBytesQuota = defaultJobBytesQuota
	fs.Func("job-bytes-quota", "How many bytes the BatchJobs of a namespace may take together, finished ones included, each with the largest "+
		"status that it can still reach, unless the namespace's annotation "+v1alpha1.AnnotationJobBytesQuota+
		" says another number; 0 means any number. (default 64Mi)", o.setJobBytesQuota)
	o.largeJobMemory = largeJobMemory(debug.SetMemoryLimit(-1))
	fs.Func("large-job-memory", "Memory that started large jobs, those of more than about 20 tasks, may use together; further large jobs wait. "+
		"At least 16Mi. (default a quarter of GOMEMLIMIT, 128Mi without one)", o.setLargeJobMemory)
	fs.StringVar(&o.agentImage, "agent-image", "batchcompute-agent:dev", "Image of the agent, which Pods get whose task has mappings, a package or redirects.")
	fs.StringVar(&o.imageVolumes, "agent-image-volumes", imageVolumesAuto, "Whether the agent's image is mounted as a volume in the container of the command: "+
		imageVolumesAuto+", when every node can do that at the moment (kubelet 1.35, and containerd 2.1 or CRI-O 1.31); true; or false, an init container copies the agent, which takes about a second longer.")
	fs.DurationVar(&o.hold, "hold", 24*time.Hour, "How long the container of an instance that is FAILED_INTERRUPTED stays alive, so that kubectl exec works in it. 0: not at all.")
	fs.Int64Var(&o.envQuota, "compute-env-quota", 10, "How many ComputeEnvs a namespace may keep, unless its annotation "+
		v1alpha1.AnnotationEnvQuota+" says another number; 0 means any number.")
	fs.Int64Var(&o.templateQuota, "task-template-quota", 50, "How many TaskTemplates a namespace may keep, unless its annotation "+
		v1alpha1.AnnotationTemplateQuota+" says another number; 0 means any number.")
	fs.StringVar(&o.unknownZones, "unknown-zones", zonesWait, "What becomes of a request for a zone that no node is in: "+
		zonesWait+", its Pods wait for a node; "+zonesReject+", it is refused.")
	fs.IntVar(&o.workers, "max-concurrent-reconciles", 32, "How many jobs are reconciled at the same time, at most half of them from one namespace.")
	fs.DurationVar(&o.resourceWait, "resource-wait", plan.DefaultResourceWait, "Acquisition timeout of the first three machines of an instance. "+
		"It is 1.5 times as long for the 4th to 10th, 3 times up to the 50th, and 6 times after that.")
	fs.Float64Var(&o.qps, "kube-api-qps", 400, "Requests a second to the API server, on average.")
	fs.IntVar(&o.burst, "kube-api-burst", 800, "Requests to the API server in a burst.")
	fs.IntVar(&o.verbosity, "v", 0, "Log level: 0 is what an operator should know, 1 adds each change of the state of a job, task or ComputeEnv, 2 what each pass decides, 4 and more what the Kubernetes libraries log for debugging.")
	config.RegisterFlags(fs)
	fs.SetOutput(io.Discard) // main prints the error; the list of all flags would hide it
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fs.SetOutput(os.Stdout)
		fs.PrintDefaults()
	}
	if err != nil {
		return nil, err
	}
	return o, o.check(fs)
}

func (o *options) setWebhookURL(s string) error {
	u, err := url.Parse(s)
	if err != nil {
		return err
	}
	if u.Scheme != "https" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return errors.New("must be such as https://127.0.0.1:9443")
	}
	o.webhookURL = u
	return nil
}

func (o *options) setJobBytesQuota(s string) (err error) {
	o.jobBytesQuota, err = webhook.ParseBytes(s)
	return err
}

// imageVolumesAuto is the value of --agent-image-volumes that lets the nodes decide.
const imageVolumesAuto = "auto"

// agent returns how Pods get the agent in a cluster with the nodes that are known at the moment.
func (o *options) agent(known *nodes.Index) func() podspec.Agent {
	return func() podspec.Agent {
		volumes := o.imageVolumes == "true" || o.imageVolumes == imageVolumesAuto && known.Complete() && known.ImageVolumes()
		return podspec.Agent{Image: o.agentImage, ImageVolumes: volumes, Hold: o.hold}
	}
}

// leastLargeJobMemory is what the largest job takes that there is.
const leastLargeJobMemory = 16 << 20

// largeJobMemory is the default of --large-job-memory where the memory limit of Go is limit bytes.
func largeJobMemory(limit int64) int {
	if limit == math.MaxInt64 { // there is none
		return batchjob.DefaultLargeJobMemory
	}
	return int(max(limit/4, leastLargeJobMemory))
}

func (o *options) setLargeJobMemory(s string) error {
	n, err := webhook.ParseBytes(s)
	if err == nil && n < leastLargeJobMemory {
		err = errors.New("must be at least 16Mi")
	}
	o.largeJobMemory = int(n)
	return err
}

// check returns what no single flag can see.
func (o *options) check(fs *flag.FlagSet) error {
	_, port, err := net.SplitHostPort(o.webhookAddr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	switch {
	case err != nil:
		return fmt.Errorf("--webhook-bind-address must be such as :9443: %w", err)
	case fs.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case o.webhookDir != "" && o.webhookURL != nil:
		return errors.New("--webhook-url needs certificates that the manager makes itself: it excludes --webhook-cert-dir")
	case o.hold < 0 || o.hold > maxHold || o.hold%time.Second != 0:
		return fmt.Errorf("--hold must be 0 to %d whole seconds, got %s", int(maxHold/time.Second), o.hold)
	case o.agentImage == "":
		return errors.New("--agent-image must name an image")
	case !slices.Contains([]string{imageVolumesAuto, "true", "false"}, o.imageVolumes):
		return fmt.Errorf("--agent-image-volumes must be %s, true or false, got %q", imageVolumesAuto, o.imageVolumes)
	case o.workers < 1:
		return errors.New("--max-concurrent-reconciles must be at least 1")
	case o.qps <= 0 || o.burst < 1:
		return errors.New("--kube-api-qps must be more than 0, and --kube-api-burst at least 1")
	case o.resourceWait <= 0:
		return errors.New("--resource-wait must be more than 0")
	case o.jobQuota < 0:
		return errors.New("--job-quota must not be negative")
	case o.envQuota < 0:
		return errors.New("--compute-env-quota must not be negative")
	case o.templateQuota < 0:
		return errors.New("--task-template-quota must not be negative")
	case o.unknownZones != zonesWait && o.unknownZones != zonesReject:
		return fmt.Errorf("--unknown-zones must be %s or %s", zonesWait, zonesReject)
	}
	return nil
}
