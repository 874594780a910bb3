// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	authnv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/validation"
)

// rules are a validator that a case writes.
type rules struct {
	create   func(*v1alpha1.BatchJob) []validation.Problem
	update   func(oldJob, newJob *v1alpha1.BatchJob) []validation.Problem
	warnings []string
	envs     func(string) validation.EnvState // as the handler gave it
}

func (r rules) ValidateCreate(job *v1alpha1.BatchJob) []validation.Problem {
	if r.envs("any") == validation.EnvDeleting {
		return []validation.Problem{{Code: errcode.ComputeEnvNotFound, Field: taskName, Detail: "must stay"}}
	}
	return r.create(job)
}
func (r rules) ValidateUpdate(o, n *v1alpha1.BatchJob) []validation.Problem {
	return r.update(o, n)
}
func (r rules) Warnings(*v1alpha1.BatchJob) []string            { return r.warnings }
func (r rules) UpdateWarnings(_, _ *v1alpha1.BatchJob) []string { return nil }

// cluster is what the handler asks beside the validator. The zero value lets everything in.
type cluster struct {
	forbidden  bool
	accessErr  error
	holding    *v1alpha1.BatchJob
	holderErr  error
	quotaSays  answer
	quotaErr   error
	notSynced  bool
	envState   validation.EnvState // of every envId
	envErr     error
	users      []string // of the ComputeEnv
	usersErr   error
	reserved   []string // namespace/name of what the quota was asked to count
	onlyLooked []string // and only to look
	bytes      int64    // of the last of them
}

func (c *cluster) maySubmit(context.Context, authnv1.UserInfo, string) (bool, error) {
	return !c.forbidden, c.accessErr
}

func (c *cluster) holder(context.Context, *v1alpha1.BatchJob) (*v1alpha1.BatchJob, error) {
	return c.holding, c.holderErr
}

func (c *cluster) find(context.Context, *v1alpha1.BatchJob) (func(string) validation.EnvState, error) {
	return func(string) validation.EnvState { return c.envState }, c.envErr
}

func (c *cluster) jobsOf(context.Context, *v1alpha1.ComputeEnv) ([]string, error) {
	return c.users, c.usersErr
}

func (c *cluster) admit(_ context.Context, more claim) (answer, error) {
	list := &c.onlyLooked
	if more.reserve {
		list = &c.reserved
	}
	c.bytes = more.bytes
	*list = append(*list, more.namespace+"/"+more.name)
	return c.quotaSays, c.quotaErr
}

func accept(*v1alpha1.BatchJob) []validation.Problem { return nil }

// secret is in the spec of every request here and must never be seen again.
const secret = "hunter2"

func request(op admissionv1.Operation) admission.Request {
	raw := func(zone string) runtime.RawExtension {
		job := v1alpha1.BatchJob{Spec: v1alpha1.BatchJobSpec{ClientToken: secret, Placement: v1alpha1.Placement{Zone: zone}}}
		data, err := json.Marshal(job)
		if err != nil {
			panic(err)
		}
		return runtime.RawExtension{Raw: data}
	}
	req := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		UID: "u-1", Operation: op, Namespace: "ns", Name: "job",
		Kind:     metav1.GroupVersionKind{Group: "batchcompute.dev", Version: "v1alpha1", Kind: "BatchJob"},
		UserInfo: authnv1.UserInfo{Username: "alice"},
		Object:   raw("new"),
	}}
	if op == admissionv1.Update {
		req.OldObject = raw("old")
	}
	return req
}

// handle sends a request through the webhook as the server does, and returns the log.
func handle(t *testing.T, r rules, req admission.Request) (admission.Response, []string) {
	t.Helper()
	return handleIn(t, &cluster{}, r, req)
}

func handleIn(t *testing.T, c *cluster, r rules, req admission.Request) (admission.Response, []string) {
	t.Helper()
	var lines []string
	logger := funcr.New(func(prefix, args string) { lines = append(lines, prefix+args) }, funcr.Options{Verbosity: 4})
	hook := &admission.Webhook{
		Handler: &batchJobHandler{
			validator: func(envs func(string) validation.EnvState) batchJobValidator {
				r.envs = envs
				return r
			},
			access: c, envs: c, tokens: c, quota: c, synced: func() bool { return !c.notSynced },
		},
		LogConstructor: func(logr.Logger, *admission.Request) logr.Logger { return logger },
	}
	resp := hook.Handle(t.Context(), req)
	if resp.UID != req.UID {
		t.Errorf("the response has UID %q, want %q", resp.UID, req.UID)
	}
	for _, l := range append(lines, resp.Result.Message) {
		if strings.Contains(l, secret) {
			t.Errorf("a part of the spec leaked: %s", l)
		}
	}
	return resp, lines
}

var taskName = field.NewPath("spec", "job", "tasks").Index(1).Child("taskName")

func TestAllowed(t *testing.T) {
	zones := func(o, n *v1alpha1.BatchJob) []validation.Problem {
		if o.Spec.Placement.Zone != "old" || n.Spec.Placement.Zone != "new" {
			t.Errorf("old %q, new %q", o.Spec.Placement.Zone, n.Spec.Placement.Zone)
		}
		return nil
	}
	for name, req := range map[string]admission.Request{
		"create": request(admissionv1.Create),
		"update": request(admissionv1.Update),
	} {
		t.Run(name, func(t *testing.T) {
			resp, lines := handle(t, rules{create: accept, update: zones, warnings: []string{"no effect"}}, req)
			if !resp.Allowed || resp.Result.Code != http.StatusOK {
				t.Errorf("response %+v", resp)
			}
			if diff := cmp.Diff([]string{"no effect"}, resp.Warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
			if len(lines) > 0 {
				t.Errorf("logged %q", lines)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	one := []validation.Problem{{Code: errcode.TaskName, Field: taskName, Detail: "must be unique"}}
	two := append(one[:1:1], validation.Problem{Code: errcode.Negative, Field: field.NewPath("spec", "job", "priority"), Detail: "must not be negative"})
	tests := map[string]struct {
		req         admission.Request
		problems    []validation.Problem
		wantMessage string
		wantCauses  []metav1.StatusCause
	}{
		"one problem": {
			req: request(admissionv1.Create), problems: one,
			wantMessage: "InvalidParameter.TaskName: spec.job.tasks[1].taskName: must be unique [RequestId: u-1]",
			wantCauses: []metav1.StatusCause{
				{Type: "InvalidParameter.TaskName", Field: "spec.job.tasks[1].taskName", Message: "InvalidParameter.TaskName: must be unique [RequestId: u-1]"},
			},
		},
		"two problems of an update": {
			req: request(admissionv1.Update), problems: two,
			wantMessage: "InvalidParameter.TaskName: spec.job.tasks[1].taskName: must be unique [RequestId: u-1]\nand 1 more problem:\n" +
				"- InvalidParameterValue.Negative: spec.job.priority: must not be negative",
			wantCauses: []metav1.StatusCause{
				{Type: "InvalidParameter.TaskName", Field: "spec.job.tasks[1].taskName", Message: "InvalidParameter.TaskName: must be unique"},
				{Type: "InvalidParameterValue.Negative", Field: "spec.job.priority", Message: "InvalidParameterValue.Negative: must not be negative [RequestId: u-1]"},
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := rules{
				create: func(*v1alpha1.BatchJob) []validation.Problem { return tc.problems },
				update: func(_, _ *v1alpha1.BatchJob) []validation.Problem { return tc.problems },
			}
			resp, lines := handle(t, r, tc.req)
			want := &metav1.Status{
				Status: metav1.StatusFailure, Code: 422, Reason: metav1.StatusReasonInvalid, Message: tc.wantMessage,
				Details: &metav1.StatusDetails{Name: "job", Group: "batchcompute.dev", Kind: "BatchJob", Causes: tc.wantCauses},
			}
			if diff := cmp.Diff(want, resp.Result); diff != "" || resp.Allowed {
				t.Errorf("allowed %v, status (-want +got):\n%s", resp.Allowed, diff)
			}
			if len(lines) != 1 {
				t.Fatalf("logged %q, want one line", lines)
			}
			for _, part := range []string{`"level"=0`, `"requestID"="u-1"`, `"code"="InvalidParameter.TaskName"`, `"field"="spec.job.tasks[1].taskName"`, `"user"="alice"`} {
				if !strings.Contains(lines[0], part) {
					t.Errorf("the log lacks %s: %s", part, lines[0])
				}
			}
		})
	}
}

func TestDenialIsBounded(t *testing.T) {
	problems := make([]validation.Problem, 200)
	for i := range problems {
		problems[i] = validation.Problem{
			Code:   errcode.InvalidParameterValue,
			Field:  field.NewPath("spec").Key(strings.Repeat("é", 1000)),
			Detail: fmt.Sprintf("%d %s", i, strings.Repeat("漢", 1000)),
		}
	}
	resp, _ := handle(t, rules{create: func(*v1alpha1.BatchJob) []validation.Problem { return problems }}, request(admissionv1.Create))
	causes := resp.Result.Details.Causes
	if len(causes) != maxCauses {
		t.Errorf("%d causes, want %d", len(causes), maxCauses)
	}
	if last := causes[len(causes)-1].Message; !strings.HasSuffix(last, "… (and 150 more problems) [RequestId: u-1]") {
		t.Errorf("last cause %q", last)
	}
	for _, c := range causes {
		if !json.Valid([]byte(fmt.Sprintf("%q", c.Message))) || strings.ContainsRune(c.Message+c.Field, '\uFFFD') {
			t.Errorf("cut inside a character: %q", c.Message)
		}
	}
	if n := strings.Count(resp.Result.Message, "\n"); n != maxListed+1 {
		t.Errorf("the message has %d further lines, want %d", n, maxListed+1)
	}
	data, err := json.Marshal(resp.Result)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > 64<<10 {
		t.Errorf("the status has %d bytes", len(data))
	}
}

func internalErrorDetails(retryAfter int32) *metav1.StatusDetails {
	return &metav1.StatusDetails{
		Name: "job", Group: "batchcompute.dev", Kind: "BatchJob", RetryAfterSeconds: retryAfter,
		Causes: []metav1.StatusCause{{Type: "InternalError", Message: "InternalError: " + notChecked + " [RequestId: u-1]"}},
	}
}

func TestUndecided(t *testing.T) {
	broken := request(admissionv1.Create)
	broken.Object.Raw = []byte(`{"spec":{"clientToken":7,"x":"` + secret + `"}}`)
	brokenOld := request(admissionv1.Update)
	brokenOld.OldObject.Raw = nil
	tests := map[string]struct {
		rules rules
		req   admission.Request
	}{
		"a rule panics":   {rules{create: func(*v1alpha1.BatchJob) []validation.Problem { panic(secret) }}, request(admissionv1.Create)},
		"no BatchJob":     {rules{create: accept}, broken},
		"no old BatchJob": {rules{create: accept}, brokenOld},
		"a deletion":      {rules{create: accept}, request(admissionv1.Delete)},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			resp, lines := handle(t, tc.rules, tc.req)
			want := &metav1.Status{
				Status: metav1.StatusFailure, Code: 500, Reason: metav1.StatusReasonInternalError,
				Message: "InternalError: " + notChecked + " [RequestId: u-1]",
				Details: internalErrorDetails(0),
			}
			if diff := cmp.Diff(want, resp.Result); diff != "" || resp.Allowed {
				t.Errorf("allowed %v, status (-want +got):\n%s", resp.Allowed, diff)
			}
			if len(lines) != 1 || !strings.Contains(lines[0], `"requestID"="u-1"`) {
				t.Errorf("logged %q, want one line with the RequestId", lines)
			}
		})
	}
}

// TestCluster has the answers that depend on more than the request.
func TestCluster(t *testing.T) {
	held := &v1alpha1.BatchJob{}
	held.Name = "first"
	equal, err := decode[v1alpha1.BatchJob](request(admissionv1.Create).Object)
	if err != nil {
		t.Fatal(err)
	}
	equal.Name, equal.Spec.Suspend, equal.Spec.RetryToken = "first", true, "steering is no part of the request"
	differs := func(_, _ *v1alpha1.BatchJob) []validation.Problem {
		return []validation.Problem{{Field: taskName}, {Field: namespaceField}}
	}
	same := func(_, _ *v1alpha1.BatchJob) []validation.Problem { return nil }
	bad := func(*v1alpha1.BatchJob) []validation.Problem {
		return []validation.Problem{{Code: errcode.TaskName, Field: taskName, Detail: "must be unique"}}
	}
	dryRun := request(admissionv1.Create)
	dryRun.DryRun = ptr(true)
	unnamed := request(admissionv1.Create)
	unnamed.Name = ""
	tests := map[string]struct {
		cluster      cluster
		rules        rules
		req          admission.Request
		want         []string // causes, "CODE field: message"
		wantWarnings []string
		wantReserved []string
		wantLooked   []string
	}{
		"all is well": {rules: rules{create: accept}, req: request(admissionv1.Create), wantReserved: []string{"ns/job"}},
		"a dry run is not counted": {
			rules: rules{create: accept}, req: dryRun, wantLooked: []string{"ns/job"},
		},
		"a name that the server did not tell": {rules: rules{create: accept}, req: unnamed, wantReserved: []string{"ns/u-1"}},
		"a caller who may not submit learns nothing else": {
			cluster: cluster{forbidden: true, holding: held, quotaSays: answer{refusal: "full"}},
			rules:   rules{create: bad, update: differs}, req: request(admissionv1.Create),
			want: []string{`UnauthorizedOperation.UserNotAllowedToUseBatch metadata.namespace: user "alice" may not submit in namespace "ns": grant the verb submit ` +
				`on batchjobs.batchcompute.dev there; the cluster roles edit and admin include it`},
		},
		"an update asks nobody": {
			cluster: cluster{forbidden: true, notSynced: true, holding: held, quotaSays: answer{refusal: "full"}},
			rules:   rules{update: same}, req: request(admissionv1.Update),
		},
		"a full namespace": {
			cluster: cluster{quotaSays: answer{refusal: "must be emptier"}},
			rules:   rules{create: accept}, req: request(admissionv1.Create),
			want: []string{"LimitExceeded.JobQuota metadata.namespace: must be emptier"}, wantReserved: []string{"ns/job"},
		},
		"all problems at once, and what is refused is not counted": {
			cluster: cluster{holding: held, quotaSays: answer{refusal: "must be emptier"}},
			rules:   rules{create: bad, update: differs}, req: request(admissionv1.Create),
			want: []string{
				"InvalidParameter.TaskName spec.job.tasks[1].taskName: must be unique",
				`InvalidParameterValue spec.clientToken: must be new for each different request: BatchJob "first" has this clientToken and another request ` +
					"(first difference: spec.job.tasks[1].taskName)",
				"LimitExceeded.JobQuota metadata.namespace: must be emptier",
			},
			wantLooked: []string{"ns/job"},
		},
		"the same request under another name": {
			cluster: cluster{holding: equal}, rules: rules{create: accept}, req: request(admissionv1.Create),
			wantReserved: []string{"ns/job"},
		},
		"what the namespace has is told to the rules": {
			cluster: cluster{envState: validation.EnvDeleting}, rules: rules{create: accept}, req: request(admissionv1.Create),
			want: []string{"ResourceNotFound.ComputeEnv spec.job.tasks[1].taskName: must stay"}, wantLooked: []string{"ns/job"},
		},
		"a warning": {
			cluster: cluster{quotaSays: answer{warning: []string{"no number"}}},
			rules:   rules{create: accept, warnings: []string{"no effect"}}, req: request(admissionv1.Create),
			wantWarnings: []string{"no effect", "no number"}, wantReserved: []string{"ns/job"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			resp, _ := handleIn(t, &tc.cluster, tc.rules, tc.req)
			var got []string
			if resp.Result.Details != nil {
				for _, c := range resp.Result.Details.Causes {
					text, _ := strings.CutSuffix(strings.TrimPrefix(c.Message, string(c.Type)+": "), requestID(tc.req))
					got = append(got, string(c.Type)+" "+c.Field+": "+text)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" || resp.Allowed != (len(tc.want) == 0) {
				t.Errorf("allowed %v, causes (-want +got):\n%s", resp.Allowed, diff)
			}
			for what, diff := range map[string]string{
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

func ptr[T any](v T) *T { return &v }

// TestTryAgain has the failures that a client should try again after.
func TestTryAgain(t *testing.T) {
	for name, c := range map[string]cluster{
		"the access review fails": {accessErr: errors.New("down")},
		"the cache is not there":  {notSynced: true},
		"the index is not there":  {holderErr: errors.New("no index")},
		"ComputeEnvs unreadable":  {envErr: errors.New("down")},
		"no turn in time":         {quotaErr: errBusy},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				resp, lines := handleIn(t, &c, rules{create: accept}, request(admissionv1.Create))
				want := &metav1.Status{
					Status: metav1.StatusFailure, Code: 500, Reason: metav1.StatusReasonInternalError,
					Message: "InternalError: " + notChecked + " [RequestId: u-1]",
					Details: internalErrorDetails(1),
				}
				if diff := cmp.Diff(want, resp.Result); diff != "" || resp.Allowed {
					t.Errorf("allowed %v, status (-want +got):\n%s", resp.Allowed, diff)
				}
				if len(lines) != 1 || !strings.Contains(lines[0], `"requestID"="u-1"`) {
					t.Errorf("logged %q, want one line with the RequestId", lines)
				}
			})
		})
	}
}
