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

// A create that leaves the name to the API server, and has a token by which it may be
// repeated, gets its name from the token: so a repetition is the same object, and
// etcd says that it exists. No other request comes here. A spec that is no object is left
// to the schema.
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

// nameFromToken names the job or ComputeEnv, and takes generateName off: the API server would else
// try other names, or say that it found none, where the name is taken.
func nameFromToken(_ context.Context, req admission.Request) admission.Response {
	var job struct {
		Metadata struct{ Name, GenerateName string }
		Spec     struct{ ClientToken string }
	}
	// Comes before the schema: what cannot be read is the schema's to refuse.
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
