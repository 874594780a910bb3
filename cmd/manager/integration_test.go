// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	admissionregv1 "k8s.io/api/admissionregistration/v1"
	authnv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	certutil "k8s.io/client-go/util/cert"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
)

// good is a manifest that is accepted; bad has three problems.
const (
	good = `{apiVersion: batchcompute.dev/v1alpha1, kind: BatchJob, metadata: {name: good, namespace: default},
  spec: {placement: {zone: z-1}, job: {tasks: [{taskName: a, computeEnv: {}, application: {deliveryForm: LOCAL, command: "true"}}]}}}`
	bad = `{apiVersion: batchcompute.dev/v1alpha1, kind: BatchJob, metadata: {name: bad, namespace: default},
  spec: {placement: {zone: z-1}, job: {
    tasks: [{taskName: a, taskInstanceNum: -1, computeEnv: {}, application: {deliveryForm: LOCAL, command: "true"}},
            {taskName: b, computeEnv: {}, application: {deliveryForm: LOCAL, command: "true"}}],
    dependences: [{startTask: a, endTask: nowhere}, {startTask: a, endTask: b}, {startTask: b, endTask: a}]}}}`
)

// TestManager runs the real manager as its own service account against a real API
// server. The parts share both and run in their order.
func TestManager(t *testing.T) {
	c := startCluster(t)
	t.Run("overlays", c.testOverlays)
	t.Run("certificates of another", c.testCertDir)
	p := c.startManager(t)

	t.Run("bad manifest", c.testBadManifest)
	t.Run("kubectl shows a line for each problem", c.testKubectlOutput)
	t.Run("good manifest", c.testGoodManifest)
	t.Run("samples of the pages", c.testPageSamples)
	t.Run("spec changes are asked about", c.testSpecChange)
	t.Run("metrics", func(t *testing.T) { c.testMetrics(t, p) })
	t.Run("a bundle that was reset is put back", c.testBundleReset)
	t.Run("a deleted secret is created again", func(t *testing.T) { c.testSecretDeleted(t, p) })
	t.Run("idle memory", func(t *testing.T) { testMemory(t, p) })
	t.Run("log", func(t *testing.T) { testLog(t, p) })
	t.Run("lease is released at the end", func(t *testing.T) { c.testLease(t, p) })
	t.Run("without a manager", c.testWebhookDown)
	t.Run("the largest job", c.testLargeJob)
	t.Run("two replicas", c.testReplicas)
}

// testOverlays builds what users apply; all but cert-manager's and Prometheus's own kinds
// must be what the API server knows, to the field.
func (c *cluster) testOverlays(t *testing.T) {
	for _, dir := range []string{"crd", "default", "default-certmanager", "host", "rbac", "webhook"} {
		out, err := c.run(t, "", "kustomize", "../../config/"+dir)
		if err != nil {
			t.Errorf("config/%s: %s", dir, out)
		}
		if dir != "default" {
			continue
		}
		if !strings.Contains(out, "name: "+catalogName+"\n") {
			t.Errorf("the ConfigMap of the catalogue is not %s, which the manager follows", catalogName)
		}
		out, err = c.run(t, out, "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-")
		if err != nil || strings.Contains(out, "Warning") {
			t.Errorf("config/%s: %v\n%s", dir, err, out)
		}
	}
}

// TestNetworkPolicy builds config/default with the NetworkPolicy, and has the API server look at it.
func TestNetworkPolicy(t *testing.T) {
	c := startCluster(t)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	config, err := filepath.Abs("../../config")
	must(t, err)
	config, err = filepath.Rel(dir, config) // kustomize takes no absolute paths
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "kustomization.yaml"),
		fmt.Appendf(nil, "resources: [%[1]s/default]\ncomponents: [%[1]s/network-policy]\n", config), 0o600))
	out, err := c.run(t, "", "kustomize", dir)
	if err != nil || !strings.Contains(out, "kind: NetworkPolicy") {
		t.Fatalf("%v: %s", err, out)
	}
	out, err = c.run(t, out, "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-")
	if err != nil || strings.Contains(out, "Warning") {
		t.Errorf("%v\n%s", err, out)
	}
}

// testCertDir plays cert-manager: it makes the files and, later, the bundle. The manager
// is ready when both fit, and writes neither bundle nor Secret.
func (c *cluster) testCertDir(t *testing.T) {
	host := serviceName + "." + defaultNamespace + ".svc"
	cert, key, err := certutil.GenerateSelfSignedCertKey(host, nil, nil)
	must(t, err)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "tls.crt"), cert, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "tls.key"), key, 0o600))
	p := c.launch(t, "--webhook-bind-address", freeAddr(t), "--webhook-cert-dir", dir, "--leader-elect=false")
	eventually(t, func() error {
		if err := p.ready(); err == nil || !strings.Contains(err.Error(), "500") {
			return fmt.Errorf("without a bundle: %w", err)
		}
		return nil
	})
	c.setBundles(t, cert)
	eventually(t, p.ready)
	if got := c.bundles(t); !bytes.Equal(got, slices.Concat(cert, []byte("|"), cert)) {
		t.Error("the manager changed a bundle that is not its own")
	}
	err = c.Get(t.Context(), client.ObjectKey{Namespace: defaultNamespace, Name: secretName}, &corev1.Secret{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("the manager made a Secret: %v", err)
	}
	p.stop(t)
}

func (c *cluster) testBadManifest(t *testing.T) {
	err := c.Create(t.Context(), parse(t, bad))
	status := apierrors.APIStatus(nil)
	if !errors.As(err, &status) {
		t.Fatalf("error %v", err)
	}
	s := status.Status()
	if s.Code != http.StatusUnprocessableEntity || s.Reason != metav1.StatusReasonInvalid {
		t.Errorf("status %d %s", s.Code, s.Reason)
	}
	if d := s.Details; d == nil || d.Kind != "BatchJob" || d.Group != "batchcompute.dev" || d.Name != "bad" {
		t.Fatalf("details %+v", s.Details)
	}
	want := map[metav1.CauseType]string{
		"InvalidParameterValue.Negative":                   "spec.job.tasks[0].taskInstanceNum",
		"InvalidParameterValue.DependenceNotFoundTaskName": "spec.job.dependences[0].endTask",
	}
	for _, cause := range s.Details.Causes {
		if want[cause.Type] == cause.Field {
			delete(want, cause.Type)
		}
	}
	if len(want) > 0 {
		t.Errorf("no causes %v in %+v", want, s.Details.Causes)
	}
	if !strings.Contains(s.Message, "InvalidParameterValue.Negative: spec.job.tasks[0].taskInstanceNum: ") || !strings.Contains(s.Message, "[RequestId: ") {
		t.Errorf("message %q", s.Message)
	}
	err = c.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: "bad"}, &v1alpha1.BatchJob{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("the bad job is stored: %v", err)
	}
}

func (c *cluster) testKubectlOutput(t *testing.T) {
	for _, args := range [][]string{{"apply", "-f", "-"}, {"apply", "--server-side", "-f", "-"}, {"create", "-f", "-"}} {
		out, err := c.run(t, bad, args...)
		t.Logf("kubectl %s\n%s", strings.Join(args, " "), out)
		if err == nil {
			t.Error("kubectl ended with 0")
		}
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if lines[0] != `The BatchJob "bad" is invalid: ` {
			t.Errorf("first line %q", lines[0])
		}
		if len(lines) < 3 {
			t.Fatal("not a line for each problem")
		}
		for _, l := range lines[1:] {
			if !strings.HasPrefix(l, "* spec.") || !strings.Contains(l, ": InvalidParameter") {
				t.Errorf("line %q has not both path and code", l)
			}
		}
		if !strings.Contains(lines[len(lines)-1], "[RequestId: ") {
			t.Errorf("last line %q has no RequestId", lines[len(lines)-1])
		}
	}
}

func (c *cluster) testGoodManifest(t *testing.T) {
	must(t, c.Create(t.Context(), pool("while-down", 1))) // for the test without a manager
	out, err := c.run(t, good, "apply", "-f", "-")
	if err != nil || !strings.Contains(out, "batchjob.batchcompute.dev/good created") {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err = c.run(t, good, "apply", "-f", "-"); err != nil || !strings.Contains(out, "unchanged") {
		t.Errorf("second apply: %v: %s", err, out)
	}
}

func (c *cluster) testSpecChange(t *testing.T) {
	job := c.get(t, "good")
	job.Spec.Placement.Zone = "z-2"
	if err := c.Update(t.Context(), job); !apierrors.IsInvalid(err) {
		t.Errorf("a change of the spec got past: %v", err)
	}
}

func (c *cluster) testMetrics(t *testing.T, p *process) {
	token := func(name string) string {
		sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
		must(t, c.Create(t.Context(), sa))
		tr := &authnv1.TokenRequest{}
		must(t, c.SubResource("token").Create(t.Context(), sa, tr))
		return tr.Status.Token
	}
	must(t, c.Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "scraper"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "batchcompute-metrics-reader"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "default", Name: "scraper"}},
	}))
	hc := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for name, tc := range map[string]struct {
		token string
		want  int
	}{
		"no token":    {"", http.StatusUnauthorized},
		"wrong token": {"x", http.StatusUnauthorized},
		"no right":    {token("nobody"), http.StatusForbidden},
		"scraper":     {token("scraper"), http.StatusOK},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+p.metrics+"/metrics", nil)
		must(t, err)
		if tc.token != "" {
			req.Header.Set("Authorization", "Bearer "+tc.token)
		}
		eventually(t, func() error { // the binding reaches the authorizer through a watch
			resp, err := hc.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if resp.StatusCode != tc.want {
				return fmt.Errorf("%s: status %d, want %d", name, resp.StatusCode, tc.want)
			}
			return nil
		})
	}
}

func (c *cluster) testBundleReset(t *testing.T) {
	want := c.bundles(t)
	c.setBundles(t, nil)
	eventually(t, func() error {
		if got := c.bundles(t); !bytes.Equal(got, want) {
			return fmt.Errorf("the bundles have %d bytes, want %d", len(got), len(want))
		}
		return nil
	})
}

func (c *cluster) testSecretDeleted(t *testing.T, p *process) {
	_, old := c.configurations(t)
	oldBundle := old.Webhooks[0].ClientConfig.CABundle
	must(t, c.Delete(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: defaultNamespace, Name: secretName}}))
	eventually(t, func() error {
		if bytes.Contains(c.bundles(t), oldBundle) {
			return errors.New("a bundle is the old one")
		}
		return p.ready()
	})
	eventually(t, func() error { // the API server hears of the bundle through a watch
		if err := c.Create(t.Context(), parse(t, bad)); !apierrors.IsInvalid(err) {
			return fmt.Errorf("the webhook does not answer: %w", err)
		}
		return nil
	})
}

// testMemory prints what the manager takes, and holds it to its budget of 60 MiB; the
// program under test carries the testing packages too.
func testMemory(t *testing.T, p *process) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Skip("no /proc here:", err)
	}
	_, rest, _ := strings.Cut(string(data), "VmRSS:")
	var kib int
	_, err = fmt.Sscan(rest, &kib)
	must(t, err)
	t.Logf("resident: %d MiB", kib/1024)
	if kib > 70*1024 && !raceDetector { // which takes as much again
		t.Errorf("the manager takes %d MiB", kib/1024)
	}
}

// testLog looks at the log as programs do: each line is an object, a refusal is logged
// once with its RequestId, and the spec never is.
func testLog(t *testing.T, p *process) {
	refused := 0
	for line := range strings.Lines(p.log.String()) {
		var entry struct{ Level, Msg, RequestID, Code string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Errorf("not JSON: %q", line)
		}
		if entry.Level == "error" {
			t.Errorf("an error: %s", line)
		}
		if entry.Msg == "Refused a request" {
			refused++
			if entry.RequestID == "" || entry.Code == "" {
				t.Errorf("no RequestId or no code: %s", line)
			}
		}
		if strings.Contains(line, "deliveryForm") {
			t.Errorf("a part of the spec: %s", line)
		}
	}
	if refused < 4 {
		t.Errorf("%d refusals, want one for each request", refused)
	}
}

func (c *cluster) testLease(t *testing.T, p *process) {
	lease := func() *coordinationv1.Lease {
		l := &coordinationv1.Lease{}
		must(t, c.Get(t.Context(), client.ObjectKey{Namespace: defaultNamespace, Name: leaseName}, l))
		return l
	}
	if l := lease(); l.Spec.HolderIdentity == nil || *l.Spec.HolderIdentity == "" {
		t.Error("nobody holds the lease")
	}
	p.stop(t) // fails if the manager does not end within its shutdown time-out
	if l := lease(); l.Spec.HolderIdentity != nil && *l.Spec.HolderIdentity != "" {
		t.Errorf("%q still holds the lease", *l.Spec.HolderIdentity)
	}
}

// testWebhookDown shows what works, and what does not, while no manager runs.
func (c *cluster) testWebhookDown(t *testing.T) {
	ctx := t.Context()
	job := c.get(t, "good")
	job.Status.Message = "a status"
	if err := c.Status().Update(ctx, job); err != nil {
		t.Error("a status update needs the webhook:", err)
	}
	job.Labels = map[string]string{"a": "b"}
	job.Finalizers = append(job.Finalizers, "example.com/hold")
	if err := c.Update(ctx, job); err != nil {
		t.Error("a metadata update needs the webhook:", err)
	}
	job.Finalizers = nil
	if err := c.Update(ctx, job); err != nil {
		t.Error("taking a finalizer off needs the webhook:", err)
	}
	changed := job.DeepCopy()
	changed.Spec.Placement.Zone = "z-2"
	if err := c.Update(ctx, changed); !isWebhookDown(err, "batchjob.batchcompute.dev") {
		t.Errorf("a change of the spec does not need the webhook: %v", err)
	}
	if err := c.Create(ctx, parse(t, strings.Replace(good, "name: good", "name: other", 1))); !isWebhookDown(err, "batchjob.batchcompute.dev") {
		t.Errorf("a creation does not need the webhook: %v", err)
	}
	named := parse(t, good)
	named.Name, named.GenerateName, named.Spec.ClientToken = "", "token-", "t"
	if err := c.Create(ctx, named); !isWebhookDown(err, "batchjob-name.batchcompute.dev") {
		t.Errorf("a creation with a token does not need the webhook that names it: %v", err)
	}
	named.Spec.ClientToken = ""
	if err := c.Create(ctx, named); !isWebhookDown(err, "batchjob.batchcompute.dev") {
		t.Errorf("a creation without a token goes to the webhook that names jobs: %v", err)
	}
	if err := c.Delete(ctx, job); err != nil {
		t.Error("a deletion needs the webhook:", err)
	}
	env := &v1alpha1.ComputeEnv{}
	must(t, c.Get(ctx, client.ObjectKey{Namespace: "default", Name: "while-down"}, env))
	env.Status.EnvID = "env-00000000"
	if err := c.Status().Update(ctx, env); err != nil {
		t.Error("a status update of a ComputeEnv needs the webhook:", err)
	}
	env.Labels = map[string]string{"a": "b"}
	if err := c.Update(ctx, env); err != nil {
		t.Error("a metadata update of a ComputeEnv needs the webhook:", err)
	}
	other := env.DeepCopy()
	*other.Spec.DesiredComputeNodeCount++
	if err := c.Update(ctx, other); !isWebhookDown(err, "computeenv.batchcompute.dev") {
		t.Errorf("a change of a ComputeEnv's spec does not need the webhook: %v", err)
	}
	if err := c.Create(ctx, pool("another", 1)); !isWebhookDown(err, "computeenv.batchcompute.dev") {
		t.Errorf("a creation of a ComputeEnv does not need the webhook: %v", err)
	}
	if err := c.Delete(ctx, env); err != nil {
		t.Error("a deletion of a ComputeEnv needs the webhook:", err)
	}
	eventually(t, func() error {
		if err := c.Get(ctx, client.ObjectKeyFromObject(job), &v1alpha1.BatchJob{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("the job is still there: %w", err)
		}
		return nil
	})
}

// pool is a ComputeEnv of the namespace default.
func pool(name string, nodes int64) *v1alpha1.ComputeEnv {
	return &v1alpha1.ComputeEnv{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: v1alpha1.ComputeEnvSpec{
			Placement: v1alpha1.Placement{Zone: "z-1"}, EnvName: name, DesiredComputeNodeCount: &nodes,
		},
	}
}

func isWebhookDown(err error, name string) bool {
	return err != nil && strings.Contains(err.Error(), fmt.Sprintf("failed calling webhook %q", name))
}

// testLargeJob shows that the webhook's match condition can afford the largest spec.
func (c *cluster) testLargeJob(t *testing.T) {
	p := c.startManager(t)
	job := parse(t, good)
	job.Name = "large"
	task := job.Spec.Job.Tasks[0]
	task.Application.Command = strings.Repeat("x", 80)
	job.Spec.Job.Tasks = nil
	for i := range v1alpha1.MaxTasks {
		task.TaskName = fmt.Sprintf("t%d", i)
		job.Spec.Job.Tasks = append(job.Spec.Job.Tasks, *task.DeepCopy())
	}
	begin := time.Now()
	must(t, c.Create(t.Context(), job))
	t.Logf("created in %s", time.Since(begin))
	p.stop(t)
	job.Labels = map[string]string{"a": "b"}
	begin = time.Now()
	must(t, c.Update(t.Context(), job))
	t.Logf("labelled in %s, with the webhook down", time.Since(begin))
}

// testReplicas starts two managers at once: both become ready, under one certificate,
// and when the leader goes, the other leads at once.
func (c *cluster) testReplicas(t *testing.T) {
	a := c.startManager(t)
	b := c.startManager(t, "--webhook-url", "https://"+a.webhook)
	must(t, a.ready())
	must(t, b.ready())
	if !bytes.Equal(served(t, a.webhook), served(t, b.webhook)) {
		t.Error("the replicas serve different certificates")
	}
	a.stop(t)
	eventually(t, func() error {
		l := &coordinationv1.Lease{}
		must(t, c.Get(t.Context(), client.ObjectKey{Namespace: defaultNamespace, Name: leaseName}, l))
		if l.Spec.HolderIdentity == nil || *l.Spec.HolderIdentity == "" {
			return errors.New("nobody leads")
		}
		return nil
	})
}

// served is the certificate that an address serves.
func served(t *testing.T, addr string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(ctx, "tcp", addr)
	must(t, err)
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw
}

func (c *cluster) get(t *testing.T, name string) *v1alpha1.BatchJob {
	t.Helper()
	job := &v1alpha1.BatchJob{}
	must(t, c.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: name}, job))
	return job
}

// configurations are the two webhook configurations.
func (c *cluster) configurations(t *testing.T) (*admissionregv1.MutatingWebhookConfiguration, *admissionregv1.ValidatingWebhookConfiguration) {
	t.Helper()
	m, v := &admissionregv1.MutatingWebhookConfiguration{}, &admissionregv1.ValidatingWebhookConfiguration{}
	must(t, c.Get(t.Context(), client.ObjectKey{Name: mutatingName}, m))
	must(t, c.Get(t.Context(), client.ObjectKey{Name: validatingName}, v))
	return m, v
}

// bundles are what the API server trusts, one after the other; those of the webhooks of a
// configuration are the same.
func (c *cluster) bundles(t *testing.T) []byte {
	t.Helper()
	m, v := c.configurations(t)
	for i := range v.Webhooks {
		if !bytes.Equal(v.Webhooks[i].ClientConfig.CABundle, v.Webhooks[0].ClientConfig.CABundle) {
			return fmt.Appendf(nil, "webhook %d has a bundle of its own", i)
		}
	}
	for i := range m.Webhooks {
		if !bytes.Equal(m.Webhooks[i].ClientConfig.CABundle, m.Webhooks[0].ClientConfig.CABundle) {
			return fmt.Appendf(nil, "mutating webhook %d has a bundle of its own", i)
		}
	}
	return slices.Concat(m.Webhooks[0].ClientConfig.CABundle, []byte("|"), v.Webhooks[0].ClientConfig.CABundle)
}

func (c *cluster) setBundles(t *testing.T, bundle []byte) {
	t.Helper()
	m, v := c.configurations(t)
	for i := range m.Webhooks {
		m.Webhooks[i].ClientConfig.CABundle = bundle
	}
	for i := range v.Webhooks {
		v.Webhooks[i].ClientConfig.CABundle = bundle
	}
	must(t, c.Update(t.Context(), m))
	must(t, c.Update(t.Context(), v))
}
