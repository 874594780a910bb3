// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"encoding/json"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"batchcompute.dev/operator/internal/naming"
)

// A create with generateName and a clientToken gets a name that is computed from both. So a
// repetition names the same object, and the API server answers that it exists. The API server
// sends no other requests here. The schema refuses a spec that is not an object.
//
// +kubebuilder:webhook:path=/mutate-batchcompute-dev-v1alpha1-batchjob,mutating=true,failurePolicy=fail,sideEffects=None,matchPolicy=Equivalent,reinvocationPolicy=Never,timeoutSeconds=5,groups=batchcompute.dev,resources=batchjobs;computeenvs,verbs=create,versions=v1alpha1,name=batchjob-name.batchcompute.dev,admissionReviewVersions=v1,patch=`{"matchConditions":[{"name":"name-is-to-come-from-the-client-token","expression":"has(object.metadata.generateName) && object.metadata.generateName != '' && (!has(object.metadata.name) || object.metadata.name == '') && has(object.spec) && type(object.spec) == map && has(object.spec.clientToken) && object.spec.clientToken != ''"}]}`

// namePath is where the webhook is served; the marker above repeats it.
const namePath = "/mutate-batchcompute-dev-v1alpha1-batchjob"

// setupName serves the webhook on the manager's webhook server.
func setupName(mgr ctrl.Manager) {
	mgr.GetWebhookServer().Register(namePath, &admission.Webhook{Handler: admission.HandlerFunc(nameFromToken)})
}

// patch is one operation of a JSON patch.
type patch struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value string `json:"value,omitempty"`
}

// nameFromToken sets the name of the job or ComputeEnv and removes generateName. With generateName
// the API server would answer a name that exists with a misleading conflict.
func nameFromToken(_ context.Context, req admission.Request) admission.Response {
	var job struct {
		Metadata struct{ Name, GenerateName string }
		Spec     struct{ ClientToken string }
	}
	// The schema is checked after this webhook, and refuses what cannot be read here.
	err := json.Unmarshal(req.Object.Raw, &job)
	if err != nil || job.Metadata.Name != "" || job.Metadata.GenerateName == "" || job.Spec.ClientToken == "" {
		return admission.Allowed("")
	}
	data, err := json.Marshal([]patch{
		{Op: "add", Path: "/metadata/name", Value: naming.TokenName(job.Metadata.GenerateName, job.Spec.ClientToken)},
		{Op: "remove", Path: "/metadata/generateName"},
	})
	if err != nil {
		return admission.Errored(500, fmt.Errorf("writing the patch: %w", err))
	}
	resp, kind := admission.Allowed(""), admissionv1.PatchTypeJSONPatch
	resp.Patch, resp.PatchType = data, &kind
	return resp
}
