// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command manager runs the operator: its reconcilers and its admission webhook.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/controllers/batchjob"
	"batchcompute.dev/operator/controllers/computeenv"
	"batchcompute.dev/operator/internal/catalogfile"
	"batchcompute.dev/operator/internal/certs"
	"batchcompute.dev/operator/internal/fairrate"
	"batchcompute.dev/operator/internal/logging"
	"batchcompute.dev/operator/internal/lookup"
	"batchcompute.dev/operator/internal/metrics"
	"batchcompute.dev/operator/internal/nodepool"
	"batchcompute.dev/operator/internal/nodes"
	"batchcompute.dev/operator/internal/notify/topic"
	"batchcompute.dev/operator/internal/podkey"
	"batchcompute.dev/operator/internal/server"
	"batchcompute.dev/operator/internal/uninstall"
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
	leaseName      = uninstall.LeaseName
	catalogName    = "batchcompute-catalog"
	secretName     = "batchcompute-webhook-cert"
	serviceName    = "batchcompute-webhook-service"
	mutatingName   = "batchcompute-mutating-webhook-configuration"
	validatingName = "batchcompute-validating-webhook-configuration"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == uninstall.CommandName {
		os.Exit(uninstall.Command(ctrl.SetupSignalHandler(), "manager", os.Args[2:], os.Stdout, os.Stderr))
	}
	o, err := parseOptions(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		logging.Set(os.Stderr, o.verbosity)
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

// run runs the manager until ctx ends. Its probes are served from the first moment: it waits for
// the API server if it has to.
func run(ctx context.Context, cfg *rest.Config, o *options) (err error) {
	cat, err := catalogfile.New(o.catalog)
	if err != nil {
		return err
	}
	probes, api := server.NewProbes(), newAPIServer(cfg)
	if err := errors.Join(probes.AddHealthzCheck("ping", healthz.Ping), probes.AddReadyzCheck("api-server", api.ready)); err != nil {
		return fmt.Errorf("setting up the probes: %w", err)
	}
	ctx, others, err := startServers(ctx, cfg, o, probes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, others.wait()) }()
	klog.FromContext(ctx).Info("Started the manager", "version", version, "namespace", o.namespace)
	certOpts := certs.Options{
		Namespace: o.namespace, SecretName: secretName, ServiceName: serviceName,
		MutatingConfigurationName: mutatingName, ValidatingConfigurationName: validatingName,
		Paths: webhook.Paths(), URL: o.webhookURL,
	}
	keeper := certs.NewKeeper(certOpts)
	hook, err := newHook(o, keeper)
	if err != nil {
		return err
	}
	mgr, err := newManager(ctx, cfg, o, certOpts, hook, api)
	if err != nil {
		if ctx.Err() != nil {
			return nil // it was told to end while it waited
		}
		return err
	}
	mgr = probes.Manage(mgr)
	if o.webhookDir == "" {
		if err := keeper.SetupWithManager(mgr); err != nil {
			return err
		}
	}
	if err := setUp(mgr, cat, o); err != nil {
		return err
	}
	if err := errors.Join(
		hook.addTo(mgr), mgr.Add(api),
		mgr.AddReadyzCheck("webhook", certs.ReadyCheck(mgr.GetClient(), certOpts, o.webhookAddr, hook.self)),
	); err != nil {
		return fmt.Errorf("setting up the probes: %w", err)
	}
	return mgr.Start(ctx)
}

// setUp adds the webhooks and the reconcilers to the manager.
func setUp(mgr ctrl.Manager, cat *catalogfile.File, o *options) error {
	if err := followCatalog(mgr, cat, o.namespace); err != nil {
		return err
	}
	if err := lookup.AddIndexes(context.Background(), mgr.GetFieldIndexer()); err != nil {
		return err
	}
	validator := validation.Validator{Catalog: cat.Current}
	known, admission := &nodes.Index{}, validator
	admission.Notifications = true
	if o.unknownZones == zonesReject {
		admission.Zones = zonesOf(known)
	}
	if err := webhook.Setup(mgr, webhook.Options{
		Validator: admission, JobQuota: o.jobQuota, JobBytesQuota: o.jobBytesQuota, ComputeEnvQuota: o.envQuota, TaskTemplateQuota: o.templateQuota,
	}); err != nil {
		return fmt.Errorf("setting up the webhooks: %w", err)
	}
	counted, err := metrics.NewJobs(ctrlmetrics.Registry)
	if err != nil {
		return fmt.Errorf("registering the metrics: %w", err)
	}
	podKey := &podkey.Keeper{Namespace: o.namespace, Reader: mgr.GetAPIReader(), Writer: mgr.GetClient()}
	ledger := nodepool.NewLedger()
	sent, err := metrics.NewNotifications(ctrlmetrics.Registry)
	if err != nil {
		return err
	}
	topics := topic.New(topic.Options{Catalog: cat.Current, SecretsDir: o.notifySecrets, Now: time.Now})
	if err := mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		<-ctx.Done()
		topics.Close()
		return nil
	})); err != nil {
		return fmt.Errorf("adding the receivers of notifications: %w", err)
	}
	if err := batchjob.Setup(mgr, batchjob.Options{
		Catalog: cat.Current, Nodes: known, Ledger: ledger,
		Validate: firstProblem(validator), MaxConcurrentReconciles: o.workers, ResourceWait: o.resourceWait, Metrics: counted, PodKey: podKey.Key,
		LargeJobMemory: o.largeJobMemory, Agent: o.agent(known), Topics: topics, NotificationMetrics: sent,
	}); err != nil {
		return fmt.Errorf("setting up the reconciler of BatchJob: %w", err)
	}
	countedEnvs, err := metrics.NewEnvs(ctrlmetrics.Registry)
	if err != nil {
		return err
	}
	if err := computeenv.Setup(mgr, computeenv.Options{Ledger: ledger, Metrics: countedEnvs, Topics: topics, NotificationMetrics: sent}); err != nil {
		return fmt.Errorf("setting up the reconciler of ComputeEnv: %w", err)
	}
	return nil
}

// newManager makes the manager with its webhook server and its cache, as soon as the API server
// answers.
func newManager(ctx context.Context, cfg *rest.Config, o *options, certOpts certs.Options, hook *hook, api *apiServer) (ctrl.Manager, error) {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	byObject := batchjob.CacheOptions()
	maps.Copy(byObject, certs.CacheOptions(certOpts))
	maps.Copy(byObject, webhook.CacheOptions())
	mapper, err := api.await(ctx, cfg, scheme, byObject)
	if err != nil {
		return nil, err
	}

	cfg, lease := limited(cfg, o)
	lock, err := leaseLock(lease, o.namespace)
	if err != nil {
		return nil, err
	}
	shutdown := 20 * time.Second // less than the Pod's grace period
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme:                              scheme,
		MapperProvider:                      func(*rest.Config, *http.Client) (meta.RESTMapper, error) { return mapper, nil },
		Cache:                               cache.Options{ByObject: byObject, NewInformer: batchjob.NewInformer, DefaultTransform: cache.TransformStripManagedFields(), DefaultWatchErrorHandler: api.watchFailed},
		Controller:                          config.Controller{CacheSyncTimeout: cacheSyncTimeout},
		Metrics:                             metricsserver.Options{BindAddress: "0"}, // see startServers
		HealthProbeBindAddress:              "0",
		PprofBindAddress:                    o.pprofAddr,
		WebhookServer:                       hook.Webhook,
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
