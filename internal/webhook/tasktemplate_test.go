// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	authnv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/validation"
)

// templateRequest is a request about a TaskTemplate of this name for people.
func templateRequest(op admissionv1.Operation, called string) admission.Request {
	raw := func(called string) runtime.RawExtension {
		template := &v1alpha1.TaskTemplate{}
		template.Name = "render"
		template.Spec = v1alpha1.TaskTemplateSpec{TaskTemplateName: called, TaskTemplateInfo: v1alpha1.Task{
			ComputeEnv: &v1alpha1.AnonymousComputeEnv{}, RestartComputeNode: ptr(true),
			Application: v1alpha1.Application{DeliveryForm: v1alpha1.DeliveryFormLocal, Command: "true"},
		}}
		data, err := json.Marshal(template)
		if err != nil {
			panic(err)
		}
		return runtime.RawExtension{Raw: data}
	}
	req := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		UID: "u-1", Operation: op, Namespace: "ns", Name: "render", Object: raw(called),
		Kind:     metav1.GroupVersionKind{Group: "batchcompute.dev", Version: "v1alpha1", Kind: "TaskTemplate"},
		UserInfo: authnv1.UserInfo{Username: "alice"},
	}}
	if op == admissionv1.Update {
		req.OldObject = raw("before")
	}
	return req
}

func TestTaskTemplates(t *testing.T) {
	const warning = "spec.taskTemplateInfo.restartComputeNode has no effect on Kubernetes"
	for name, tc := range map[string]struct {
		cluster      cluster
		req          admission.Request
		want         []string // causes, "CODE field"
		wantReserved []string
		wantLooked   []string
	}{
		"a create":            {req: templateRequest(admissionv1.Create, "a"), wantReserved: []string{"ns/render"}},
		"a mistake":           {req: templateRequest(admissionv1.Create, "a b"), want: []string{"InvalidParameter.TaskTemplateName spec.taskTemplateName"}, wantLooked: []string{"ns/render"}},
		"an update":           {cluster: cluster{notSynced: true}, req: templateRequest(admissionv1.Update, "a")},
		"a mistake in update": {req: templateRequest(admissionv1.Update, "a b"), want: []string{"InvalidParameter.TaskTemplateName spec.taskTemplateName"}},
		"a full namespace": {
			cluster: cluster{quotaSays: answer{refusal: "must be emptier"}}, req: templateRequest(admissionv1.Create, "a"),
			want: []string{"LimitExceeded.TaskTemplateQuota metadata.namespace"}, wantReserved: []string{"ns/render"},
		},
		"a create by a caller who may not submit": {
			cluster: cluster{forbidden: true}, req: templateRequest(admissionv1.Create, "a b"),
			want: []string{"UnauthorizedOperation.UserNotAllowedToUseBatch metadata.namespace"},
		},
		"an update by a caller who may not submit": {
			cluster: cluster{forbidden: true}, req: templateRequest(admissionv1.Update, "a b"),
			want: []string{"UnauthorizedOperation.UserNotAllowedToUseBatch metadata.namespace"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := tc.cluster
			hook := &admission.Webhook{
				Handler:        &templateHandler{validator: validation.Validator{}, access: &c, quota: &c, synced: func() bool { return !c.notSynced }},
				LogConstructor: func(logr.Logger, *admission.Request) logr.Logger { return logr.Discard() },
			}
			resp := hook.Handle(t.Context(), tc.req)
			var got []string
			if resp.Result != nil && resp.Result.Details != nil {
				for _, cause := range resp.Result.Details.Causes {
					got = append(got, string(cause.Type)+" "+cause.Field)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" || resp.Allowed != (len(tc.want) == 0) {
				t.Errorf("allowed %v; causes (-want +got):\n%s", resp.Allowed, diff)
			}
			if resp.Allowed && !slices.Equal(resp.Warnings, []string{warning}) {
				t.Errorf("warnings %q", resp.Warnings)
			}
			if !slices.Equal(c.reserved, tc.wantReserved) || !slices.Equal(c.onlyLooked, tc.wantLooked) {
				t.Errorf("reserved %v, looked at %v, want %v and %v", c.reserved, c.onlyLooked, tc.wantReserved, tc.wantLooked)
			}
		})
	}
}
