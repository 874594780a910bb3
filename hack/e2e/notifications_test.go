//go:build e2e

// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/hack/internal/install"
	"batchcompute.dev/operator/hack/internal/receiver"
	"batchcompute.dev/operator/internal/notify/event"
)

// demoTopic is the topic of config/samples/notifications.yaml, and hook the path and the query of the URL of its receiver,
// which nobody may see.
const (
	demoTopic = "demo-events"
	hook      = "/hook-4711?token=sesame"
)

// hooks is the receiver of the topic; nil where the manager cannot reach this machine.
var hooks *receiver.Receiver

// openHooks starts the receiver and adds the topic to the catalogue of the cluster.
func openHooks() (err error) {
	if cluster.HostIP == "" {
		return nil
	}
	if hooks, err = receiver.Listen(cluster.HostIP); err != nil {
		return err
	}
	cluster.Topics = append(cluster.Topics, install.Topic(demoTopic, "http://"+hooks.Address()+hook))
	return nil
}

// startHooks has the receiver be reached again.
func (s *story) startHooks() {
	s.Helper()
	if err := hooks.Start(); err != nil {
		s.Fatal(err)
	}
}

// TestNotifications: the receiver is down for the whole life of a job, and the manager is killed in the meantime. Users can
// see what is wrong; when the receiver is back, all events arrive in order. So do those of a job that is deleted while the
// receiver is down, and the job stays until then.
func TestNotifications(t *testing.T) {
	if hooks == nil {
		t.Skip("left out: the receiver runs in this test, which only the manager of a local cluster can reach")
	}
	s := begin(t)
	hooks.Stop()
	t.Cleanup(func() { // before the namespace goes
		hooks.Stop()
		if err := hooks.Start(); err != nil {
			t.Error(err)
		}
	})
	name := s.apply(s.sample("notifications"))
	job := s.end(name, v1alpha1.JobSucceed)
	s.seesFailure(name)
	s.killManager()
	s.startHooks()
	s.must("wait", "--for=condition="+v1alpha1.ConditionNotified, "batchjob/"+name, "--timeout=120s")
	s.gotSample(job)
	s.eventually(30*time.Second, "the finalizer of the job to be removed", func() error {
		if f := s.get(name).Finalizers; len(f) > 0 {
			return fmt.Errorf("finalizers are %v", f)
		}
		return nil
	})
	s.awaitWebhook(true)
	s.deletedWhileDown()
}

// seesFailure checks what users see of a job whose receiver is down.
func (s *story) seesFailure(name string) {
	s.Helper()
	s.must("wait", "--for=condition="+v1alpha1.ConditionNotified+"=false", "batchjob/"+name, "--timeout=60s")
	s.event(name, v1alpha1.ReasonDeliveryFailing)
	out := s.must("describe", "batchjob", name)
	for _, want := range []string{v1alpha1.ReasonDeliveryFailing, fmt.Sprintf("topic %q", demoTopic), hooks.Address(), "connection refused"} {
		if !strings.Contains(out, want) {
			s.Errorf("kubectl describe does not say %q:\n%s", want, out)
		}
	}
	for _, secret := range []string{"hook-4711", "sesame"} {
		if strings.Contains(out, secret) {
			s.Errorf("kubectl describe shows %q of the URL:\n%s", secret, out)
		}
	}
	n := s.get(name).Status.Notifications
	if n == nil || int(n.Pending) != len(receiver.Sample) || n.Sent != 0 {
		s.Errorf("the status has %+v, want %d events pending", n, len(receiver.Sample))
	}
}

// gotSample checks that all events of the sample have arrived, with the variable of the last one.
func (s *story) gotSample(job *v1alpha1.BatchJob) {
	s.Helper()
	events, err := hooks.Events(job.Status.JobID)
	if err != nil {
		s.Error(err)
	}
	if err := receiver.Check(events, receiver.Sample); err != nil {
		s.Fatal(err)
	}
	var data event.Data
	if err := json.Unmarshal(events[len(events)-1].Data(), &data); err != nil || !slices.Equal(data.EventVars, []event.Var{{Name: "owner", Value: "lee"}}) {
		s.Errorf("the last event has the variables %v: %v", data.EventVars, err)
	}
	if n := s.get(job.Name).Status.Notifications; n == nil || int(n.Sent) != len(receiver.Sample) || n.Pending != 0 || n.GivenUp != 0 {
		s.Errorf("the status has %+v, want %d events sent", n, len(receiver.Sample))
	}
}

// deletedWhileDown deletes a running job while its receiver is down.
func (s *story) deletedWhileDown() {
	s.Helper()
	hooks.Stop()
	name := s.apply(job("deleted", `
tasks:
- taskName: sleep
  application: {deliveryForm: LOCAL, command: "trap 'exit 1' TERM; sleep 300 & wait"}
  computeEnv: {}
notifications:
- topicName: `+demoTopic+`
  eventConfigs: [{eventName: JOB_RUNNING}, {eventName: JOB_FAILED}, {eventName: TASK_RUNNING}, {eventName: TASK_FAILED}]
`))
	s.eventually(time.Minute, "events of the running job", func() error {
		if n := s.get(name).Status.Notifications; n == nil || n.Pending < 2 {
			return fmt.Errorf("the status has %+v", n)
		}
		return nil
	})
	running := s.get(name)
	s.must("delete", "batchjob", name, "--wait=false")
	if now := s.get(name); now.DeletionTimestamp == nil || !slices.Contains(now.Finalizers, v1alpha1.FinalizerNotifications) {
		s.Errorf("the deleted job has the finalizers %v", now.Finalizers)
	}
	s.startHooks()
	s.eventually(time.Minute, "the deleted job to go", func() error {
		left := &v1alpha1.BatchJob{}
		err := kube.Get(s.ctx, client.ObjectKeyFromObject(running), left)
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err != nil:
			return err
		}
		return fmt.Errorf("it has the finalizers %v and %+v", left.Finalizers, left.Status.Notifications)
	})
	events, err := hooks.Events(running.Status.JobID)
	if err != nil {
		s.Error(err)
	}
	if err := receiver.Check(events, []string{"JOB_RUNNING", "TASK_RUNNING sleep"}); err != nil {
		s.Errorf("of the deleted job %s", err)
	}
}
