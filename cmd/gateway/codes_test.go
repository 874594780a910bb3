// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/gateway/actions"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/testutil/sdkcall"
)

var update = flag.Bool("update", false, "write docs/gateway-codes.md")

const codesPage = "../../docs/gateway-codes.md"

// TestCodesAreComplete: each code of the vendor's actions is provoked once, or has a reason why it cannot occur.
func TestCodesAreComplete(t *testing.T) {
	all := codeCases()
	for _, action := range actions.Names() {
		cases := map[string]int{}
		for _, c := range all[action] {
			cases[c.code]++
			if (c.cannot == "") == (c.body == "") {
				t.Errorf("%s, %s: must have either a request or a reason", action, c.code)
			}
		}
		if len(cases) == 0 {
			t.Errorf("%s has no codes", action)
		}
		for code, n := range cases {
			if n > 1 {
				t.Errorf("%s has %s %d times", action, code, n)
			}
		}
		for _, code := range strings.Fields(vendorCodes[action]) {
			if cases[code] == 0 {
				t.Errorf("%s: %s is neither provoked nor has it a reason why it cannot occur", action, code)
			}
		}
	}
	for _, action := range slices.Concat(slices.Collect(maps.Keys(all)), slices.Collect(maps.Keys(vendorCodes))) {
		if !slices.Contains(actions.Names(), action) {
			t.Errorf("there is no action %s", action)
		}
	}
}

// TestGatewayTable: each code about an action that only the gateway has is provoked for one.
func TestGatewayTable(t *testing.T) {
	provoked := map[string]bool{}
	for _, cases := range codeCases() {
		for _, c := range cases {
			provoked[c.code] = provoked[c.code] || c.cannot == ""
		}
	}
	for _, e := range errcode.GatewayTable() {
		if e.Actions != "all" && !provoked[string(e.Code)] {
			t.Errorf("%s: no action answers it", e.Code)
		}
	}
}

// TestCodesPage: the page says what the cases say.
// To write it: go test ./cmd/gateway -run TestCodesPage -update
func TestCodesPage(t *testing.T) {
	var b bytes.Buffer
	b.WriteString(`<!-- Written by "go test ./cmd/gateway -run TestCodesPage -update" from the cases of TestCodes. Do not edit. -->

# Codes of the gateway's actions

The business error codes that the vendor documents for each action, and a few more that the gateway answers. For each there is a request that provokes it, which a test sends with the vendor's Go SDK,
or the reason why no request is answered with it. Only what matters of a request is shown; a name in braces stands for an identifier. What a code means, and what to do about it, is in
[error-codes.md](error-codes.md), with the codes that any action can answer: those about signatures and limits, ` + "`MissingParameter`, `InvalidParameter`, `UnknownParameter` and `UnauthorizedOperation`" + `.
A code that is not in the vendor's list of the action is marked with *.
`)
	all := codeCases()
	for _, action := range actions.Names() {
		fmt.Fprintf(&b, "\n## %s\n\n| code | provoked by, or why it cannot occur |\n|---|---|\n", action)
		slices.SortFunc(all[action], func(a, b codeCase) int { return cmp.Compare(a.code, b.code) })
		for _, c := range all[action] {
			mark := " \\*"
			if slices.Contains(strings.Fields(vendorCodes[action]), c.code) {
				mark = ""
			}
			fmt.Fprintf(&b, "| %s%s | %s |\n", c.code, mark, c.cell())
		}
	}
	if *update {
		must(t, os.WriteFile(codesPage, b.Bytes(), 0o600))
		return
	}
	got, err := os.ReadFile(codesPage)
	must(t, err)
	if !bytes.Equal(got, b.Bytes()) {
		t.Errorf("%s is not what the cases say; run: go test ./cmd/gateway -run TestCodesPage -update", codesPage)
	}
}

var (
	longText = regexp.MustCompile(`x{20,}`)
	longList = regexp.MustCompile(`(\{[^{}]*\}, )(\{[^{}]*\}, ){5,}`)
)

// cell is what the page says of a case.
func (c codeCase) cell() string {
	if c.cannot != "" {
		return "cannot occur: " + c.cannot
	}
	shown := c.shown
	if shown == "" {
		shown = c.body
	}
	shown = longText.ReplaceAllStringFunc(shown, func(s string) string { return fmt.Sprintf("<%d characters>", len(s)) })
	shown = longList.ReplaceAllStringFunc(shown, func(s string) string {
		return s[:strings.Index(s, "}")+1] + fmt.Sprintf(", <%d more>, ", strings.Count(s, "{")-1)
	})
	if strings.ContainsAny(shown, `"{`) {
		shown = "`" + shown + "`"
	}
	if c.given != nothing {
		shown += ", when " + string(c.given)
	}
	return strings.ReplaceAll(shown, "|", `\|`)
}

// nodeInZ is a node in the zone of all requests.
const nodeInZ = "node-in-z"

// TestCodes provokes each code of each action that can occur, with the vendor's SDK, unmodified.
func TestCodes(t *testing.T) {
	c := startCluster(t, "--unknown-zones=reject")
	must(t, c.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeInZ, Labels: map[string]string{corev1.LabelTopologyZone: "z"}}}))
	plain := append([]string{"--tls-cert-dir="}, noLimits...)
	proxy := c.startFailing(t)
	r, behind := c.startGateway(t, plain...), c.startGatewayAt(t, proxy.kubeconfig, plain...)
	s := &codeCaller{t: t, c: c, sdk: sdkcall.Start(t, sdkcall.V162), keys: map[given]*caller{}}
	for _, replica := range []*replica{r, behind} {
		replica.url = strings.Replace(replica.url, "https", "http", 1)
	}
	s.keys[nothing] = c.newCaller(t, r)
	for _, g := range []given{noManager, noMetrics, strictZones} {
		s.keys[g] = s.keys[nothing]
	}
	s.keys[noAPIServer] = c.newCaller(t, behind)
	s.keys[oneEach] = s.newFull(r)
	s.keys[noSubmit] = s.newReader(r)
	places := s.newPlaces()
	proxy.failing.Store(true)
	eventually(t, func() error { // what the caller may read is known for a while
		if code, _ := s.ask(noAPIServer, "DescribeJobs", "{}", false); code != "InternalError" {
			return fmt.Errorf("%q, want InternalError", code)
		}
		return nil
	})
	all := codeCases()
	run := func(g given) {
		for _, action := range actions.Names() {
			for _, tc := range all[action] {
				if tc.cannot == "" && (tc.given == g || g == nothing && tc.given != noManager) {
					s.provoke(action, tc, places)
				}
			}
		}
	}
	run(nothing)
	places["{submitted job}"] = s.withoutManager()
	run(noManager)
}

// codeCaller provokes codes.
type codeCaller struct {
	t    *testing.T
	c    *cluster
	sdk  *sdkcall.SDK
	keys map[given]*caller
}

// ask sends a request with the SDK and returns the code, "" for success, and the message.
func (s *codeCaller) ask(g given, action, body string, raw bool) (code, message string) {
	s.t.Helper()
	d := s.keys[g]
	answer, err := s.sdk.Do(sdkcall.Call{
		Endpoint: strings.TrimPrefix(d.to.url, "http://"), SecretID: d.SecretID, SecretKey: d.SecretKey, Region: "ap-guangzhou",
		SignMethod: sdkcall.TC3, Method: http.MethodPost, Action: action, Params: []byte(body), Raw: raw,
	})
	must(s.t, err)
	return answer.Code, answer.Message
}

// provoke sends the request of a case.
func (s *codeCaller) provoke(action string, tc codeCase, places map[string]string) {
	s.t.Helper()
	body := tc.body
	for name, value := range places {
		body = strings.ReplaceAll(body, name, value)
	}
	code, message := s.ask(tc.given, action, body, tc.raw)
	if code != tc.code {
		s.t.Errorf("%s %s: %q: %s, want %s", action, body, code, message, tc.code)
	}
	if strings.Contains(message, "spec.") || strings.Contains(message, "RequestId") {
		s.t.Errorf("%s, %s: the message is that of a manifest: %q", action, tc.code, message)
	}
}

// newPlaces makes what the requests name: a job that has not ended, environments that are free, used, being deleted and
// with many terminated nodes, a node that is being terminated, and a template.
func (s *codeCaller) newPlaces() map[string]string {
	d := s.keys[nothing]
	var job, usedJob struct{ JobID string }
	var template struct{ TaskTemplateID string }
	d.must("SubmitJob", ofJob("", "", "").body, &job)
	d.must("CreateTaskTemplate", `{"TaskTemplateName": "codes", "TaskTemplateInfo": {"TaskName": "a", `+application+`, `+inline+`}}`, &template)
	env, used, deleted, worn := s.newEnv(), s.newEnv(), s.newEnv(), s.newEnv()
	d.must("SubmitJob", ofJob("", "", `"EnvId": "`+naming.EnvID(used.UID)+`"`).body, &usedJob)
	s.change(deleted, func() { deleted.Finalizers = append(deleted.Finalizers, "example.com/kept") })
	must(s.t, s.c.Delete(s.t.Context(), deleted))
	gone := make([]string, 0, 4000)
	for i := range 4000 {
		gone = append(gone, fmt.Sprint(2*i))
	}
	s.change(worn, func() {
		worn.Annotations = map[string]string{v1alpha1.AnnotationTerminatedNodes: strings.Join(gone, ",")}
	})
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: d.namespace, Name: "terminating", Labels: map[string]string{v1alpha1.LabelEnvID: naming.EnvID(env.UID), v1alpha1.LabelTracked: "true"},
	}}
	pod.Spec.NodeName, pod.Spec.Containers = nodeInZ, []corev1.Container{{Name: "task", Image: "busybox"}}
	must(s.t, s.c.Create(s.t.Context(), pod))
	must(s.t, s.c.Delete(s.t.Context(), pod, client.GracePeriodSeconds(3600))) // no kubelet ends it
	s.await("DescribeJob", `{"JobId": "`+job.JobID+`"}`, `"JobState":"RUNNABLE"`)
	s.await("DescribeJob", `{"JobId": "`+usedJob.JobID+`"}`, `"JobState":"RUNNABLE"`)
	s.await("DescribeComputeEnv", `{"EnvId": "`+naming.EnvID(deleted.UID)+`"}`, `"NextAction":"DELETING"`)
	return map[string]string{
		"{job}": job.JobID, "{template}": template.TaskTemplateID, "{env}": naming.EnvID(env.UID), "{used env}": naming.EnvID(used.UID),
		"{deleted env}": naming.EnvID(deleted.UID), "{worn env}": naming.EnvID(worn.UID), "{free node of the worn env}": naming.NodeID(worn.UID, "1"),
		"{terminating node}": naming.NodeID(pod.UID),
	}
}

// await waits until an answer has a text.
func (s *codeCaller) await(action, body, want string) {
	s.t.Helper()
	eventually(s.t, func() error {
		var answer map[string]any
		s.keys[nothing].must(action, body, &answer)
		for name, value := range answer {
			if fmt.Sprintf("%q:%q", name, fmt.Sprint(value)) == want {
				return nil
			}
		}
		return fmt.Errorf("%v lacks %s", answer, want)
	})
}

// newEnv creates an environment and returns it as it is stored.
func (s *codeCaller) newEnv() *v1alpha1.ComputeEnv {
	s.t.Helper()
	var created struct{ EnvID string }
	s.keys[nothing].must("CreateComputeEnv", ofEnv("", `"EnvType": "MANAGED"`).body, &created)
	var list v1alpha1.ComputeEnvList
	must(s.t, s.c.List(s.t.Context(), &list, client.InNamespace(s.keys[nothing].namespace)))
	for i := range list.Items {
		if naming.EnvID(list.Items[i].UID) == created.EnvID {
			return &list.Items[i]
		}
	}
	s.t.Fatalf("environment %s is not stored", created.EnvID)
	return nil
}

// change stores a change of an environment, which the operator may be changing too.
func (s *codeCaller) change(env *v1alpha1.ComputeEnv, f func()) {
	s.t.Helper()
	eventually(s.t, func() error {
		if err := s.c.Get(s.t.Context(), client.ObjectKeyFromObject(env), env); err != nil {
			return err
		}
		f()
		return s.c.Update(s.t.Context(), env)
	})
}

// newFull makes a caller whose namespace has as many jobs, environments and templates as it may.
func (s *codeCaller) newFull(to *replica) *caller {
	d := s.c.newCaller(s.t, to)
	ns := &corev1.Namespace{}
	must(s.t, s.c.Get(s.t.Context(), client.ObjectKey{Name: d.namespace}, ns))
	ns.Annotations = map[string]string{v1alpha1.AnnotationJobQuota: "1", v1alpha1.AnnotationEnvQuota: "1", v1alpha1.AnnotationTemplateQuota: "1"}
	must(s.t, s.c.Update(s.t.Context(), ns))
	s.repeat(d, "SubmitJob", "LimitExceeded.JobQuota")
	s.repeat(d, "CreateComputeEnv", "LimitExceeded.ComputeEnvQuota")
	s.repeat(d, "CreateTaskTemplate", "LimitExceeded.TaskTemplateQuota")
	return d
}

// newReader makes a caller that has the rights of callers but the verb submit.
func (s *codeCaller) newReader(to *replica) *caller {
	d := s.c.newCaller(s.t, to)
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: "no-submit"}}
	role.Rules = []rbacv1.PolicyRule{{
		APIGroups: []string{v1alpha1.GroupVersion.Group}, Resources: []string{"batchjobs", "computeenvs", "tasktemplates"}, Verbs: []string{"create", "get", "list"},
	}}
	must(s.t, s.c.Create(s.t.Context(), role))
	binding := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: "no-submit"}}
	binding.RoleRef = rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role.Name}
	binding.Subjects = []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: d.namespace, Name: v1alpha1.DefaultAPIServiceAccount}}
	must(s.t, s.c.Create(s.t.Context(), binding))
	old := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: "batchcompute-client"}}
	must(s.t, s.c.Delete(s.t.Context(), old))
	for _, action := range []string{"SubmitJob", "CreateComputeEnv", "CreateTaskTemplate"} {
		s.repeat(d, action, "UnauthorizedOperation.UserNotAllowedToUseBatch")
	}
	return d
}

// repeat creates objects until that is refused with a code: the operator follows roles and annotations.
func (s *codeCaller) repeat(d *caller, action, code string) {
	s.t.Helper()
	body := ""
	for _, c := range codeCases()[action] {
		if c.code == code {
			body = c.body
		}
	}
	eventually(s.t, func() error {
		_, err := d.call(action, body, nil)
		var e *answerError
		if !errors.As(err, &e) || e.Code != code {
			return fmt.Errorf("%w, want %s", err, code)
		}
		return nil
	})
}

// withoutManager ends the manager and its webhooks, and submits a job, which stays SUBMITTED; it returns the JobId.
func (s *codeCaller) withoutManager() string {
	s.t.Helper()
	must(s.t, s.c.manager.Process.Signal(syscall.SIGTERM))
	must(s.t, s.c.manager.Wait())
	must(s.t, s.c.DeleteAllOf(s.t.Context(), &admissionv1.ValidatingWebhookConfiguration{}))
	must(s.t, s.c.DeleteAllOf(s.t.Context(), &admissionv1.MutatingWebhookConfiguration{}))
	var job struct{ JobID string }
	eventually(s.t, func() error { // the API server follows the configurations
		_, err := s.keys[nothing].call("SubmitJob", ofJob("", "", "").body, &job)
		return err
	})
	return job.JobID
}

// failingProxy stands between a gateway and the API server. It fails all requests from when it is told to.
type failingProxy struct {
	kubeconfig string
	failing    atomic.Bool
}

// startFailing starts a proxy that has the gateway's rights.
func (c *cluster) startFailing(t testing.TB) *failingProxy {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", c.gateway)
	must(t, err)
	transport, err := rest.TransportFor(config)
	must(t, err)
	target, err := url.Parse(config.Host)
	must(t, err)
	p := &failingProxy{}
	reverse := httputil.NewSingleHostReverseProxy(target)
	reverse.Transport, reverse.FlushInterval, reverse.ErrorLog = transport, -1, log.New(io.Discard, "", 0)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.failing.Load() {
			http.Error(w, "failing", http.StatusInternalServerError)
			return
		}
		reverse.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	p.kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	must(t, os.WriteFile(p.kubeconfig, kubeconfigOf(server.URL), 0o600))
	return p
}
