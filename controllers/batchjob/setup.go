// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package batchjob runs BatchJobs: it observes a job and its Pods, lets internal/plan
// decide, stores the decision, and carries it out.
package batchjob

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/fairqueue"
	"batchcompute.dev/operator/internal/flow"
	"batchcompute.dev/operator/internal/membudget"
	"batchcompute.dev/operator/internal/metrics"
	"batchcompute.dev/operator/internal/nodepool"
	"batchcompute.dev/operator/internal/nodes"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/proof"
	"batchcompute.dev/operator/internal/validation"
)

// Jobs are read, and only their status is written: the spec is the user's. delete is for
// those whose ttlSecondsAfterFinished is over.
// +kubebuilder:rbac:groups=batchcompute.dev,resources=batchjobs,verbs=get;list;watch;delete
// +kubebuilder:rbac:groups=batchcompute.dev,resources=batchjobs/status,verbs=patch
//
// Pods block the foreground deletion of their job; where the admission plugin
// OwnerReferencesPermissionEnforcement is on, saying so takes this.
// +kubebuilder:rbac:groups=batchcompute.dev,resources=batchjobs/finalizers,verbs=update
//
// ComputeEnvs say how many nodes there are to share.
// +kubebuilder:rbac:groups=batchcompute.dev,resources=computeenvs,verbs=list;watch
//
// Nodes are asked for their zones, names and addresses: to find those that placement.hostIps
// names, and to say that a zone has none.
// +kubebuilder:rbac:groups="",resources=nodes,verbs=list;watch
//
// Instances are Pods: create makes one, get finds one whose creation got no answer,
// patch takes its tracking finalizer off, delete stops one that is past its timeout.
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch;create;patch;delete
//
// What was deleted for its age is noted in one ConfigMap of the namespace. A name cannot
// restrict create; no other ConfigMap can be read or changed.
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=create
// +kubebuilder:rbac:groups="",resources=configmaps,resourceNames=batchcompute-tombstones,verbs=get;update
//
// News about a job are events; patch counts up one that repeats.
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// podsByJob is the index from "namespace/name" of a job to the Pods that name it.
const podsByJob = "batchjob"

// Options are what the reconciler needs beside a manager.
type Options struct {
	// Catalog returns what the names of a request mean in this cluster. Required.
	Catalog func() *catalog.Catalog
	// Nodes is kept up to date with the cluster's nodes by Setup. nil: they are not looked at,
	// and no address is known.
	Nodes *nodes.Index
	// Ledger counts who has how many nodes of ComputeEnvs. nil: the reconciler has one of its own.
	Ledger *nodepool.Ledger
	// Validate returns the error code and sentence of the first problem of a job, or
	// two empty strings. It guards against jobs that got past the webhook. Required.
	Validate func(*v1alpha1.BatchJob) (code, message string)
	// MaxConcurrentReconciles is how many jobs are worked on at once. 0 means 32.
	MaxConcurrentReconciles int
	// ResourceWait is how long the first machine of an instance is waited for, and scales
	// the waits for later ones. 0 means plan.DefaultResourceWait.
	ResourceWait time.Duration
	// LargeJobMemory is how much memory large jobs may take that have started, see plan.LargeJob;
	// others wait. Unit: bytes. 0 means DefaultLargeJobMemory.
	LargeJobMemory int
	// PodKey returns the key that proves which Pods the operator has created. It is asked at the
	// beginning of each pass until it has returned one. nil: Pods get no proof and need none.
	PodKey func(context.Context) (*proof.Key, error)
	// Metrics count what happens. nil: nothing is counted.
	Metrics *metrics.Jobs
	// Clock is the time. nil means the system's clock.
	Clock clock.PassiveClock
}

// CacheOptions says what the manager's cache must hold for Setup: all BatchJobs, of those at
// rest and of large ones an outline, and the Pods whose outcome has not been recorded yet, stripped of
// what is not read.
// Objects are not copied when they are read, so no reader may change one.
func CacheOptions() map[client.Object]cache.ByObject {
	shared := true
	return map[client.Object]cache.ByObject{
		&v1alpha1.BatchJob{}:   {Transform: stripJob, UnsafeDisableDeepCopy: &shared},
		&v1alpha1.ComputeEnv{}: {UnsafeDisableDeepCopy: &shared},
		&corev1.Node{}:         {Transform: stripNode, UnsafeDisableDeepCopy: &shared},
		&corev1.Pod{}: {
			Label:                 labels.SelectorFromSet(labels.Set{v1alpha1.LabelTracked: "true"}),
			Transform:             stripPod,
			UnsafeDisableDeepCopy: &shared,
		},
	}
}

// Setup adds the reconciler to the manager, whose cache must be built with CacheOptions.
func Setup(mgr ctrl.Manager, o Options) error {
	if o.MaxConcurrentReconciles == 0 {
		o.MaxConcurrentReconciles = 32
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	pods, err := indexPods(mgr.GetCache())
	if err != nil {
		return err
	}
	// What is written is made of the API's own types, so the server need not look for names that
	// it does not know, which it does by reading everything twice.
	writer := client.WithFieldValidation(mgr.GetClient(), metav1.FieldValidationIgnore)
	r := NewReconciler(writer, pods, mgr.GetAPIReader(), mgr.GetEventRecorder("batchjob-controller"), o)
	if o.Nodes != nil {
		if err := r.followNodes(mgr.GetCache()); err != nil {
			return err
		}
	}
	queueMetrics, err := metrics.NewQueueMetrics(ctrlmetrics.Registry)
	if err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named("batchjob").
		WatchesRawSource(source.Func(r.takeQueue)).
		Watches(&v1alpha1.BatchJob{}, r.enqueue(requestForJob)).
		Watches(&corev1.Pod{}, r.enqueue(requestForPod)).
		Watches(&v1alpha1.ComputeEnv{}, r.pool.Watch(r.wake)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: o.MaxConcurrentReconciles,
			NewQueue:                fairqueue.Factory(o.MaxConcurrentReconciles, queueMetrics, clock.RealClock{}),
		}).
		Complete(r)
}

// indexPods indexes the cache's Pods by the job that they name, and returns what reads them by it.
// They are those of the cache: a client would copy all of them in each pass.
func indexPods(c cache.Cache) (podReader, error) {
	informer, err := c.GetInformer(context.Background(), &corev1.Pod{}, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("watching pods: %w", err)
	}
	shared, ok := informer.(toolscache.SharedIndexInformer)
	if !ok {
		return nil, fmt.Errorf("indexing pods by job: the cache has a %T", informer)
	}
	err = shared.AddIndexers(toolscache.Indexers{podsByJob: func(o any) ([]string, error) {
		pod, ok := o.(*corev1.Pod)
		if !ok {
			return nil, nil
		}
		return indexPod(pod), nil
	}})
	if err != nil {
		return nil, fmt.Errorf("indexing pods by job: %w", err)
	}
	return func(_ context.Context, job types.NamespacedName) ([]*corev1.Pod, error) {
		found, err := shared.GetIndexer().ByIndex(podsByJob, job.String())
		if err != nil {
			return nil, fmt.Errorf("looking into the index of pods: %w", err)
		}
		pods := make([]*corev1.Pod, 0, len(found))
		for _, o := range found {
			if pod, ok := o.(*corev1.Pod); ok {
				pods = append(pods, pod)
			}
		}
		return pods, nil
	}, nil
}

// NewReconciler returns a reconciler that reads through c, a cache with the indexes that
// Setup makes, and pods, reads what must not be stale through live, and writes through c.
func NewReconciler(c client.Client, pods podReader, live client.Reader, recorder events.EventRecorder, o Options) *Reconciler {
	r := &Reconciler{client: c, pods: pods, live: live, recorder: recorder, options: o, limits: flow.NewCalls(flow.DefaultLimits, o.Clock),
		loads: membudget.NewGate(loadMemory), started: membudget.NewShares(cmp.Or(o.LargeJobMemory, DefaultLargeJobMemory)),
		tokens: tokens{holders: map[tokenKey]types.UID{}}, memories: map[types.NamespacedName]*memory{}}
	r.schedulers.begin = o.Clock.Now()
	r.pool = nodepool.New(nodepool.Config{
		Ledger: o.Ledger, Cache: c, Live: live, Clock: o.Clock,
		ReadJob: func(ctx context.Context, job *v1alpha1.BatchJob) (*v1alpha1.BatchJob, error) {
			return r.whole(ctx, job, unlimited())
		},
		JobOf:  func(pod *corev1.Pod) types.NamespacedName { return requestForPod(pod) },
		IsOurs: func(pod *corev1.Pod) bool { return r.key.Load() == nil || r.isSigned(pod) },
	})
	r.pool.Ledger.OnGrant(func(j nodepool.Job) { r.wake(j.Name, j.Priority) })
	r.started.OnWake(func(j membudget.Job) { r.wake(j.Name, j.Priority) })
	return r
}

// jobOf returns the name of the BatchJob that a Pod belongs to, "" for none: its
// controller, or, where the reference was taken away, the one that its annotation names.
func jobOf(pod client.Object) string {
	if owner := metav1.GetControllerOf(pod); owner != nil && owner.Kind == "BatchJob" && isOurs(owner.APIVersion) {
		return owner.Name
	}
	return pod.GetAnnotations()[v1alpha1.AnnotationJobName]
}

func isOurs(apiVersion string) bool {
	return len(apiVersion) > len(v1alpha1.GroupVersion.Group) &&
		apiVersion[:len(v1alpha1.GroupVersion.Group)+1] == v1alpha1.GroupVersion.Group+"/"
}

func indexPod(pod client.Object) []string {
	if name := jobOf(pod); name != "" {
		return []string{pod.GetNamespace() + "/" + name}
	}
	return nil
}

// stripJob keeps what is read of a job; of one at rest, and of a large one, that is an outline. See
// Reconciler.whole.
func stripJob(o any) (any, error) { return stripJobFrom(o, plan.LargeJob) }

// stripJobFrom is stripJob where jobs are large from another size on.
func stripJobFrom(o any, large int) (any, error) {
	job, ok := o.(*v1alpha1.BatchJob)
	if !ok {
		return o, nil
	}
	if len(job.ManagedFields) > 0 && job.ManagedFields[0].Operation == stripped[0].Operation {
		return job, nil
	}
	size := strconv.FormatInt(validation.StoredSize(job), 10) // as the API server has it
	job.ManagedFields, job.Labels = stripped, nil
	terminate, ok := job.Annotations[v1alpha1.AnnotationTerminate]
	job.Annotations = map[string]string{v1alpha1.AnnotationStoredSize: size}
	if ok {
		// One that is too long to be read stays too long, without its end.
		terminate = strings.Clone(terminate[:min(len(terminate), v1alpha1.MaxTerminateLength+1)])
		job.Annotations[v1alpha1.AnnotationTerminate] = terminate
	}
	out := plan.OutlineFrom(job, large)
	out.ManagedFields = stripped
	return out, nil
}

// stripped marks what stripJob has returned: an informer that begins calls it twice for each object, and
// the second time it would take the size of what is left for that of the job. The API server stores no such
// operation, so nobody can forge the mark.
var stripped = []metav1.ManagedFieldsEntry{{Operation: "Stripped"}}

// stripNode keeps what tells where a node is.
func stripNode(o any) (any, error) {
	node, ok := o.(*corev1.Node)
	if !ok {
		return o, nil
	}
	out := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node.Name, UID: node.UID, ResourceVersion: node.ResourceVersion}}
	out.Status.Addresses = node.Status.Addresses
	out.Labels = some(node.Labels, corev1.LabelTopologyZone, corev1.LabelHostname)
	return out, nil
}

// readLabels are the labels of a Pod that are read.
var readLabels = []string{
	v1alpha1.LabelTracked, v1alpha1.LabelJobID, v1alpha1.LabelTaskName, v1alpha1.LabelTaskInstanceIndex,
	v1alpha1.LabelAttempt, v1alpha1.LabelRun, v1alpha1.LabelEnvID,
}

// stripPod keeps what observe and plan read. There may be a hundred thousand Pods, so what many
// of them say alike is kept once.
func stripPod(o any) (any, error) {
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return o, nil
	}
	out := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: pod.Name, Namespace: interned(pod.Namespace), UID: pod.UID, ResourceVersion: pod.ResourceVersion,
			CreationTimestamp: pod.CreationTimestamp, DeletionTimestamp: pod.DeletionTimestamp,
			DeletionGracePeriodSeconds: pod.DeletionGracePeriodSeconds,
			Labels:                     some(pod.Labels, readLabels...),
			Annotations:                some(pod.Annotations, v1alpha1.AnnotationJobName, v1alpha1.AnnotationHosts),
		},
		Spec: corev1.PodSpec{
			NodeName: interned(pod.Spec.NodeName), SchedulingGates: pod.Spec.SchedulingGates, SchedulerName: interned(pod.Spec.SchedulerName),
		},
		Status: corev1.PodStatus{Phase: pod.Status.Phase, Reason: pod.Status.Reason, Message: pod.Status.Message},
	}
	if text := pod.Annotations[v1alpha1.AnnotationProof]; text != "" { // no other Pod has the same
		if out.Annotations == nil {
			out.Annotations = map[string]string{}
		}
		out.Annotations[v1alpha1.AnnotationProof] = text
	}
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
		out.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: interned(owner.APIVersion), Kind: interned(owner.Kind), Name: interned(owner.Name),
			UID: types.UID(interned(string(owner.UID))), Controller: new(true),
		}}
	}
	if slices.Contains(pod.Finalizers, v1alpha1.FinalizerTracking) {
		out.Finalizers = tracked
	}
	out.Status.Conditions = readConditions(pod.Status.Conditions)
	out.Status.InitContainerStatuses = readStatuses(pod.Status.InitContainerStatuses)
	out.Status.ContainerStatuses = readStatuses(pod.Status.ContainerStatuses)
	return out, nil
}

// readStatuses keeps what is read of containers.
func readStatuses(all []corev1.ContainerStatus) []corev1.ContainerStatus {
	var out []corev1.ContainerStatus
	for i := range all {
		s := &all[i]
		kept := corev1.ContainerStatus{Name: interned(s.Name), State: s.State}
		if s.State.Waiting != nil {
			kept.Image = s.Image
		}
		out = append(out, kept)
	}
	return out
}

// tracked are the finalizers of a Pod that is held; nobody changes them in place.
var tracked = []string{v1alpha1.FinalizerTracking}

// readConditions are those of a Pod's conditions that are read.
func readConditions(all []corev1.PodCondition) []corev1.PodCondition {
	kept := make([]corev1.PodCondition, 0, 2) // as many as a Pod that runs has
	for _, c := range all {
		switch {
		case c.Type == corev1.PodReady:
			c.Reason, c.Message = "", "" // only its time counts
		case c.Type == corev1.PodInitialized && c.Status == corev1.ConditionFalse:
			c.Reason, c.Message = "", ""
		case c.Type == corev1.PodScheduled,
			c.Type == corev1.PodReadyToStartContainers && c.Status == corev1.ConditionFalse,
			(c.Type == corev1.DisruptionTarget || c.Type == plan.TerminationTarget) && c.Status == corev1.ConditionTrue:
		default:
			continue
		}
		c.LastProbeTime = metav1.Time{}
		c.Type, c.Status = corev1.PodConditionType(interned(string(c.Type))), corev1.ConditionStatus(interned(string(c.Status)))
		kept = append(kept, c)
	}
	return kept
}

// some returns the entries of these keys; nil if there is none.
func some(all map[string]string, keys ...string) map[string]string {
	var out map[string]string
	for _, key := range keys {
		if value, ok := all[key]; ok {
			if out == nil {
				out = make(map[string]string, min(len(all), len(keys)))
			}
			out[key] = interned(value)
		}
	}
	return out
}

// interned returns text in the memory that others of the same text use.
func interned(text string) string { return unique.Make(text).Value() }

// How long the reconciler believes its cache to be late.
const (
	// cacheLag is how long a Pod that was created may be missing from the cache before
	// it is looked for.
	cacheLag = 30 * time.Second
	// staleRetry is when a pass that could not trust its cache is repeated, should the
	// event that it waits for be lost.
	staleRetry = time.Second
)
