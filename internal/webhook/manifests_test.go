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
// with when the manager is down or slow: one webhook each, for BatchJobs only, never for
// a subresource or a deletion, and answered in five seconds. What the conditions leave out
// is shown by cmd/manager's test without a manager.
func TestManifestsAreNoDanger(t *testing.T) {
	m, v := manifests(t)
	if len(m.Webhooks) != 1 || len(v.Webhooks) != 1 {
		t.Fatalf("%d mutating and %d validating webhooks, want one of each", len(m.Webhooks), len(v.Webhooks))
	}
	service := func(path string) admissionregv1.WebhookClientConfig {
		return admissionregv1.WebhookClientConfig{Service: &admissionregv1.ServiceReference{Name: "webhook-service", Namespace: "system", Path: &path}}
	}
	rules := func(operations ...admissionregv1.OperationType) []admissionregv1.RuleWithOperations {
		return []admissionregv1.RuleWithOperations{{
			Operations: operations,
			// No subresource, so not status; BatchJobs are namespaced, so a scope would add nothing.
			Rule: admissionregv1.Rule{APIGroups: []string{"batchcompute.dev"}, APIVersions: []string{"v1alpha1"}, Resources: []string{"batchjobs"}},
		}}
	}
	wantMutating := admissionregv1.MutatingWebhook{
		Name: "batchjob-name.batchcompute.dev", ClientConfig: service(namePath), Rules: rules(admissionregv1.Create),
		FailurePolicy: ptr(admissionregv1.Fail), MatchPolicy: ptr(admissionregv1.Equivalent), SideEffects: ptr(admissionregv1.SideEffectClassNone),
		TimeoutSeconds: ptr(int32(5)), AdmissionReviewVersions: []string{"v1"}, ReinvocationPolicy: ptr(admissionregv1.NeverReinvocationPolicy),
		MatchConditions: m.Webhooks[0].MatchConditions,
	}
	if diff := cmp.Diff(wantMutating, m.Webhooks[0]); diff != "" {
		t.Errorf("mutating webhook (-want +got):\n%s", diff)
	}
	wantValidating := admissionregv1.ValidatingWebhook{
		Name: "batchjob.batchcompute.dev", ClientConfig: service(batchJobPath), Rules: rules(admissionregv1.Create, admissionregv1.Update),
		FailurePolicy: ptr(admissionregv1.Fail), MatchPolicy: ptr(admissionregv1.Equivalent), SideEffects: ptr(admissionregv1.SideEffectClassNone),
		TimeoutSeconds: ptr(int32(5)), AdmissionReviewVersions: []string{"v1"},
		MatchConditions: []admissionregv1.MatchCondition{{
			Name: "spec-is-new-or-changed",
			Expression: "request.operation == 'CREATE' || has(object.spec) != has(oldObject.spec) || " +
				"(has(object.spec) && object.spec != oldObject.spec)",
		}},
	}
	if diff := cmp.Diff(wantValidating, v.Webhooks[0]); diff != "" {
		t.Errorf("validating webhook (-want +got):\n%s", diff)
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
	// The cache's first fill and the quota each have patience; a hostile request takes half a second.
	if worst := (reviewTimeout + 2*patience).Seconds() + 0.5; worst >= limit {
		t.Errorf("a create may take %.1f s, and the API server gives %.1f s", worst, limit)
	}
}
