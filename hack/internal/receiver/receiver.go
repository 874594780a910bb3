// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package receiver is a small receiver of notifications, for the demo and the e2e tests: it takes CloudEvents, one in
// each request, and keeps them in the order in which they arrive. It can be down for a while.
package receiver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
)

// maxBody is more than a CloudEvent takes. Unit: bytes.
const maxBody = 64 << 10

// Receiver is a receiver. Its methods may be called concurrently, but for Stop and Start.
type Receiver struct {
	address string
	server  *http.Server // nil while it is down

	mu     sync.Mutex
	events []event.Event
	faults []error
}

// Listen starts a receiver at a free port of an address of this machine.
func Listen(host string) (*Receiver, error) {
	r := &Receiver{address: net.JoinHostPort(host, "0")}
	return r, r.Start()
}

// Address is host and port. They stay the same while the receiver is down.
func (r *Receiver) Address() string { return r.address }

// Start lets the receiver be reached again after Stop.
func (r *Receiver) Start() error {
	l, err := net.Listen("tcp", r.address)
	if err != nil {
		return fmt.Errorf("starting the receiver: %w", err)
	}
	r.address = l.Addr().String()
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	go func(s *http.Server) { _ = s.Serve(l) }(r.server)
	return nil
}

// Stop has nobody reach the receiver: connections that there are end, and new ones are refused. It keeps the events.
func (r *Receiver) Stop() {
	if r.server != nil {
		_ = r.server.Close()
		r.server = nil
	}
}

// ServeHTTP takes an event.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	e, err := read(w, request)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.faults = append(r.faults, err)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.events = append(r.events, e)
	w.WriteHeader(http.StatusNoContent)
}

// read reads the CloudEvent of a request.
func read(w http.ResponseWriter, request *http.Request) (e event.Event, err error) {
	if got := request.Header.Get("Content-Type"); request.Method != http.MethodPost || got != event.ApplicationCloudEventsJSON {
		return e, fmt.Errorf("the request is %s with %q, want POST with %s", request.Method, got, event.ApplicationCloudEventsJSON)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, request.Body, maxBody))
	if err == nil {
		err = json.Unmarshal(body, &e)
	}
	if err == nil {
		err = e.Validate()
	}
	if err != nil {
		return e, fmt.Errorf("the request has no valid CloudEvent: %w", err)
	}
	return e, nil
}

// Events returns the events of a job in the order in which they arrived the first time; with "" those of all jobs. An
// error says what arrived that is no event.
func (r *Receiver) Events(jobID string) ([]event.Event, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []event.Event
	seen := map[string]bool{}
	for _, e := range r.events {
		owner, _, _ := strings.Cut(e.Subject(), "/")
		if (jobID == "" || owner == jobID) && !seen[e.ID()] {
			seen[e.ID()] = true
			out = append(out, e)
		}
	}
	return out, errors.Join(r.faults...)
}

// Sample are the events of config/samples/notifications.yaml, as Check wants them.
var Sample = []string{
	"JOB_RUNNING",
	"TASK_RUNNING render", "TASK_INSTANCE_SUCCEED render/0", "TASK_INSTANCE_SUCCEED render/1", "TASK_SUCCEED render",
	"TASK_RUNNING merge", "TASK_INSTANCE_SUCCEED merge/0", "TASK_SUCCEED merge",
	"JOB_SUCCEED",
}

// Check returns an error that says how the events of one job differ from want: the name and the subject of each, without
// the JobId and in their order. Instances of a task may end in any order.
func Check(events []event.Event, want []string) error {
	got := make([]string, len(events))
	for i, e := range events {
		_, subject, _ := strings.Cut(e.Subject(), "/")
		got[i] = strings.TrimSpace(Name(&e) + " " + subject)
	}
	sorted := slices.Clone(got)
	for from := 0; from < len(sorted); {
		to := from + 1
		for to < len(sorted) && task(sorted[to]) != "" && task(sorted[to]) == task(sorted[from]) {
			to++
		}
		slices.Sort(sorted[from:to])
		from = to
	}
	if !slices.Equal(sorted, want) {
		return fmt.Errorf("the receiver got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
	return nil
}

// Name returns the name of an event, such as JOB_SUCCEED.
func Name(e *event.Event) string { return e.Type()[strings.LastIndex(e.Type(), ".")+1:] }

// task returns the name of an event and its task, if the event is about an instance, else "".
func task(line string) string {
	out, _, ofInstance := strings.Cut(line, "/")
	if !ofInstance {
		return ""
	}
	return out
}
