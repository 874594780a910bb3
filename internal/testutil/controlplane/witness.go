// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
)

// Witness watches the Pods of a namespace, in the order in which etcd has their changes,
// and records when an instance has more than one that is live.
type Witness struct {
	mu sync.Mutex
	// live are the live Pods by instance, and made the UIDs of all there were by name.
	live map[string]map[types.UID]string
	made map[string]map[types.UID]bool
	// overlaps are the moments at which an instance had two live Pods.
	overlaps []string
	// peak is the most Pods that were live at once, all instances together.
	alive, peak int
	events      int
	err         error
	// next is the revision from which on changes have not been seen. Only run uses it.
	next int64
}

// Watch begins to watch the Pods of a namespace, in which there must be none yet. It asks
// etcd itself, which loses no change when the API server or etcd is killed, and continues
// until the test ends.
func (p *ControlPlane) Watch(t testing.TB, namespace string) *Witness {
	t.Helper()
	var pods corev1.PodList
	if err := p.List(t.Context(), &pods, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	version, err := strconv.ParseInt(pods.ResourceVersion, 10, 64)
	if err != nil || len(pods.Items) > 0 {
		t.Fatalf("there are %d Pods already, at version %q", len(pods.Items), pods.ResourceVersion)
	}
	w := &Witness{live: map[string]map[types.UID]string{}, made: map[string]map[types.UID]bool{}, next: version + 1}
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(ended)
		w.run(ctx, p.etcdURL+"/v3/watch", "/registry/pods/"+namespace+"/")
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return w
}

// run watches the keys that begin with prefix, again and again.
func (w *Witness) run(ctx context.Context, url, prefix string) {
	for ctx.Err() == nil && w.Figures().Err == nil {
		if err := w.stream(ctx, url, prefix); err != nil {
			w.mu.Lock()
			w.err = err
			w.mu.Unlock()
		}
		select { // etcd is away
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// watchResponse is one message of etcd's gateway for JSON. Integers are strings there.
type watchResponse struct {
	Result struct {
		CompactRevision int64 `json:"compact_revision,string"`
		Events          []struct {
			Type     string
			KV       record
			Previous record `json:"prev_kv"`
		}
	}
}

type record struct {
	Revision int64 `json:"mod_revision,string"`
	Value    []byte
}

// stream watches until the connection breaks. The error says that changes were missed.
func (w *Witness) stream(ctx context.Context, url, prefix string) error {
	end := prefix[:len(prefix)-1] + string(prefix[len(prefix)-1]+1)
	body, err := json.Marshal(map[string]any{"create_request": map[string]any{
		"key": []byte(prefix), "range_end": []byte(end), "start_revision": strconv.FormatInt(w.next, 10), "prev_kv": true,
	}})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	for lines := json.NewDecoder(resp.Body); ; {
		var message watchResponse
		if err := lines.Decode(&message); err != nil {
			return nil
		}
		if message.Result.CompactRevision > 0 {
			return fmt.Errorf("etcd has dropped changes before revision %d", message.Result.CompactRevision)
		}
		for _, event := range message.Result.Events {
			gone, value := event.Type == "DELETE", event.KV.Value
			if gone {
				value = event.Previous.Value
			}
			pod := &corev1.Pod{}
			if _, _, err := scheme.Codecs.UniversalDeserializer().Decode(value, nil, pod); err != nil {
				return fmt.Errorf("reading a Pod as etcd has it: %w", err)
			}
			w.see(pod, event.KV.Revision, gone)
		}
	}
}

// see takes in that a Pod has changed, or is gone.
func (w *Witness) see(pod *corev1.Pod, revision int64, gone bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events++
	w.next = revision + 1 // etcd sends the changes of one transaction together, and here that is one
	instance := pod.Labels[v1alpha1.LabelJobID] + "/" + pod.Labels[v1alpha1.LabelTaskName] + "/" + pod.Labels[v1alpha1.LabelTaskInstanceIndex]
	if w.made[pod.Name] == nil {
		w.made[pod.Name] = map[types.UID]bool{}
	}
	w.made[pod.Name][pod.UID] = true
	if gone || !isLive(pod) {
		if _, ok := w.live[instance][pod.UID]; ok {
			w.alive--
		}
		delete(w.live[instance], pod.UID)
		return
	}
	if w.live[instance] == nil {
		w.live[instance] = map[types.UID]string{}
	}
	if _, ok := w.live[instance][pod.UID]; ok {
		return
	}
	w.live[instance][pod.UID] = pod.Name
	w.alive++
	w.peak = max(w.peak, w.alive)
	if len(w.live[instance]) > 1 {
		w.overlaps = append(w.overlaps, fmt.Sprintf("%s at revision %d: %q", instance, revision, slices.Sorted(maps.Values(w.live[instance]))))
	}
}

// isLive reports whether the Pod runs, or may do so yet: one that is being deleted and
// has no node never will.
func isLive(pod *corev1.Pod) bool {
	return !hasEnded(pod) && (pod.DeletionTimestamp == nil || pod.Spec.NodeName != "")
}

// Figures are what a Witness has seen.
type Figures struct {
	// Events counts the changes, Pods the Pods, Live those that are live now, and Peak the
	// most that were at once.
	Events, Pods, Live, Peak int
	// Overlaps are the moments at which an instance had two live Pods.
	Overlaps []string
	// Remade are the names that more than one Pod had.
	Remade []string
	// Err says that there were changes which were not seen.
	Err error
}

// Figures returns what was seen so far.
func (w *Witness) Figures() Figures {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := Figures{Events: w.events, Overlaps: slices.Clone(w.overlaps), Err: w.err, Live: w.alive, Peak: w.peak}
	for name, uids := range w.made {
		f.Pods += len(uids)
		if len(uids) > 1 {
			f.Remade = append(f.Remade, name)
		}
	}
	slices.Sort(f.Remade)
	return f
}
