// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	authnv1 "k8s.io/api/authentication/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/validation"
)

// envRequest is a request about a ComputeEnv with so many nodes, which had 1 before.
func envRequest(op admissionv1.Operation, nodes int64, edit ...func(*v1alpha1.ComputeEnv)) admission.Request {
	raw := func(nodes int64) runtime.RawExtension {
		e := &v1alpha1.ComputeEnv{}
		e.Name = "pool"
		e.Spec = v1alpha1.ComputeEnvSpec{Placement: v1alpha1.Placement{Zone: "z"}, EnvName: "p", DesiredComputeNodeCount: &nodes}
		for _, f := range edit {
			f(e)
		}
		data, err := json.Marshal(e)
		if err != nil {
			panic(err)
		}
		return runtime.RawExtension{Raw: data}
	}
	req := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		UID: "u-1", Operation: op, Namespace: "ns", Name: "pool",
		Kind:     metav1.GroupVersionKind{Group: "batchcompute.dev", Version: "v1alpha1", Kind: "ComputeEnv"},
		UserInfo: authnv1.UserInfo{Username: "alice"},
	}}
	if op != admissionv1.Delete {
		req.Object = raw(nodes)
	}
	if op != admissionv1.Create {
		req.OldObject = raw(1)
	}
	return req
}

// scaleRequest is a request for so many nodes through the subresource.
func scaleRequest(nodes int32) admission.Request {
	req := envRequest(admissionv1.Update, 1)
	data, err := json.Marshal(autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: nodes}})
	if err != nil {
		panic(err)
	}
	req.SubResource, req.Object.Raw = "scale", data
	return req
}

// handleEnv sends a request through the webhook as the server does.
func handleEnv(t *testing.T, c *cluster, req admission.Request) admission.Response {
	t.Helper()
	hook := &admission.Webhook{
		Handler:        &computeEnvHandler{validator: validation.Validator{}, access: c, users: c, quota: c, synced: func() bool { return !c.notSynced }},
		LogConstructor: func(logr.Logger, *admission.Request) logr.Logger { return logr.Discard() },
	}
	return hook.Handle(t.Context(), req)
}

func TestComputeEnvs(t *testing.T) {
	dryRun := envRequest(admissionv1.Create, 3)
	dryRun.DryRun = ptr(true)
	unnamed := envRequest(admissionv1.Create, 3, func(e *v1alpha1.ComputeEnv) { e.Name = "" })
	unnamed.Name = ""
	seven := []string{"a", "b", "c", "d", "e", "f", "g"}
	gone := envRequest(admissionv1.Delete, 1, func(e *v1alpha1.ComputeEnv) { now := metav1.Unix(1_800_000_000, 0); e.DeletionTimestamp = &now })
	for name, tc := range map[string]struct {
		cluster      cluster
		req          admission.Request
		want         []string // causes, "CODE field: message"
		wantWarnings []string
		wantReserved []string
		wantLooked   []string
	}{
		"a create":   {req: envRequest(admissionv1.Create, 3), wantReserved: []string{"ns/pool"}},
		"a dry run":  {req: dryRun, wantLooked: []string{"ns/pool"}},
		"no name":    {req: unnamed, wantReserved: []string{"ns/u-1"}},
		"a mistake":  {req: envRequest(admissionv1.Create, -1), want: []string{"InvalidParameterValue.Negative spec.desiredComputeNodeCount: must not be negative, got -1"}, wantLooked: []string{"ns/pool"}},
		"not synced": {cluster: cluster{notSynced: true}, req: envRequest(admissionv1.Update, 3)},
		"a caller who may not submit": {
			cluster: cluster{forbidden: true}, req: envRequest(admissionv1.Create, -1),
			want: []string{`UnauthorizedOperation.UserNotAllowedToUseBatch metadata.namespace: user "alice" may not submit in namespace "ns": grant the verb submit ` +
				`on batchjobs.batchcompute.dev there; the cluster roles edit and admin include it`},
		},
		"a full namespace": {
			cluster: cluster{quotaSays: answer{refusal: "must be emptier", warning: []string{"no number"}}}, req: envRequest(admissionv1.Create, 3),
			want: []string{"LimitExceeded.ComputeEnvQuota metadata.namespace: must be emptier"}, wantReserved: []string{"ns/pool"},
		},
		"a warning": {
			cluster: cluster{quotaSays: answer{warning: []string{"no number"}}},
			req: envRequest(admissionv1.Create, 3, func(e *v1alpha1.ComputeEnv) {
				e.Spec.NotificationTarget = "CMQ"
			}),
			wantWarnings: []string{"spec.notificationTarget has no effect on Kubernetes; the operator's catalogue decides which service a topic is of", "no number"}, wantReserved: []string{"ns/pool"},
		},
		"an update asks only for the right to submit": {cluster: cluster{notSynced: true, users: seven}, req: envRequest(admissionv1.Update, 3)},
		"an update by a caller who may not submit": {
			cluster: cluster{forbidden: true}, req: envRequest(admissionv1.Update, 2001),
			want: []string{`UnauthorizedOperation.UserNotAllowedToUseBatch metadata.namespace: user "alice" may not submit in namespace "ns": grant the verb submit ` +
				`on batchjobs.batchcompute.dev there; the cluster roles edit and admin include it`},
		},
		"a scale asks nobody": {cluster: cluster{forbidden: true, notSynced: true}, req: scaleRequest(2000)},
		"a scale too far": {
			cluster: cluster{forbidden: true}, req: scaleRequest(math.MaxInt32),
			want: []string{"InvalidParameterValue.LimitExceeded spec.replicas: must be at most 2000 nodes, got 2147483647"},
		},
		"a scale below nothing": {
			req: scaleRequest(-1), want: []string{"InvalidParameterValue.Negative spec.replicas: must not be negative, got -1"},
		},
		"an update with a mistake": {
			req: envRequest(admissionv1.Update, 2001), want: []string{"InvalidParameterValue.LimitExceeded spec.desiredComputeNodeCount: must be at most 2000 nodes, got 2001"},
		},
		"a deletion": {cluster: cluster{forbidden: true}, req: envRequest(admissionv1.Delete, 0)},
		"a deletion of what a job uses": {
			cluster: cluster{users: seven[:1]}, req: envRequest(admissionv1.Delete, 0),
			want: []string{`ResourceInUse metadata.name: ComputeEnv "pool" is used by 1 BatchJob that has not ended: a; wait until it ends, or terminate or delete it`},
		},
		"a deletion of what some use": {
			cluster: cluster{users: seven[:5]}, req: envRequest(admissionv1.Delete, 0),
			want: []string{`ResourceInUse metadata.name: ComputeEnv "pool" is used by 5 BatchJobs that have not ended: a, b, c, d, e; wait until they end, or terminate or delete them`},
		},
		"a deletion of what many use": {
			cluster: cluster{users: seven}, req: envRequest(admissionv1.Delete, 0),
			want: []string{`ResourceInUse metadata.name: ComputeEnv "pool" is used by 7 BatchJobs that have not ended: a, b, c, d, e and 2 more; wait until they end, or terminate or delete them`},
		},
		"a deletion again": {cluster: cluster{users: seven}, req: gone},
	} {
		t.Run(name, func(t *testing.T) {
			resp := handleEnv(t, &tc.cluster, tc.req)
			var got []string
			if resp.Result.Details != nil {
				for _, c := range resp.Result.Details.Causes {
					text, _ := strings.CutSuffix(strings.TrimPrefix(c.Message, string(c.Type)+": "), requestID(tc.req))
					got = append(got, string(c.Type)+" "+c.Field+": "+text)
				}
			}
			if resp.Allowed != (len(tc.want) == 0) || !resp.Allowed && resp.Result.Code != 422 {
				t.Errorf("allowed %v, %+v", resp.Allowed, resp.Result)
			}
			for what, diff := range map[string]string{
				"causes":   cmp.Diff(tc.want, got),
				"warnings": cmp.Diff(tc.wantWarnings, resp.Warnings),
				"reserved": cmp.Diff(tc.wantReserved, tc.cluster.reserved),
				"looked":   cmp.Diff(tc.wantLooked, tc.cluster.onlyLooked),
			} {
				if diff != "" {
					t.Errorf("%s (-want +got):\n%s", what, diff)
				}
			}
		})
	}
}

// TestComputeEnvsUndecided has the failures, and whether a client should try again.
func TestComputeEnvsUndecided(t *testing.T) {
	broken := envRequest(admissionv1.Create, 1)
	broken.Object.Raw = []byte("{")
	brokenOld := envRequest(admissionv1.Update, 1)
	brokenOld.OldObject.Raw = nil
	brokenScale := scaleRequest(1)
	brokenScale.Object.Raw = []byte("{")
	for name, tc := range map[string]struct {
		cluster cluster
		req     admission.Request
		again   bool
	}{
		"the access review fails": {cluster{accessErr: errors.New("down")}, envRequest(admissionv1.Create, 1), true},
		"the cache is not there":  {cluster{notSynced: true}, envRequest(admissionv1.Create, 1), true},
		"nor for a deletion":      {cluster{notSynced: true}, envRequest(admissionv1.Delete, 1), true},
		"the index is not there":  {cluster{usersErr: errors.New("no index")}, envRequest(admissionv1.Delete, 1), true},
		"no turn in time":         {cluster{quotaErr: errBusy}, envRequest(admissionv1.Create, 1), true},
		"the review of an update": {cluster{accessErr: errors.New("down")}, envRequest(admissionv1.Update, 1), true},
		"no Scale":                {cluster{}, brokenScale, false},
		"no ComputeEnv":           {cluster{}, broken, false},
		"no old ComputeEnv":       {cluster{}, brokenOld, false},
		"an operation of others":  {cluster{}, envRequest(admissionv1.Connect, 1), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				resp := handleEnv(t, &tc.cluster, tc.req)
				if resp.Allowed || resp.Result.Code != 500 || (resp.Result.Details.RetryAfterSeconds == 1) != tc.again {
					t.Errorf("allowed %v, %+v", resp.Allowed, resp.Result)
				}
			})
		})
	}
}

// The quota of ComputeEnvs speaks of them, and reads the annotation that is theirs.
func TestQuotaOfComputeEnvs(t *testing.T) {
	q := newQuota(envQuota, amount{objects: 10})
	q.sawNamespace("ns", map[string]string{
		v1alpha1.AnnotationJobQuota: "7", v1alpha1.AnnotationEnvQuota: "2", v1alpha1.AnnotationJobBytesQuota: "1", "": "no key",
	})
	q.saw("ns", "a", 0)
	if a, err := q.admit(t.Context(), claim{"ns", "b", 0, true}); err != nil || !reflect.DeepEqual(a, answer{}) {
		t.Fatalf("%+v, %v", a, err)
	}
	q.saw("ns", "b", 0)
	want := answer{refusal: "the namespace keeps 2 ComputeEnvs, and its quota is 2: delete unused ones, or raise its annotation batchcompute.dev/compute-env-quota"}
	if a, err := q.admit(t.Context(), claim{"ns", "c", 0, true}); err != nil || !reflect.DeepEqual(a, want) {
		t.Errorf("%+v, %v, want %+v", a, err, want)
	}
}
