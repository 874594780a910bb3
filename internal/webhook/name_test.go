// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"testing"

	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

func TestNameFromToken(t *testing.T) {
	for name, tc := range map[string]struct{ object, want string }{
		"token and generateName": {
			`{"metadata":{"generateName":"render-"},"spec":{"clientToken":"4a6e2f"}}`,
			`[{"op":"add","path":"/metadata/name","value":"render-poxb9trbuptc"},{"op":"remove","path":"/metadata/generateName"}]`,
		},
		"token and name":      {`{"metadata":{"name":"a","generateName":"render-"},"spec":{"clientToken":"4a6e2f"}}`, ""},
		"no token":            {`{"metadata":{"generateName":"render-"},"spec":{"job":{}}}`, ""},
		"no generateName":     {`{"metadata":{},"spec":{"clientToken":"4a6e2f"}}`, ""},
		"no spec":             {`{"metadata":{"generateName":"render-"}}`, ""},
		"token of other type": {`{"metadata":{"generateName":"render-"},"spec":{"clientToken":7}}`, ""},
		"spec of other type":  {`{"metadata":{"generateName":"render-"},"spec":["a"]}`, ""},
		"nothing":             {``, ""},
	} {
		t.Run(name, func(t *testing.T) {
			hook := &admission.Webhook{
				Handler:        admission.HandlerFunc(nameFromToken),
				LogConstructor: func(logr.Logger, *admission.Request) logr.Logger { return logr.Discard() },
			}
			resp := hook.Handle(t.Context(), admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
				UID: "u-1", Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: []byte(tc.object)},
			}})
			if !resp.Allowed || string(resp.Patch) != tc.want {
				t.Errorf("allowed %v, patch %s, want %s", resp.Allowed, resp.Patch, tc.want)
			}
			if hasType := resp.PatchType != nil && *resp.PatchType == admissionv1.PatchTypeJSONPatch; hasType != (tc.want != "") {
				t.Errorf("patch type %v", resp.PatchType)
			}
		})
	}
}
