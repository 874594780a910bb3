// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregv1 "k8s.io/api/admissionregistration/v1"
	"sigs.k8s.io/yaml"
)

// manifests reads the webhook configurations that make generate wrote.
func manifests(t *testing.T) (m admissionregv1.MutatingWebhookConfiguration, v admissionregv1.ValidatingWebhookConfiguration) {
	t.Helper()
	data, err := os.ReadFile("../../config/webhook/manifests.yaml")
	if err != nil {
		t.Fatal(err)
	}
	parts := bytes.Split(bytes.TrimPrefix(data, []byte("---\n")), []byte("\n---\n"))
	if len(parts) != 2 {
		t.Fatalf("%d objects, want 2", len(parts))
	}
	if err := errors.Join(yaml.UnmarshalStrict(parts[0], &m), yaml.UnmarshalStrict(parts[1], &v)); err != nil {
		t.Fatal(err)
	}
	if m.Kind != "MutatingWebhookConfiguration" || v.Kind != "ValidatingWebhookConfiguration" {
		t.Fatalf("kinds %s and %s", m.Kind, v.Kind)
	}
	return m, v
}

// TestManifestsAreNoDanger holds the webhook configurations to what a cluster can live
// with when the manager is down or slow: webhooks for our kinds only, never for a
// subresource, for a deletion only where the manager is not needed, and answered in five
// seconds. What the conditions leave out is shown by cmd/manager's test without a manager.
func TestManifestsAreNoDanger(t *testing.T) {
	m, v := manifests(t)
	if len(m.Webhooks) != 2 || len(v.Webhooks) != 5 {
		t.Fatalf("%d mutating and %d validating webhooks, want 2 and 5", len(m.Webhooks), len(v.Webhooks))
	}
	service := func(path string) admissionregv1.WebhookClientConfig {
		return admissionregv1.WebhookClientConfig{Service: &admissionregv1.ServiceReference{Name: "webhook-service", Namespace: "system", Path: &path}}
	}
	rules := func(resource string, operations ...admissionregv1.OperationType) []admissionregv1.RuleWithOperations {
		return []admissionregv1.RuleWithOperations{{
			Operations: operations,
			// Not status; our kinds are namespaced, so a scope would add nothing.
			Rule: admissionregv1.Rule{APIGroups: []string{"batchcompute.dev"}, APIVersions: []string{"v1alpha1"}, Resources: []string{resource}},
		}}
	}
	wantMutating := admissionregv1.MutatingWebhook{
		Name: "batchjob-name.batchcompute.dev", ClientConfig: service(namePath), Rules: rules("batchjobs", admissionregv1.Create),
		FailurePolicy: ptr(admissionregv1.Fail), MatchPolicy: ptr(admissionregv1.Equivalent), SideEffects: ptr(admissionregv1.SideEffectClassNone),
		TimeoutSeconds: ptr(int32(5)), AdmissionReviewVersions: []string{"v1"}, ReinvocationPolicy: ptr(admissionregv1.NeverReinvocationPolicy),
		MatchConditions: m.Webhooks[0].MatchConditions,
	}
	wantCompleting := wantMutating
	wantCompleting.Name, wantCompleting.ClientConfig = "batchjob-tasktemplate.batchcompute.dev", service(completePath)
	wantCompleting.Rules, wantCompleting.MatchConditions = rules("batchjobs", admissionregv1.Create, admissionregv1.Update), m.Webhooks[1].MatchConditions
	wantMutating.Rules[0].Resources = []string{"batchjobs", "computeenvs"}
	if diff := cmp.Diff([]admissionregv1.MutatingWebhook{wantMutating, wantCompleting}, m.Webhooks); diff != "" {
		t.Errorf("mutating webhooks (-want +got):\n%s", diff)
	}
	if n := len(m.Webhooks[1].MatchConditions); n != 2 {
		t.Errorf("%d conditions of the webhook that completes tasks, want 2", n)
	}
	validating := func(name, path string, policy admissionregv1.FailurePolicyType, rules []admissionregv1.RuleWithOperations, conditions ...admissionregv1.MatchCondition) admissionregv1.ValidatingWebhook {
		return admissionregv1.ValidatingWebhook{
			Name: name, ClientConfig: service(path), Rules: rules,
			FailurePolicy: &policy, MatchPolicy: ptr(admissionregv1.Equivalent), SideEffects: ptr(admissionregv1.SideEffectClassNone),
			TimeoutSeconds: ptr(int32(5)), AdmissionReviewVersions: []string{"v1"}, MatchConditions: conditions,
		}
	}
	changed := admissionregv1.MatchCondition{
		Name: "spec-is-new-or-changed",
		Expression: "request.operation == 'CREATE' || has(object.spec) != has(oldObject.spec) || " +
			"(has(object.spec) && object.spec != oldObject.spec)",
	}
	alone := admissionregv1.MatchCondition{
		Name: "not-with-its-namespace", Expression: "request.userInfo.username != 'system:serviceaccount:kube-system:namespace-controller'",
	}
	wantValidating := []admissionregv1.ValidatingWebhook{
		validating("batchjob.batchcompute.dev", batchJobPath, admissionregv1.Fail, rules("batchjobs", admissionregv1.Create, admissionregv1.Update), changed),
		validating("computeenv-delete.batchcompute.dev", computeEnvPath, admissionregv1.Ignore, rules("computeenvs", admissionregv1.Delete), alone),
		validating("computeenv-scale.batchcompute.dev", computeEnvPath, admissionregv1.Ignore, rules("computeenvs/scale", admissionregv1.Update)),
		validating("computeenv.batchcompute.dev", computeEnvPath, admissionregv1.Fail, rules("computeenvs", admissionregv1.Create, admissionregv1.Update), changed),
		validating("tasktemplate.batchcompute.dev", templatePath, admissionregv1.Fail, rules("tasktemplates", admissionregv1.Create, admissionregv1.Update), changed),
	}
	if diff := cmp.Diff(wantValidating, v.Webhooks); diff != "" {
		t.Errorf("validating webhooks (-want +got):\n%s", diff)
	}
	if n := len(m.Webhooks[0].MatchConditions); n != 1 {
		t.Fatalf("%d conditions of the mutating webhook, want 1", n)
	}
	for _, part := range []string{
		"has(object.metadata.generateName)", "object.metadata.generateName != ''",
		"(!has(object.metadata.name) || object.metadata.name == '')",
		"has(object.spec.clientToken)", "object.spec.clientToken != ''",
	} {
		if e := m.Webhooks[0].MatchConditions[0].Expression; !strings.Contains(e, part) || strings.Count(e, "||") != 1 {
			t.Errorf("condition %q lacks %q", e, part)
		}
	}
}

// TestHandlersCannotOutlastTheirTimeout adds up what a create may wait for.
func TestHandlersCannotOutlastTheirTimeout(t *testing.T) {
	_, v := manifests(t)
	limit := float64(*v.Webhooks[0].TimeoutSeconds)
	// All waiting together has answerTimeout; a hostile request takes half a second.
	if worst := answerTimeout.Seconds() + 0.5; worst >= limit {
		t.Errorf("a create may take %.1f s, and the API server gives %.1f s", worst, limit)
	}
}
