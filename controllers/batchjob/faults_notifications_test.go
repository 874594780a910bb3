// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/notify/topic"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/testutil/controlplane"
)

// receiver is a real HTTP server that receives CloudEvents, and can fail.
type receiver struct {
	t      *testing.T
	server *httptest.Server

	mu       sync.Mutex
	requests int
	// answer says what happens to a request, by its number from 1.
	answer func(n int) answer
	// events has the ids of all events that were received, in order.
	events []string
}

type answer int

const (
	accept  answer = iota
	dies           // before it has read the request
	unsure         // it has received the events, and dies before it answers
	trouble        // answers 503
)

// newReceiver starts a receiver; with down it listens only once up is called.
func newReceiver(t *testing.T, down bool, answer func(n int) answer) *receiver {
	t.Helper()
	r := &receiver{t: t, answer: answer}
	r.server = httptest.NewUnstartedServer(http.HandlerFunc(r.serve))
	r.server.Config.ErrorLog = quiet
	if down {
		if err := r.server.Listener.Close(); err != nil {
			t.Fatal(err)
		}
	} else {
		r.server.Start()
	}
	t.Cleanup(func() { r.server.Close() })
	return r
}

// up has a receiver that was down listen at its address.
func (r *receiver) up() {
	r.t.Helper()
	l, err := new(net.ListenConfig).Listen(r.t.Context(), "tcp", r.server.Listener.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.server.Listener = l
	r.server.Start()
}

func (r *receiver) serve(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests++
	a := r.answer(r.requests)
	if a == dies {
		panic(http.ErrAbortHandler)
	}
	if a == trouble {
		_, _ = io.Copy(io.Discard, q.Body)
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	var got []cloudevents.Event
	var err error
	if cehttp.IsHTTPBatch(q.Header) {
		got, err = cehttp.NewEventsFromHTTPRequest(q)
	} else {
		var one *cloudevents.Event
		if one, err = cehttp.NewEventFromHTTPRequest(q); err == nil {
			got = []cloudevents.Event{*one}
		}
	}
	if err != nil {
		r.t.Errorf("no CloudEvent: %v", err)
	}
	for i := range got {
		r.events = append(r.events, got[i].ID())
	}
	if a == unsure {
		panic(http.ErrAbortHandler)
	}
}

// received returns the ids of the events that were received for a job, without repeats, and how many were repeated.
func (r *receiver) received(jobID string) (ids []string, repeated int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range r.events {
		switch {
		case !strings.HasPrefix(id, jobID+"/"):
		case slices.Contains(ids, id):
			repeated++
		default:
			ids = append(ids, id)
		}
	}
	return ids, repeated
}

// referenceEvents are the ids of the events of the reference job, without its JobId.
func referenceEvents() []string {
	ids := []string{"JOB_RUNNING", "JOB_FAILED", "a/TASK_RUNNING", "a/TASK_SUCCEED", "b/TASK_RUNNING", "b/TASK_FAILED", "c/TASK_FAILED", "d/TASK_RUNNING", "d/TASK_SUCCEED"}
	for _, attempt := range []string{"a/0/0", "a/1/0", "a/1/1", "b/0/0", "b/1/0", "b/2/0", "b/2/1", "d/0/0"} {
		ids = append(ids, attempt+"/TASK_INSTANCE_RUNNING")
	}
	for _, attempt := range []string{"a/0/0", "a/1/1", "b/0/0", "b/1/0", "d/0/0"} {
		ids = append(ids, attempt+"/TASK_INSTANCE_SUCCEED")
	}
	return append(ids, "b/2/1/TASK_INSTANCE_FAILED", "c/0/0/TASK_INSTANCE_FAILED")
}

// outOfOrder returns how many events of the reference job came before one that must come first.
func outOfOrder(ids []string) int {
	at := func(id string) int { return slices.Index(ids, id) }
	order := [][]string{
		{"JOB_RUNNING", "a/TASK_RUNNING", "a/0/0/TASK_INSTANCE_RUNNING", "a/0/0/TASK_INSTANCE_SUCCEED", "a/TASK_SUCCEED", "d/TASK_RUNNING", "d/0/0/TASK_INSTANCE_RUNNING", "d/0/0/TASK_INSTANCE_SUCCEED", "d/TASK_SUCCEED", "JOB_FAILED"},
		{"a/1/0/TASK_INSTANCE_RUNNING", "a/1/1/TASK_INSTANCE_RUNNING", "a/1/1/TASK_INSTANCE_SUCCEED", "a/TASK_SUCCEED"},
		{"JOB_RUNNING", "b/TASK_RUNNING", "b/2/0/TASK_INSTANCE_RUNNING", "b/2/1/TASK_INSTANCE_RUNNING", "b/2/1/TASK_INSTANCE_FAILED", "b/TASK_FAILED", "c/TASK_FAILED", "JOB_FAILED"},
		{"c/0/0/TASK_INSTANCE_FAILED", "c/TASK_FAILED"},
		{"b/TASK_RUNNING", "b/0/0/TASK_INSTANCE_RUNNING", "b/0/0/TASK_INSTANCE_SUCCEED", "b/TASK_FAILED"},
	}
	n := 0
	for _, chain := range order {
		for i := range chain[1:] {
			if at(chain[i]) > at(chain[i+1]) {
				n++
			}
		}
	}
	return n
}

// topicsOf returns the topics of a catalogue with the topic that notified asks for.
func topicsOf(t *testing.T, url, format string) *topic.Topics {
	t.Helper()
	c, err := catalog.Parse([]byte(fmt.Sprintf(`apiVersion: %s
kind: %s
notifications:
  topics:
  - name: films
    http: {url: %q, format: %s, timeout: 2s}
`, catalog.APIVersion, catalog.Kind, url, format)))
	if err != nil {
		t.Fatal(err)
	}
	topics := topic.New(topic.Options{Catalog: func() *catalog.Catalog { return c }, Now: time.Now})
	t.Cleanup(topics.Close)
	return topics
}

// TestFaultsNotifications: a receiver may die at any request or be down, and the manager may be stopped at any moment. Each
// event of each job is received at least once and in order, none is received that is not due, and then no finalizer is left.
func TestFaultsNotifications(t *testing.T) {
	t.Parallel()
	const jobs = 4
	for name, tc := range map[string]struct {
		format string
		down   bool
		answer func(n int) answer
		// stops has the manager stopped, and another one started, every two seconds.
		stops bool
	}{
		"healthy":              {format: "batch", answer: func(int) answer { return accept }},
		"dies at each request": {format: "structured", answer: func(n int) answer { return []answer{dies, accept, unsure, accept, trouble, accept}[n%6] }},
		"down for all jobs":    {format: "batch", down: true, answer: func(int) answer { return accept }},
		"managers stopped":     {format: "structured", stops: true, answer: func(n int) answer { return []answer{accept, accept, unsure, accept}[n%4] }},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t, tc.down, tc.answer)
			url := "http://" + r.server.Listener.Addr().String() + "/events"
			d := newFaultEnv(t, controlplane.Get(t), 7)
			d.topics = topicsOf(t, url, tc.format)
			manager := d.manager(d.Config, nil)
			stops, stopped := 0, time.Now()
			poll := func(ok func() bool) func() bool {
				return func() bool {
					if tc.stops && time.Since(stopped) > 2*time.Second && stops < 5 {
						manager.cancel()
						<-manager.ended
						manager, stops, stopped = d.manager(d.Config, nil), stops+1, time.Now()
					}
					return ok()
				}
			}
			for i := range jobs {
				job := notified(d.reference(fmt.Sprint("ref-", i)).New(d.ns))
				if err := d.Create(t.Context(), job); err != nil {
					t.Fatal(err)
				}
			}
			d.within(3*time.Minute, "every job has ended", poll(d.allEnded))
			if tc.down {
				if n, _ := r.received("job-"); len(n) > 0 {
					t.Fatalf("a receiver that is down received %d events", len(n))
				}
				d.within(2*time.Minute, "the status of each job says that the receiver fails", poll(func() bool {
					return d.have(func(job *v1alpha1.BatchJob) bool {
						n := job.Status.Notifications
						return n != nil && len(n.Topics) == 1 && strings.Contains(n.Topics[0].LastError, "connection refused") && n.Pending == int64(len(referenceEvents()))
					})
				}))
				r.up()
			}
			defer func() {
				if t.Failed() {
					d.have(func(job *v1alpha1.BatchJob) bool {
						text, _ := json.Marshal(job.Status.Notifications)
						t.Logf("%s: %d requests, finalizers %v, %s", job.Name, r.requests, job.Finalizers, text)
						return true
					})
				}
			}()
			d.within(time.Minute, "all events were sent, and no finalizer is left", poll(func() bool {
				return d.have(func(job *v1alpha1.BatchJob) bool {
					return !plan.OwesEvents(&job.Status) && !plan.HasNotificationFinalizer(job)
				})
			}))
			checkDelivered(t, d, r, jobs)
			t.Logf("%s: managers stopped: %d, requests: %d", name, stops, r.requests)
			d.wantNoOverlap()
		})
	}
}

// checkDelivered checks what a receiver has received of the reference jobs of a namespace.
func checkDelivered(t *testing.T, d *faultEnv, r *receiver, jobs int) {
	t.Helper()
	var list v1alpha1.BatchJobList
	if err := d.List(t.Context(), &list, client.InNamespace(d.ns)); err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != jobs {
		t.Errorf("%d jobs, want %d", len(list.Items), jobs)
	}
	want := referenceEvents()
	due, distinct, repeated, lost, extra, disordered := 0, 0, 0, 0, 0, 0
	for i := range list.Items {
		job := &list.Items[i]
		d.wantReference(job.Name)
		ids, again := r.received(job.Status.JobID)
		for i := range ids {
			ids[i] = strings.TrimPrefix(ids[i], job.Status.JobID+"/0/")
		}
		due, distinct, repeated = due+len(want), distinct+len(ids), repeated+again
		for _, id := range want {
			if !slices.Contains(ids, id) {
				lost++
				t.Errorf("%s: %s was not received", job.Name, id)
			}
		}
		for _, id := range ids {
			if !slices.Contains(want, id) {
				extra++
				t.Errorf("%s: %s was received, and is not due", job.Name, id)
			}
		}
		if n := outOfOrder(ids); n > 0 {
			disordered += n
			t.Errorf("%s: out of order: %q", job.Name, ids)
		}
		n := job.Status.Notifications
		if n == nil || n.Sent != int64(len(want)) || n.GivenUp != 0 {
			t.Errorf("%s: the status counts %+v, want %d sent", job.Name, n, len(want))
		}
	}
	t.Logf("due %d, received %d, repeated %d, lost %d, not due %d, out of order %d", due, distinct, repeated, lost, extra, disordered)
}
