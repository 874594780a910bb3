// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil"
)

// simNamespace is the namespace of all objects.
const simNamespace = "default"

var (
	jobResource = schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: "batchjobs"}
	podResource = schema.GroupResource{Resource: "pods"}
)

// simAPI is the part of an API server that the Reconciler needs, in memory. Objects are replaced and never changed in place, so a
// read object stays valid, and a cache is a position in the history.
type simAPI struct {
	now time.Time
	// version is the last resource version, of all objects.
	version int
	jobs    map[string]*v1alpha1.BatchJob
	pods    map[string]*corev1.Pod
	history []simView
	uids    int
	// stones is the ConfigMap of tombstones; nil if there is none.
	stones *corev1.ConfigMap
	// floor is the first view after the last deletion of a Pod that had the tracking label.
	floor int
	// digesting says that views get a digest, which takes time.
	digesting bool
	// large is the size from which caches have only outlines of jobs.
	large int
}

// simView is the content of a cache: all jobs, and all Pods with the tracking label, both sorted by name and stripped as
// CacheOptions says.
type simView struct {
	jobs []*v1alpha1.BatchJob
	pods []*corev1.Pod
	// digest is the digest of all objects, and chain that of this view and all earlier ones.
	digest, chain uint64
}

func newSimAPI(digesting bool) *simAPI {
	return &simAPI{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), jobs: map[string]*v1alpha1.BatchJob{}, pods: map[string]*corev1.Pod{}, digesting: digesting}
}

func (a *simAPI) last() int { return len(a.history) - 1 }

// remember adds the current objects to the history.
func (a *simAPI) remember() {
	var v, before simView
	if n := a.last(); n >= 0 {
		before = a.history[n]
	}
	for _, name := range slices.Sorted(maps.Keys(a.jobs)) {
		v.jobs = append(v.jobs, asCached(before.jobs, a.jobs[name], a.stripJob))
	}
	for _, name := range slices.Sorted(maps.Keys(a.pods)) {
		if pod := a.pods[name]; pod.Labels[v1alpha1.LabelTracked] == "true" {
			v.pods = append(v.pods, asCached(before.pods, pod, stripPod))
		}
	}
	if a.digesting {
		h := fnv.New64a()
		for _, name := range slices.Sorted(maps.Keys(a.jobs)) {
			job := a.jobs[name]
			writeJSON(h, job.ObjectMeta, job.Status, job.Spec.Suspend, job.Spec.Terminate, job.Spec.RetryToken, job.Spec.TTLSecondsAfterFinished)
		}
		for _, name := range slices.Sorted(maps.Keys(a.pods)) {
			pod := a.pods[name]
			writeJSON(h, pod.ObjectMeta, pod.Spec.NodeName, pod.Status)
		}
		writeJSON(h, a.stones)
		v.digest = h.Sum64()
		if n := a.last(); n >= 0 {
			writeJSON(h, a.history[n].chain)
		}
		v.chain = h.Sum64()
	}
	a.history = append(a.history, v)
}

func (a *simAPI) stripJob(o any) (any, error) { return stripJobFrom(o, a.large) }

// asCached returns the stripped object. It returns the pointer from old, which is sorted by name, if the object has not
// changed.
func asCached[T client.Object](old []T, now T, strip func(any) (any, error)) T {
	i, ok := slices.BinarySearchFunc(old, now.GetName(), func(o T, name string) int { return cmp.Compare(o.GetName(), name) })
	if ok && old[i].GetResourceVersion() == now.GetResourceVersion() {
		return old[i]
	}
	out, err := strip(now.DeepCopyObject())
	if err != nil {
		panic(err)
	}
	return out.(T)
}

func writeJSON(h interface{ Write([]byte) (int, error) }, values ...any) {
	for _, v := range values {
		text, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		_, _ = h.Write(text)
	}
}

func (a *simAPI) nextVersion() string {
	a.version++
	return strconv.Itoa(a.version)
}

func (a *simAPI) nextUID(kind string) types.UID {
	a.uids++
	return types.UID(kind + "-" + strconv.Itoa(a.uids))
}

func (a *simAPI) stamp() metav1.Time { return metav1.NewTime(a.now.Truncate(time.Second)) }

// submit is a user who creates a job.
func (a *simAPI) submit(job *v1alpha1.BatchJob) {
	job = job.DeepCopy()
	job.Namespace, job.UID, job.Generation, job.ResourceVersion, job.CreationTimestamp = simNamespace, a.nextUID("job"), 1, a.nextVersion(), a.stamp()
	a.jobs[job.Name] = job
	a.remember()
}

// changeJob replaces a job by a changed copy. A job that is being deleted is removed when it has no finalizer.
func (a *simAPI) changeJob(name string, change func(*v1alpha1.BatchJob)) {
	job := a.jobs[name].DeepCopy()
	change(job)
	job.ResourceVersion = a.nextVersion()
	a.jobs[name] = job
	if job.DeletionTimestamp != nil && len(job.Finalizers) == 0 {
		delete(a.jobs, name)
	}
	a.remember()
}

// deleteJob requests the deletion of a job; finalizer is that of the garbage collector, or "".
func (a *simAPI) deleteJob(name, finalizer string) {
	a.changeJob(name, func(job *v1alpha1.BatchJob) {
		if finalizer != "" {
			job.Finalizers = append(job.Finalizers, finalizer)
		}
		if job.DeletionTimestamp == nil {
			job.DeletionTimestamp = new(a.stamp())
		}
	})
}

func (a *simAPI) storeStones(stones *corev1.ConfigMap) {
	stones = stones.DeepCopy()
	stones.ResourceVersion = a.nextVersion()
	a.stones = stones
}

// expireJob is a background deletion with preconditions.
func (a *simAPI) expireJob(name string, p *metav1.Preconditions) error {
	job := a.jobs[name]
	switch {
	case job == nil:
		return apierrors.NewNotFound(jobResource, name)
	case p == nil || p.UID == nil || p.ResourceVersion == nil:
		panic("the deletion of a job has no preconditions")
	case *p.UID != job.UID || *p.ResourceVersion != job.ResourceVersion:
		return apierrors.NewConflict(jobResource, name, fmt.Errorf("the job has changed"))
	}
	a.deleteJob(name, "")
	return nil
}

// storeStatus is a merge patch of a job's status.
func (a *simAPI) storeStatus(name string, body []byte) (*v1alpha1.BatchJob, error) {
	job := a.jobs[name]
	if job == nil {
		return nil, apierrors.NewNotFound(jobResource, name)
	}
	var patch struct {
		Metadata struct{ ResourceVersion string } `json:"metadata"`
		Status   json.RawMessage                  `json:"status"`
	}
	if err := json.Unmarshal(body, &patch); err != nil {
		return nil, err
	}
	if v := patch.Metadata.ResourceVersion; v != "" && v != job.ResourceVersion {
		return nil, apierrors.NewConflict(jobResource, name, fmt.Errorf("version is %s, not %s", job.ResourceVersion, v))
	}
	before, err := json.Marshal(&job.Status)
	if err != nil {
		return nil, err
	}
	after, err := jsonpatch.MergePatch(before, patch.Status)
	if err != nil {
		return nil, err
	}
	if string(before) == string(after) {
		return job, nil // without a change there is no new version
	}
	var next v1alpha1.BatchJobStatus
	if err := json.Unmarshal(after, &next); err != nil {
		return nil, err
	}
	a.changeJob(name, func(job *v1alpha1.BatchJob) { job.Status = next })
	return a.jobs[name], nil
}

// patchJob is a merge patch of a job's finalizers.
func (a *simAPI) patchJob(name string, body []byte) (*v1alpha1.BatchJob, error) {
	job := a.jobs[name]
	if job == nil {
		return nil, apierrors.NewNotFound(jobResource, name)
	}
	var patch struct {
		Metadata struct {
			ResourceVersion string   `json:"resourceVersion"`
			Finalizers      []string `json:"finalizers"`
		} `json:"metadata"`
	}
	if err := strictUnmarshal(body, &patch); err != nil {
		panic(fmt.Sprintf("a patch that the simulation does not know: %s: %v", body, err))
	}
	switch m := &patch.Metadata; {
	case m.ResourceVersion != job.ResourceVersion:
		return nil, apierrors.NewConflict(jobResource, name, fmt.Errorf("version is %s, not %s", job.ResourceVersion, m.ResourceVersion))
	case job.DeletionTimestamp != nil && slices.ContainsFunc(m.Finalizers, func(f string) bool { return !slices.Contains(job.Finalizers, f) }):
		return nil, apierrors.NewForbidden(jobResource, name, fmt.Errorf("no new finalizers can be added if the object is being deleted"))
	case slices.Equal(m.Finalizers, job.Finalizers):
		return job, nil
	}
	next := job.DeepCopy()
	a.changeJob(name, func(job *v1alpha1.BatchJob) { job.Finalizers = patch.Metadata.Finalizers })
	if now := a.jobs[name]; now != nil {
		return now, nil
	}
	return next, nil // the answer to the patch that deletes the job
}

// createPod stores a new Pod.
func (a *simAPI) createPod(pod *corev1.Pod) error {
	if a.pods[pod.Name] != nil {
		return apierrors.NewAlreadyExists(podResource, pod.Name)
	}
	pod = pod.DeepCopy()
	pod.UID, pod.ResourceVersion, pod.CreationTimestamp = a.nextUID("pod"), a.nextVersion(), a.stamp()
	pod.Status.Phase = corev1.PodPending
	a.pods[pod.Name] = pod
	a.remember()
	return nil
}

// changePod replaces a Pod by a changed copy. A terminating Pod is removed when its end is confirmed and it has no finalizer.
func (a *simAPI) changePod(name string, change func(*corev1.Pod)) {
	pod := a.pods[name].DeepCopy()
	change(pod)
	pod.ResourceVersion = a.nextVersion()
	a.pods[name] = pod
	if pod.DeletionTimestamp != nil && len(pod.Finalizers) == 0 && *pod.DeletionGracePeriodSeconds == 0 {
		delete(a.pods, name)
		if pod.Labels[v1alpha1.LabelTracked] != "" {
			a.floor = len(a.history)
		}
	}
	a.remember()
}

// deletePod requests the deletion of a Pod. A Pod that has no node, or has ended, has no grace period.
func (a *simAPI) deletePod(name string, uid *types.UID) error {
	pod := a.pods[name]
	switch {
	case pod == nil:
		return apierrors.NewNotFound(podResource, name)
	case uid != nil && *uid != pod.UID:
		return apierrors.NewConflict(podResource, name, fmt.Errorf("the UID is %s, not %s", pod.UID, *uid))
	case pod.DeletionTimestamp != nil:
		return nil
	}
	a.changePod(name, func(pod *corev1.Pod) { testutil.AskToStop(pod, a.now) })
	return nil
}

// confirmPod is the kubelet, or the Pod garbage collector, that confirms the end of a terminating Pod: a deletion with a grace
// period of 0.
func (a *simAPI) confirmPod(name string) {
	a.changePod(name, func(pod *corev1.Pod) {
		if pod.DeletionTimestamp.After(a.now) {
			pod.DeletionTimestamp = new(a.stamp())
		}
		pod.DeletionGracePeriodSeconds = new(int64(0))
	})
}

// patchPod is a strategic merge patch of a Pod's metadata. It accepts only the fields that the Reconciler patches, so that a new
// one does not stay untested.
func (a *simAPI) patchPod(name string, body []byte) error {
	pod := a.pods[name]
	if pod == nil {
		return apierrors.NewNotFound(podResource, name)
	}
	var patch struct {
		Metadata struct {
			UID         *types.UID         `json:"uid"`
			Labels      map[string]*string `json:"labels"`
			Annotations map[string]*string `json:"annotations"`
			Finalizers  []string           `json:"finalizers"`

			OwnerReferences []metav1.OwnerReference `json:"ownerReferences"`
			Remove          []string                `json:"$deleteFromPrimitiveList/finalizers"`
		} `json:"metadata"`
	}
	if err := strictUnmarshal(body, &patch); err != nil {
		panic(fmt.Sprintf("a patch that the simulation does not know: %s: %v", body, err))
	}
	m := &patch.Metadata
	if m.UID != nil && *m.UID != pod.UID {
		return apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, name, nil) // "uid: field is immutable"
	}
	next := pod.DeepCopy()
	next.Labels, next.Annotations = merged(pod.Labels, m.Labels), merged(pod.Annotations, m.Annotations)
	for _, f := range m.Finalizers {
		if slices.Contains(next.Finalizers, f) {
			continue
		}
		if pod.DeletionTimestamp != nil {
			return apierrors.NewForbidden(podResource, name, fmt.Errorf("no new finalizers can be added if the object is being deleted"))
		}
		next.Finalizers = append(next.Finalizers, f)
	}
	next.Finalizers = slices.DeleteFunc(next.Finalizers, func(f string) bool { return slices.Contains(m.Remove, f) })
	for _, ref := range m.OwnerReferences {
		if owner := metav1.GetControllerOf(next); owner != nil && owner.UID != ref.UID {
			return apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, name, nil) // only one may be the controller
		}
		next.OwnerReferences = append(slices.DeleteFunc(next.OwnerReferences, func(old metav1.OwnerReference) bool { return old.UID == ref.UID }), ref)
	}
	if maps.Equal(next.Labels, pod.Labels) && maps.Equal(next.Annotations, pod.Annotations) && slices.Equal(next.Finalizers, pod.Finalizers) &&
		len(next.OwnerReferences) == len(pod.OwnerReferences) {
		return nil
	}
	a.changePod(name, func(pod *corev1.Pod) {
		pod.Labels, pod.Annotations, pod.Finalizers, pod.OwnerReferences = next.Labels, next.Annotations, next.Finalizers, next.OwnerReferences
	})
	return nil
}

// merged returns a map after a merge patch, in which nil removes a key.
func merged(old map[string]string, patch map[string]*string) map[string]string {
	out := maps.Clone(old)
	for k, v := range patch {
		if v == nil {
			delete(out, k)
		} else {
			if out == nil {
				out = map[string]string{}
			}
			out[k] = *v
		}
	}
	return out
}
