// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command manager runs the operator: its reconcilers and its admission webhook.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"os"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	ctrlwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/controllers/batchjob"
	"batchcompute.dev/operator/controllers/computeenv"
	"batchcompute.dev/operator/internal/catalogfile"
	"batchcompute.dev/operator/internal/certs"
	"batchcompute.dev/operator/internal/fairrate"
	"batchcompute.dev/operator/internal/metrics"
	"batchcompute.dev/operator/internal/nodes"
	"batchcompute.dev/operator/internal/slots"
	"batchcompute.dev/operator/internal/validation"
	"batchcompute.dev/operator/internal/webhook"
)

// version is set by the linker.
var version = "dev"

// The lease decides which replica reconciles. A name cannot restrict create. The
// events are those of the election, in the same namespace.
//
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=system,resources=leases,verbs=create
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=system,resources=leases,resourceNames=manager.batchcompute.dev,verbs=get;update
// +kubebuilder:rbac:groups="",namespace=system,resources=events,verbs=create;patch

// The names of the manager's own objects, as config/ has them.
const (
	leaseName      = "manager.batchcompute.dev"
	catalogName    = "batchcompute-catalog"
	secretName     = "batchcompute-webhook-cert"
	serviceName    = "batchcompute-webhook-service"
	mutatingName   = "batchcompute-mutating-webhook-configuration"
	validatingName = "batchcompute-validating-webhook-configuration"
)

func main() {
	o, err := parseOptions(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		setLogger(os.Stderr, o.verbosity)
		err = start(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "manager:", err)
		os.Exit(1)
	}
}

// start runs the manager against the cluster of the kubeconfig until a signal comes.
func start(o *options) error {
	cfg, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding the cluster: %w", err)
	}
	return run(ctrl.SetupSignalHandler(), cfg, o)
}

// run runs the manager until ctx ends.
func run(ctx context.Context, cfg *rest.Config, o *options) error {
	cat, err := catalogfile.New(o.catalog)
	if err != nil {
		return err
	}
	certOpts := certs.Options{
		Namespace: o.namespace, SecretName: secretName, ServiceName: serviceName,
		MutatingConfigurationName: mutatingName, ValidatingConfigurationName: validatingName, URL: o.webhookURL,
	}
	keeper := certs.NewKeeper(certOpts)
	mgr, err := newManager(cfg, o, certOpts, keeper)
	if err != nil {
		return err
	}
	if o.webhookDir == "" {
		if err := keeper.SetupWithManager(mgr); err != nil {
			return err
		}
	}
	if err := followCatalog(mgr, cat, o.namespace); err != nil {
		return err
	}
	validator := validation.Validator{Catalog: cat.Current}
	known, admission := &nodes.Index{}, validator
	if o.unknownZones == zonesReject {
		admission.Zones = zonesOf(known)
	}
	if err := webhook.Setup(mgr, webhook.Options{Validator: admission, JobQuota: o.jobQuota, ComputeEnvQuota: o.envQuota}); err != nil {
		return fmt.Errorf("setting up the webhooks: %w", err)
	}
	counted, err := metrics.NewJobs(ctrlmetrics.Registry)
	if err != nil {
		return fmt.Errorf("registering the metrics: %w", err)
	}
	shared := slots.New()
	if err := batchjob.Setup(mgr, batchjob.Options{
		Catalog: cat.Current, Nodes: known, Slots: shared,
		Validate: firstProblem(validator), MaxConcurrentReconciles: o.workers, ResourceWait: o.resourceWait, Metrics: counted,
	}); err != nil {
		return fmt.Errorf("setting up the reconciler of BatchJob: %w", err)
	}
	countedEnvs, err := metrics.NewEnvs(ctrlmetrics.Registry)
	if err != nil {
		return err
	}
	if err := computeenv.Setup(mgr, computeenv.Options{Slots: shared, Metrics: countedEnvs}); err != nil {
		return fmt.Errorf("setting up the reconciler of ComputeEnv: %w", err)
	}
	if err := errors.Join(
		mgr.AddHealthzCheck("ping", healthz.Ping),
		mgr.AddReadyzCheck("webhook", certs.ReadyCheck(mgr.GetClient(), certOpts, o.webhookAddr)),
	); err != nil {
		return fmt.Errorf("setting up the probes: %w", err)
	}
	klog.FromContext(ctx).Info("Started the manager", "version", version, "namespace", o.namespace)
	return mgr.Start(ctx)
}

// newManager makes the manager with its servers and its cache.
func newManager(cfg *rest.Config, o *options, certOpts certs.Options, keeper *certs.Keeper) (ctrl.Manager, error) {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))

	hook, err := webhookServer(o, keeper)
	if err != nil {
		return nil, err
	}
	metricsOpts := metricsserver.Options{BindAddress: o.metricsAddr, SecureServing: o.metricsSecure}
	if o.metricsSecure {
		metricsOpts.FilterProvider = metrics.WithAuthenticationAndAuthorization
	}
	byObject := batchjob.CacheOptions()
	maps.Copy(byObject, certs.CacheOptions(certOpts))
	maps.Copy(byObject, webhook.CacheOptions())

	cfg, lease := limited(cfg, o)
	lock, err := leaseLock(lease, o.namespace)
	if err != nil {
		return nil, err
	}
	shutdown := 20 * time.Second // less than the Pod's grace period
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme:                              scheme,
		Cache:                               cache.Options{ByObject: byObject, DefaultTransform: cache.TransformStripManagedFields()},
		Metrics:                             metricsOpts,
		HealthProbeBindAddress:              o.probeAddr,
		PprofBindAddress:                    o.pprofAddr,
		WebhookServer:                       hook,
		LeaderElection:                      o.leaderElect,
		LeaderElectionID:                    leaseName,
		LeaderElectionNamespace:             o.namespace,
		LeaderElectionConfig:                lease,
		LeaderElectionResourceLockInterface: lock,
		LeaderElectionReleaseOnCancel:       true, // main returns right after Start does
		GracefulShutdownTimeout:             &shutdown,
	})
	if err != nil {
		return nil, fmt.Errorf("making the manager: %w", err)
	}
	return mgr, nil
}

// limited returns the configuration of clients that share one limit of requests, where each
// kind of object would else have its own, and in which namespaces take turns; and that of the lease, which must not wait for others.
func limited(cfg *rest.Config, o *options) (all, lease *rest.Config) {
	lease = rest.CopyConfig(cfg)
	lease.QPS, lease.Burst = float32(o.qps), o.burst
	all = rest.CopyConfig(lease)
	all.RateLimiter = fairrate.New(o.qps, o.burst, clock.RealClock{})
	return all, lease
}

// webhookServer serves with the keeper's certificate, or with the one of a directory.
func webhookServer(o *options, keeper *certs.Keeper) (ctrlwebhook.Server, error) {
	host, port, err := net.SplitHostPort(o.webhookAddr)
	if err != nil {
		return nil, fmt.Errorf("reading --webhook-bind-address: %w", err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("reading --webhook-bind-address: %w", err)
	}
	opts := ctrlwebhook.Options{Host: host, Port: n, CertDir: o.webhookDir}
	opts.TLSOpts = append(opts.TLSOpts, func(c *tls.Config) {
		c.MinVersion = tls.VersionTLS12
		if o.webhookDir == "" {
			c.GetCertificate = keeper.GetCertificate
		}
	})
	return ctrlwebhook.NewServer(opts), nil
}

// zonesOf returns the zones of all nodes, or nil while not all are known.
func zonesOf(known *nodes.Index) func() []string {
	return func() []string {
		if !known.Complete() {
			return nil
		}
		return append([]string{}, known.Zones()...)
	}
}

// firstProblem is what the reconciler asks of the rules that the webhook has applied
// already: it guards against jobs that got past the webhook.
func firstProblem(v validation.Validator) func(*v1alpha1.BatchJob) (code, message string) {
	return func(job *v1alpha1.BatchJob) (string, string) {
		for _, p := range v.ValidateCreate(job) {
			return string(p.Code), p.Field.String() + ": " + p.Detail
		}
		return "", ""
	}
}
