// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/validation"
)

// TestTopicsOfTheNamespace: the topics are those of the namespace of the request, which the object need not have.
func TestTopicsOfTheNamespace(t *testing.T) {
	c, err := catalog.Parse([]byte(`apiVersion: config.batchcompute.dev/v1alpha1
kind: Catalog
notifications:
  unknownTopics: refuse
  topics: [{name: done, namespaces: [ns], http: {url: "http://events"}}]
`))
	if err != nil {
		t.Fatal(err)
	}
	rules := validation.Validator{Catalog: func() *catalog.Catalog { return c }, Notifications: true}
	always := func() bool { return true }
	jobs := &batchJobHandler{
		validator: func(envs func(string) validation.EnvState) batchJobValidator {
			v := rules
			v.Envs = envs
			return v
		},
		access: &cluster{}, envs: &cluster{}, tokens: &cluster{}, quota: &cluster{}, synced: always,
	}
	envs := &computeEnvHandler{validator: rules, access: &cluster{}, users: &cluster{}, quota: &cluster{}, synced: always}
	for _, tc := range []struct {
		name    string
		handler admission.Handler
		object  func(topic string) any
	}{
		{"BatchJob", jobs, func(topic string) any {
			return v1alpha1.BatchJob{Spec: v1alpha1.BatchJobSpec{Job: v1alpha1.Job{Notifications: notificationsTo(topic, "JOB_FAILED")}}}
		}},
		{"ComputeEnv", envs, func(topic string) any {
			return v1alpha1.ComputeEnv{Spec: v1alpha1.ComputeEnvSpec{Notifications: notificationsTo(topic, "COMPUTE_ENV_CREATED")}}
		}},
	} {
		for topic, wantRefused := range map[string]bool{"done": false, "dome": true} {
			for _, namespace := range []string{"ns", "other"} {
				req := request(admissionv1.Create)
				data, err := json.Marshal(tc.object(topic))
				if err != nil {
					t.Fatal(err)
				}
				req.Namespace, req.Object = namespace, runtime.RawExtension{Raw: data}
				resp := tc.handler.Handle(t.Context(), req)
				if resp.Result == nil || resp.Result.Code != http.StatusUnprocessableEntity {
					t.Fatalf("%s: %+v", tc.name, resp) // it has other mistakes
				}
				refused := false
				for _, cause := range resp.Result.Details.Causes {
					refused = refused || cause.Type == "InvalidParameter.NotificationTopicName" && strings.HasSuffix(cause.Field, "otifications[0].topicName")
				}
				if want := wantRefused || namespace == "other"; refused != want {
					t.Errorf("%s with topic %s in %s: refused: %t, want %t", tc.name, topic, namespace, refused, want)
				}
			}
		}
	}
}

func notificationsTo(topic, event string) []v1alpha1.Notification {
	return []v1alpha1.Notification{{TopicName: topic, EventConfigs: []v1alpha1.EventConfig{{EventName: event}}}}
}
