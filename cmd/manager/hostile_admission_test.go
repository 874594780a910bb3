// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
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

	admissionv1 "k8s.io/api/admission/v1"
	admissionregv1 "k8s.io/api/admissionregistration/v1"
	authnv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
)

// TestHostileAdmission attacks the admission of the real manager, through a real API server and
// past it.
func TestHostileAdmission(t *testing.T) {
	c := startCluster(t)
	catalog := filepath.Join(t.TempDir(), "catalog.yaml")
	must(t, os.WriteFile(catalog, []byte(`{apiVersion: config.batchcompute.dev/v1alpha1, kind: Catalog,
  policy: {serviceAccountNames: [default], tolerationKeys: [example.com/spot], allowRoot: false, allowHosts: false}}`), 0o600))
	p := c.startManager(t, "--metrics-secure=false", "--catalog", catalog)
	t.Run("a megabyte in each job", func(t *testing.T) { c.testMegabytes(t, p) })
	t.Run("forged reviews", c.testForgedReviews)
	t.Run("ComputeEnv of others", c.testEnvOfOthers)
	t.Run("policy", c.testPolicy)
}

// testPolicy asks for Pods that the cluster's policy forbids, as a job and as a ComputeEnv.
func (c *cluster) testPolicy(t *testing.T) {
	c.namespace(t, "policy", "")
	s := c.as(t, "", "policy")
	for options, field := range map[string]string{
		"{priorityClassName: system-node-critical}": "priorityClassName",
		"{serviceAccountName: admin}":               "serviceAccountName",
		"{tolerations: [{operator: Exists}]}":       "tolerations[0].key",
		"{securityContext: {runAsUser: 0}}":         "securityContext.runAsUser",
	} {
		for manifest, path := range map[string]string{
			strings.Replace(good, "computeEnv: {}", "computeEnv: {kubernetes: "+options+"}", 1):                         "spec.job.tasks[0].computeEnv.kubernetes.",
			strings.Replace(anEnv, "desiredComputeNodeCount: 2", "desiredComputeNodeCount: 2, kubernetes: "+options, 1): "spec.kubernetes.",
		} {
			_, err := s.create(t.Context(), manifest)
			if got := causes(err); !slices.Equal(got, []string{"UnauthorizedOperation " + path + field}) {
				t.Errorf("%s: %v", options, err)
			}
		}
	}
	_, err := s.create(t.Context(), strings.Replace(good, "zone: z-1", "zone: z-1, hostIds: [control-plane]", 1))
	t.Logf("a single host: %v", err)
	if got := causes(err); !slices.Equal(got, []string{"UnauthorizedOperation spec.placement.hostIds"}) {
		t.Errorf("a single host: %v", err)
	}
	allowed := "{serviceAccountName: default, tolerations: [{key: example.com/spot, operator: Exists}], priorityClassName: high}"
	_, err = s.create(t.Context(), strings.Replace(good, "computeEnv: {}", "computeEnv: {kubernetes: "+allowed+"}", 1))
	must(t, err)
}

// testMegabytes has one tenant store suspended jobs of 1 MiB until it is refused. Its limit is a quarter of
// the default, to save time.
func (c *cluster) testMegabytes(t *testing.T, p *process) {
	c.namespace(t, "megabytes", "")
	annotate := func(namespace, value string) {
		patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.AnnotationJobBytesQuota, value)
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
		must(t, c.Patch(t.Context(), ns, client.RawPatch(types.MergePatchType, []byte(patch))))
	}
	annotate("megabytes", "16Mi")
	s := c.as(t, "", "megabytes")
	task := map[string]any{
		"computeEnv": map[string]any{}, "application": map[string]any{"deliveryForm": "LOCAL", "command": strings.Repeat("c", 16<<10)},
	}
	var tasks []any
	for i := range 62 {
		task["taskName"] = fmt.Sprint("task-", i)
		tasks = append(tasks, runtime.DeepCopyJSON(task))
	}
	fat := func(name string) error {
		_, err := s.create(t.Context(), good, named(name), set(true, "spec", "suspend"), set(tasks, "spec", "job", "tasks"))
		return err
	}
	full := func(err error) bool { return refusedWith(err, errcode.JobQuota) }
	stored := 0
	var err error
	for ; err == nil && stored <= 1000; stored++ {
		err = fat(fmt.Sprint("fat-", stored))
	}
	stored--
	t.Logf("after %d jobs of 1 MiB: %v", stored, err)
	if !full(err) || stored < 12 || stored > 16 {
		t.Fatalf("%d jobs of 1 MiB within 16Mi: %v", stored, err)
	}
	for _, part := range []string{"including finished ones, take 15.", "this one takes up to 1.", "and the quota is 16.0 MiB", "raise the namespace's annotation batchcompute.dev/job-bytes-quota"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the sentence lacks %q", part)
		}
	}
	if n := c.count(t, "megabytes"); n != stored {
		t.Errorf("%d jobs are stored, want %d", n, stored)
	}
	t.Logf("resident set of the manager: %s bytes", p.metric(t, "process_resident_memory_bytes"))
	if err := fat("one-more"); !full(err) {
		t.Errorf("one more: %v", err)
	}
	// A small job of another tenant is admitted, and so is one here once the quota allows it.
	c.namespace(t, "neighbour", "")
	_, err = c.as(t, "", "neighbour").create(t.Context(), good)
	must(t, err)
	must(t, s.jobs.Delete(t.Context(), "fat-0", metav1.DeleteOptions{}))
	eventually(t, func() error { return fat("in-its-place") })
	if err := fat("one-more"); !full(err) {
		t.Errorf("one more again: %v", err)
	}
	annotate("megabytes", "18Mi")
	eventually(t, func() error { return fat("larger") })
	annotate("neighbour", "plenty")
	eventually(t, func() error {
		const want = `Warning: the namespace's annotation batchcompute.dev/job-bytes-quota must be a number of bytes such as 64Mi, got "plenty"; the default, 64.0 MiB, applies`
		manifest := strings.Replace(good, "name: good, namespace: default", "name: warned, namespace: neighbour", 1)
		if out, err := c.run(t, manifest, "create", "--dry-run=server", "-f", "-"); err != nil || !strings.Contains(out, want) {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	must(t, s.jobs.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}))
}

// forge sends an admission review about a BatchJob to the manager, as if the administrator
// created it, without the API server.
func (c *cluster) forge(t *testing.T, namespace, name string) (*admissionv1.AdmissionResponse, error) {
	t.Helper()
	_, v := c.configurations(t)
	i := slices.IndexFunc(v.Webhooks, func(w admissionregv1.ValidatingWebhook) bool { return w.Name == "batchjob.batchcompute.dev" })
	job := parse(t, good)
	job.Namespace, job.Name = namespace, name
	raw, err := json.Marshal(job)
	must(t, err)
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "forged", Operation: admissionv1.Create, Namespace: namespace, Name: name, Object: runtime.RawExtension{Raw: raw},
			Kind:     metav1.GroupVersionKind{Group: "batchcompute.dev", Version: "v1alpha1", Kind: "BatchJob"},
			Resource: metav1.GroupVersionResource{Group: "batchcompute.dev", Version: "v1alpha1", Resource: "batchjobs"},
			UserInfo: authnv1.UserInfo{Username: "forged", Groups: []string{"system:masters"}},
		},
	})
	must(t, err)
	attacker := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
	}}
	resp, err := attacker.Post(*v.Webhooks[i].ClientConfig.URL, "application/json", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	review := &admissionv1.AdmissionReview{}
	if err := json.NewDecoder(resp.Body).Decode(review); err != nil || review.Response == nil {
		return nil, fmt.Errorf("%s: %w", resp.Status, err)
	}
	return review.Response, nil
}

// testForgedReviews takes up a namespace's places for jobs that nobody creates.
func (c *cluster) testForgedReviews(t *testing.T) {
	// Invented namespaces are never let in, whoever it is that asks.
	errs := atOnce(50, func(i int) error {
		resp, err := c.forge(t, fmt.Sprint("invented-", i), "a")
		if err == nil && (resp.Allowed || resp.Result.Code != http.StatusInternalServerError) {
			err = fmt.Errorf("allowed %v, %v", resp.Allowed, resp.Result)
		}
		return err
	})
	if n := countErrors(errs, isNil); n != len(errs) {
		t.Errorf("%d of %d forged reviews about invented namespaces: %v", len(errs)-n, len(errs), errors.Join(errs...))
	}
	// Those about a real one take up all its places.
	c.namespace(t, "forged", "2")
	begin := time.Now()
	for i := range 2 {
		eventually(t, func() error {
			resp, err := c.forge(t, "forged", fmt.Sprint("forged-", i))
			if err == nil && !resp.Allowed {
				err = errors.New(resp.Result.Message)
			}
			return err
		})
	}
	t.Logf("two places were taken up by forged reviews after %s", time.Since(begin))
	// A real create is told to try again, never refused, and gets in.
	begin = time.Now()
	s := c.as(t, "", "forged")
	eventually(t, func() error {
		_, err := s.create(t.Context(), good)
		if refusedWith(err, errcode.JobQuota) {
			t.Fatalf("a real create is refused for what nobody created: %v", err)
		}
		return err
	})
	t.Logf("a real create got in after %s", time.Since(begin))
	eventually(t, func() error {
		_, err := s.create(t.Context(), good, named("second"))
		return err
	})
	if _, err := s.create(t.Context(), good, named("third")); !refusedWith(err, errcode.JobQuota) {
		t.Errorf("one too many: %v", err)
	}
}

// testEnvOfOthers has a user who may patch ComputeEnvs, and not submit, decide what another's
// jobs run.
func (c *cluster) testEnvOfOthers(t *testing.T) {
	c.namespace(t, "others", "")
	s := c.as(t, "", "others")
	_, err := s.create(t.Context(), anEnv)
	must(t, err)
	must(t, c.Create(t.Context(), &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "only-patch-envs"},
		Rules: []rbacv1.PolicyRule{{
			APIGroups: []string{"batchcompute.dev"}, Resources: []string{"computeenvs", "computeenvs/scale"}, Verbs: []string{"get", "patch", "update"},
		}},
	}))
	c.bind(t, "mallory", "only-patch-envs", "others")
	mallory := c.as(t, "mallory", "others")
	patch := func(body string, subresources ...string) error {
		_, err := mallory.envs.Patch(t.Context(), "pool", types.MergePatchType, []byte(body), metav1.PatchOptions{}, subresources...)
		return err
	}
	eventually(t, func() error { // the binding reaches the authorizer through a watch
		err := patch(`{"metadata":{"labels":{"by":"mallory"}}}`)
		if apierrors.IsForbidden(err) {
			return err
		}
		return nil
	})
	for _, body := range []string{
		`{"spec":{"envData":{"imageId":"attacker.example/rootkit"}}}`,
		`{"spec":{"kubernetes":{"securityContext":{"runAsUser":0}}}}`,
		`{"spec":{"kubernetes":{"serviceAccountName":"admin"}}}`,
		`{"spec":{"desiredComputeNodeCount":5}}`,
	} {
		err := patch(body)
		if got := causes(err); !slices.Equal(got, []string{"UnauthorizedOperation.UserNotAllowedToUseBatch metadata.namespace"}) {
			t.Errorf("%s: %v", body, err)
		}
	}
	t.Logf("patch of the image: %v", patch(`{"spec":{"envData":{"imageId":"attacker.example/rootkit"}}}`))
	env, err := s.envs.Get(t.Context(), "pool", metav1.GetOptions{})
	must(t, err)
	if _, given, _ := unstructured.NestedFieldNoCopy(env.Object, "spec", "envData"); given {
		t.Error("the image was changed")
	}
	// The number of nodes is another matter, within bounds.
	if err := patch(`{"spec":{"replicas":3}}`, "scale"); err != nil {
		t.Errorf("a scale: %v", err)
	}
	err = patch(`{"spec":{"replicas":2001}}`, "scale")
	t.Logf("scale to 2001: %v", err)
	if got := causes(err); !slices.Equal(got, []string{"InvalidParameterValue.LimitExceeded spec.replicas"}) {
		t.Errorf("2001 nodes: %q", got)
	}
	err = patch(`{"spec":{"replicas":2147483647}}`, "scale")
	t.Logf("scale to 2147483647: %v", err)
	if !apierrors.IsInvalid(err) {
		t.Errorf("2147483647 nodes: %v", err)
	}
	if out, err := c.run(t, "", "get", "-n", "others", "computeenv/pool", "-o", "jsonpath={.spec.desiredComputeNodeCount}"); err != nil || out != "3" {
		t.Errorf("%s nodes: %v", out, err)
	}
}
