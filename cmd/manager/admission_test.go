// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
)

// TestAdmission asks the real manager, through a real API server, for what depends on the
// cluster: names, quotas, permissions, updates, and every error code.
func TestAdmission(t *testing.T) {
	c := startCluster(t)
	// The images and the machine types that the requests of internal/validation name.
	catalog := filepath.Join(t.TempDir(), "catalog.yaml")
	must(t, os.WriteFile(catalog, []byte(`{apiVersion: config.batchcompute.dev/v1alpha1, kind: Catalog, defaultImage: busybox, deriveInstanceTypes: true,
  images: {img-bd78fy2t: busybox, img-0a1b2c3d: busybox, img-er9shcln: busybox},
  instanceTypes: {S1.SMALL1: {cpu: 1, memory: 1Gi}, S2.SMALL1: {cpu: 1, memory: 1Gi}, S2.SMALL2: {cpu: 1, memory: 2Gi}, S1.LARGE8: {cpu: 4, memory: 8Gi},
    S5.MEDIUM4: {cpu: 2, memory: 4Gi}, S5.LARGE8: {cpu: 4, memory: 8Gi}, S5.2XLARGE32: {cpu: 8, memory: 32Gi, category: GENERAL_3}}}`), 0o600))
	c.startManager(t, "--catalog", catalog)
	t.Run("client token", c.testClientToken)
	t.Run("client token of a ComputeEnv", c.testEnvClientToken)
	t.Run("quota", c.testQuota)
	t.Run("permission", c.testPermission)
	t.Run("compute environments", c.testComputeEnvs)
	t.Run("built-in roles", c.testBuiltInRoles)
	t.Run("apply ten times", c.testApplyTenTimes)
	t.Run("converted requests", c.testConverted)
	t.Run("converted credentials", c.testConvertedCredentials)
	t.Run("tasks from templates", c.testTaskTemplates)
	t.Run("warnings", c.testWarnings)
	t.Run("every code", c.testCodes)
}

// submitter creates BatchJobs and ComputeEnvs as kubectl does: without our types, and with
// strict validation of fields by the API server.
type submitter struct {
	jobs, envs, templates dynamic.ResourceInterface
	namespace             string
}

// as returns a submitter for a user of some groups, the administrator if user is empty.
func (c *cluster) as(t *testing.T, user, namespace string, groups ...string) *submitter {
	t.Helper()
	cfg := rest.CopyConfig(c.env.Config)
	cfg.QPS, cfg.WarningHandler = -1, rest.NoWarnings{}
	if user != "" {
		cfg.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: append(groups, "system:authenticated")}
	}
	d, err := dynamic.NewForConfig(cfg)
	must(t, err)
	resource := func(name string) dynamic.ResourceInterface {
		return d.Resource(v1alpha1.GroupVersion.WithResource(name)).Namespace(namespace)
	}
	return &submitter{resource("batchjobs"), resource("computeenvs"), resource("tasktemplates"), namespace}
}

// of is where the objects of a kind are.
func (s *submitter) of(kind string) dynamic.ResourceInterface {
	switch kind {
	case "ComputeEnv":
		return s.envs
	case "TaskTemplate":
		return s.templates
	}
	return s.jobs
}

// create creates what the manifest says, after the edits, in the submitter's namespace.
func (s *submitter) create(ctx context.Context, manifest string, edits ...func(*unstructured.Unstructured)) (*unstructured.Unstructured, error) {
	obj := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(manifest), &obj.Object); err != nil {
		return nil, err
	}
	obj.SetNamespace(s.namespace)
	for _, edit := range edits {
		edit(obj)
	}
	return s.of(obj.GetKind()).Create(ctx, obj, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict, FieldManager: "kubectl-create"})
}

func named(name string) func(*unstructured.Unstructured) {
	return func(o *unstructured.Unstructured) { o.SetName(name) }
}

func set(value any, path ...string) func(*unstructured.Unstructured) {
	return func(o *unstructured.Unstructured) {
		if err := unstructured.SetNestedField(o.Object, value, path...); err != nil {
			panic(err)
		}
	}
}

func token(s string) func(*unstructured.Unstructured) { return set(s, "spec", "clientToken") }

// causes writes those of a refusal as "CODE field".
func causes(err error) []string {
	status := apierrors.APIStatus(nil)
	if !errors.As(err, &status) || status.Status().Details == nil {
		return nil
	}
	var list []string
	for _, c := range status.Status().Details.Causes {
		list = append(list, strings.TrimSpace(string(c.Type)+" "+c.Field))
	}
	return list
}

// refusedWith says whether err is a refusal whose first cause has the code.
func refusedWith(err error, code errcode.Code) bool {
	list := causes(err)
	return len(list) > 0 && strings.HasPrefix(list[0]+" ", string(code)+" ")
}

// namespace makes a namespace for a test, with a quota unless empty.
func (c *cluster) namespace(t *testing.T, name, quota string) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if quota != "" {
		ns.Annotations = map[string]string{v1alpha1.AnnotationJobQuota: quota}
	}
	must(t, c.Create(t.Context(), ns))
}

// count is how many jobs a namespace has.
func (c *cluster) count(t *testing.T, namespace string) int {
	t.Helper()
	var list v1alpha1.BatchJobList
	must(t, c.List(t.Context(), &list, client.InNamespace(namespace)))
	return len(list.Items)
}

// atOnce calls f from n goroutines and returns what they return.
func atOnce(n int, f func(i int) error) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errs
}

// countErrors counts how many of errs have the property.
func countErrors(errs []error, has func(error) bool) int {
	return len(errs) - len(slices.DeleteFunc(slices.Clone(errs), has))
}

func isNil(err error) bool { return err == nil }

func (c *cluster) testClientToken(t *testing.T) {
	c.namespace(t, "token", "")
	const manifest = `{apiVersion: batchcompute.dev/v1alpha1, kind: BatchJob, metadata: {generateName: render-, namespace: token},
  spec: {placement: {zone: z-1}, clientToken: 4a6e2f, job: {tasks: [{computeEnv: {}, application: {deliveryForm: LOCAL, command: "true"}}]}}}`
	const name = "render-poxb9trbuptc" // as internal/naming has it

	// The real kubectl, twice.
	out, err := c.run(t, manifest, "create", "-f", "-")
	t.Logf("kubectl create: %s", out)
	if err != nil || !strings.Contains(out, "batchjob.batchcompute.dev/"+name+" created") {
		t.Errorf("first create: %v", err)
	}
	out, err = c.run(t, manifest, "create", "-f", "-")
	t.Logf("kubectl create: %s", out)
	if err == nil || !strings.Contains(out, "(AlreadyExists)") || !strings.Contains(out, `"`+name+`" already exists`) {
		t.Errorf("second create: %v", err)
	}
	if out, err = c.run(t, manifest, "create", "--dry-run=server", "-f", "-"); err == nil || !strings.Contains(out, "AlreadyExists") {
		t.Errorf("dry run: %v: %s", err, out)
	}
	job := &v1alpha1.BatchJob{}
	must(t, c.Get(t.Context(), client.ObjectKey{Namespace: "token", Name: name}, job))
	if job.GenerateName != "" {
		t.Errorf("generateName is %q", job.GenerateName)
	}

	// Fifty at once make one job.
	s := c.as(t, "", "token")
	errs := atOnce(50, func(int) error {
		_, err := s.create(t.Context(), manifest, token("at once"))
		return err
	})
	if ok, exists := countErrors(errs, isNil), countErrors(errs, apierrors.IsAlreadyExists); ok != 1 || exists != 49 {
		t.Errorf("%d created, %d exist already, want 1 and 49: %v", ok, exists, errors.Join(errs...))
	}
	// Without a token each is another.
	before := c.count(t, "token")
	for range 2 {
		_, err := s.create(t.Context(), manifest, func(o *unstructured.Unstructured) {
			unstructured.RemoveNestedField(o.Object, "spec", "clientToken")
		})
		must(t, err)
	}
	if n := c.count(t, "token") - before; n != 2 {
		t.Errorf("%d jobs without token, want 2", n)
	}
	// Another name with the token: the same content is let in, for the reconciler to
	// mark; other content is not.
	if _, err := s.create(t.Context(), manifest, named("same")); err != nil {
		t.Errorf("the same content under another name: %v", err)
	}
	_, err = s.create(t.Context(), manifest, named("other"), set("z-2", "spec", "placement", "zone"))
	if got := causes(err); !slices.Equal(got, []string{"InvalidParameterValue spec.clientToken"}) ||
		!strings.Contains(err.Error(), `BatchJob "`+name+`" has this clientToken and another request (first difference: spec.placement.zone)`) {
		t.Errorf("other content under another name: %v", err)
	}
	c.namespace(t, "token-2", "")
	if _, err := c.as(t, "", "token-2").create(t.Context(), manifest, named("other"), set("z-2", "spec", "placement", "zone")); err != nil {
		t.Errorf("the same token in another namespace: %v", err)
	}
	// What the schema refuses, it refuses in its own words.
	for _, edit := range []func(*unstructured.Unstructured){set(int64(7), "spec", "clientToken"), set("text", "spec")} {
		_, err := s.create(t.Context(), manifest, edit)
		if !apierrors.IsInvalid(err) || strings.Contains(err.Error(), "webhook") {
			t.Errorf("not refused by the schema: %v", err)
		}
	}
}

func (c *cluster) testQuota(t *testing.T) {
	c.namespace(t, "quota", "10")
	s := c.as(t, "", "quota")
	full := func(err error) bool { return refusedWith(err, errcode.JobQuota) }

	begin := time.Now()
	errs := atOnce(50, func(i int) error {
		_, err := s.create(t.Context(), good, named(fmt.Sprint("job-", i)))
		return err
	})
	t.Logf("50 creates at once for 10 places took %s", time.Since(begin))
	if ok, refused := countErrors(errs, isNil), countErrors(errs, full); ok != 10 || refused != 40 || c.count(t, "quota") != 10 {
		t.Errorf("%d created, %d refused, want 10 and 40: %v", ok, refused, errors.Join(errs...))
	}
	first := slices.IndexFunc(errs, isNil)
	out, err := c.run(t, strings.Replace(good, "name: good, namespace: default", "name: one-more, namespace: quota", 1), "create", "-f", "-")
	t.Logf("kubectl create: %s", out)
	if err == nil || !strings.Contains(out, "metadata.namespace: LimitExceeded.JobQuota: ") {
		t.Errorf("a full namespace: %v", err)
	}
	if _, err := s.create(t.Context(), good, named(fmt.Sprint("job-", first))); !apierrors.IsAlreadyExists(err) {
		t.Errorf("a job that a full namespace has: %v", err)
	}
	// A place that was freed can be taken, once, and dry runs do not take it.
	must(t, s.jobs.Delete(t.Context(), fmt.Sprint("job-", first), metav1.DeleteOptions{}))
	oneMore := func(name string, dryRun ...string) error {
		obj := &unstructured.Unstructured{}
		must(t, yaml.Unmarshal([]byte(good), &obj.Object))
		obj.SetNamespace("quota")
		obj.SetName(name)
		_, err := s.jobs.Create(t.Context(), obj, metav1.CreateOptions{DryRun: dryRun})
		return err
	}
	eventually(t, func() error { return oneMore("dry", metav1.DryRunAll) })
	for i := range 20 {
		if err := oneMore(fmt.Sprint("dry-", i), metav1.DryRunAll); err != nil {
			t.Fatalf("dry run %d: %v", i, err)
		}
	}
	if err := oneMore("wet"); err != nil {
		t.Errorf("dry runs were counted: %v", err)
	}
	if err := oneMore("wet-2"); !full(err) {
		t.Errorf("one too many: %v", err)
	}
	if err := oneMore("dry", metav1.DryRunAll); !full(err) {
		t.Errorf("a dry run of one too many: %v", err)
	}
	// The annotation counts as it is now.
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "quota"}}
	annotate := func(value string) {
		patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.AnnotationJobQuota, value)
		must(t, c.Patch(t.Context(), ns, client.RawPatch("application/merge-patch+json", []byte(patch))))
	}
	annotate("11")
	eventually(t, func() error { return oneMore("eleven") })
	annotate("a dozen")
	eventually(t, func() error {
		out, err := c.run(t, strings.Replace(good, "name: good, namespace: default", "name: twelve, namespace: quota", 1), "create", "-f", "-")
		if err != nil || !strings.Contains(out, `Warning: the namespace's annotation batchcompute.dev/job-quota must be a number from 0, got "a dozen"; the default, 1000, applies`) {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	// A namespace and its jobs in one go.
	c.namespace(t, "quota-2", "1")
	s = c.as(t, "", "quota-2")
	_, err = s.create(t.Context(), good)
	must(t, err)
	if _, err := s.create(t.Context(), good, named("second")); !full(err) {
		t.Errorf("one too many in a new namespace: %v", err)
	}
	// Far from the limit nobody waits for long.
	c.namespace(t, "quota-3", "")
	s = c.as(t, "", "quota-3")
	begin = time.Now()
	must(t, errors.Join(atOnce(200, func(i int) error {
		_, err := s.create(t.Context(), good, named(fmt.Sprint("job-", i)))
		return err
	})...))
	t.Logf("200 creates at once for 1000 places took %s", time.Since(begin))
}

// bind gives a user a ClusterRole in a namespace.
func (c *cluster) bind(t *testing.T, user, role, namespace string) {
	t.Helper()
	must(t, c.Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: user + "-" + role},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: user}},
	}))
}

// onlyCreate is a ClusterRole that lets the API server accept a create, and the webhook not.
func (c *cluster) onlyCreate(t *testing.T) {
	t.Helper()
	must(t, client.IgnoreAlreadyExists(c.Create(t.Context(), &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "only-create"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{"batchcompute.dev"}, Resources: []string{"batchjobs"}, Verbs: []string{"create"}}},
	})))
}

func (c *cluster) testPermission(t *testing.T) {
	c.namespace(t, "team", "")
	c.namespace(t, "other-team", "")
	c.onlyCreate(t)
	for user, role := range map[string]string{
		"editor": "batchcompute-batchjob-editor", "admin": "batchcompute-batchjob-admin", "viewer": "batchcompute-batchjob-viewer", "creator": "only-create",
	} {
		c.bind(t, user, role, "team")
	}
	c.bind(t, "editor", "only-create", "other-team")
	for _, user := range []string{"editor", "admin"} {
		eventually(t, func() error { // the binding reaches the authorizer through a watch
			_, err := c.as(t, user, "team").create(t.Context(), good, named("of-"+user))
			return client.IgnoreAlreadyExists(err)
		})
	}
	if _, err := c.as(t, "viewer", "team").create(t.Context(), good, named("of-viewer")); !apierrors.IsForbidden(err) {
		t.Errorf("a viewer creates: %v", err)
	}
	for user, namespace := range map[string]string{"creator": "team", "editor": "other-team"} {
		eventually(t, func() error {
			_, err := c.as(t, user, namespace).create(t.Context(), bad)
			if got := causes(err); !slices.Equal(got, []string{"UnauthorizedOperation.UserNotAllowedToUseBatch metadata.namespace"}) {
				return fmt.Errorf("%s in %s: causes %q of %w", user, namespace, got, err)
			}
			return nil
		})
	}
	out, _ := c.run(t, strings.Replace(good, "namespace: default", "namespace: team", 1), "create", "--as=creator", "-f", "-")
	t.Logf("kubectl create --as=creator: %s", out)
	if !strings.Contains(out, `metadata.namespace: UnauthorizedOperation.UserNotAllowedToUseBatch: user "creator" may not submit in namespace`) {
		t.Error("kubectl does not say so")
	}
	// Once the right is there, the no is soon forgotten.
	c.bind(t, "creator", "batchcompute-batchjob-editor", "team")
	begin := time.Now()
	eventually(t, func() error {
		_, err := c.as(t, "creator", "team").create(t.Context(), good, named("of-creator"))
		return err
	})
	t.Logf("the right was there after %s", time.Since(begin))
	// Updates and deletions are the API server's own matter.
	_, err := c.as(t, "", "other-team").create(t.Context(), good)
	must(t, err)
	must(t, c.as(t, "", "other-team").jobs.Delete(t.Context(), "good", metav1.DeleteOptions{}))
}

const (
	anEnv = `{apiVersion: batchcompute.dev/v1alpha1, kind: ComputeEnv, metadata: {name: pool, namespace: envs},
  spec: {placement: {zone: z-1}, envName: pool, desiredComputeNodeCount: 2}}`
	aTemplate = `{apiVersion: batchcompute.dev/v1alpha1, kind: TaskTemplate, metadata: {name: render, namespace: envs},
  spec: {taskTemplateName: render, taskTemplateInfo: {computeEnv: {}, application: {deliveryForm: LOCAL, command: "true"}}}}`
	aJobIn = `{apiVersion: batchcompute.dev/v1alpha1, kind: BatchJob, metadata: {name: job, namespace: envs},
  spec: {placement: {zone: z-1}, suspend: true, job: {tasks: [{envId: pool, application: {deliveryForm: LOCAL, command: "true"}}]}}}`
)

// testComputeEnvs is the life of a ComputeEnv and of the jobs that name it.
func (c *cluster) testComputeEnvs(t *testing.T) {
	c.namespace(t, "envs", "")
	s := c.as(t, "", "envs")
	_, err := s.create(t.Context(), aJobIn)
	if got := causes(err); !slices.Equal(got, []string{"ResourceNotFound.ComputeEnv spec.job.tasks[0].envId"}) {
		t.Errorf("an envId that is nothing: %v", err)
	}
	// Both in one go, as a directory of manifests has them; and again with nothing between.
	out, err := c.run(t, anEnv+"\n---\n"+aJobIn, "apply", "-f", "-")
	t.Logf("kubectl apply: %s", out)
	if err != nil {
		t.Errorf("an environment and its job at once: %v", err)
	}
	for i := range 5 {
		name := fmt.Sprint("quick-", i)
		_, err := s.create(t.Context(), anEnv, named(name))
		must(t, err)
		if _, err := s.create(t.Context(), strings.Replace(aJobIn, "envId: pool", "envId: "+name, 1), named(name)); err != nil {
			t.Errorf("a job right after its environment: %v", err)
		}
	}
	// An update is checked, and may change everything.
	edit := func(value int64) error {
		patch := fmt.Sprintf(`{"spec":{"desiredComputeNodeCount":%d}}`, value)
		_, err := s.envs.Patch(t.Context(), "pool", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		return err
	}
	if got := causes(edit(2001)); !slices.Equal(got, []string{"InvalidParameterValue.LimitExceeded spec.desiredComputeNodeCount"}) {
		t.Errorf("2001 nodes: %q", got)
	}
	// The API server checks what kubectl scale changes, in its own words, before a webhook.
	if got := causes(edit(-1)); !slices.Equal(got, []string{"FieldValueInvalid .spec.desiredComputeNodeCount"}) {
		t.Errorf("-1 nodes: %q", got)
	}
	if err := edit(3); err != nil {
		t.Errorf("3 nodes: %v", err)
	}
	if out, err := c.run(t, "", "scale", "-n", "envs", "computeenv/pool", "--replicas=4"); err != nil {
		t.Errorf("kubectl scale: %v: %s", err, out)
	}
	// What a job uses is not deleted, under whichever name the job knows it.
	deleted := func(name string) error { return s.envs.Delete(t.Context(), name, metav1.DeleteOptions{}) }
	eventually(t, func() error { // the webhook sees the job through a watch
		err := s.envs.Delete(t.Context(), "pool", metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}})
		if !refusedWith(err, errcode.ResourceInUse) {
			return fmt.Errorf("a deletion: %w", err)
		}
		return nil
	})
	out, err = c.run(t, "", "delete", "-n", "envs", "computeenv", "pool", "--wait=false")
	t.Logf("kubectl delete: %s", out)
	if err == nil || !strings.Contains(out, `ComputeEnv "pool" is used by 1 BatchJob that has not ended: job`) {
		t.Errorf("kubectl delete: %v", err)
	}
	must(t, s.jobs.Delete(t.Context(), "job", metav1.DeleteOptions{}))
	eventually(t, func() error { return client.IgnoreNotFound(deleted("pool")) })
	// A caller needs the verb submit, as for a job.
	c.onlyCreateEnvs(t)
	c.bind(t, "env-creator", "only-create-envs", "envs")
	c.bind(t, "env-editor", "batchcompute-batchjob-editor", "envs")
	eventually(t, func() error { // the binding reaches the authorizer through a watch
		_, err := c.as(t, "env-creator", "envs").create(t.Context(), anEnv, named("of-creator"))
		if got := causes(err); !slices.Equal(got, []string{"UnauthorizedOperation.UserNotAllowedToUseBatch metadata.namespace"}) {
			return fmt.Errorf("causes %q of %w", got, err)
		}
		return nil
	})
	eventually(t, func() error {
		_, err := c.as(t, "env-editor", "envs").create(t.Context(), anEnv, named("of-editor"))
		return client.IgnoreAlreadyExists(err)
	})
	out, err = c.run(t, "", "scale", "-n", "envs", "computeenv/of-editor", "--replicas=1", "--as=env-editor")
	if err != nil {
		t.Errorf("an editor cannot scale: %v: %s", err, out)
	}
	c.testEnvQuota(t)
	// A namespace goes with all that is in it.
	must(t, c.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "envs"}}))
	controller := c.as(t, "system:serviceaccount:kube-system:namespace-controller", "envs", "system:masters")
	if err := controller.envs.Delete(t.Context(), "quick-0", metav1.DeleteOptions{}); err != nil {
		t.Errorf("the namespace controller deletes what is in use: %v", err)
	}
}

// onlyCreateEnvs is onlyCreate for ComputeEnvs.
func (c *cluster) onlyCreateEnvs(t *testing.T) {
	t.Helper()
	must(t, client.IgnoreAlreadyExists(c.Create(t.Context(), &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "only-create-envs"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{"batchcompute.dev"}, Resources: []string{"computeenvs"}, Verbs: []string{"create"}}},
	})))
}

// testEnvQuota fills a namespace with ComputeEnvs.
func (c *cluster) testEnvQuota(t *testing.T) {
	must(t, c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: "envs-quota", Annotations: map[string]string{v1alpha1.AnnotationEnvQuota: "3", v1alpha1.AnnotationJobQuota: "1"},
	}}))
	s := c.as(t, "", "envs-quota")
	errs := atOnce(20, func(i int) error {
		_, err := s.create(t.Context(), anEnv, named(fmt.Sprint("env-", i)))
		return err
	})
	full := func(err error) bool { return refusedWith(err, errcode.ComputeEnvQuota) }
	if ok, refused := countErrors(errs, isNil), countErrors(errs, full); ok != 3 || refused != 17 {
		t.Errorf("%d created, %d refused, want 3 and 17: %v", ok, refused, errors.Join(errs...))
	}
	out, err := c.run(t, strings.Replace(anEnv, "namespace: envs", "namespace: envs-quota", 1), "create", "-f", "-")
	t.Logf("kubectl create: %s", out)
	if err == nil || !strings.Contains(out, "metadata.namespace: LimitExceeded.ComputeEnvQuota: the namespace keeps 3 ComputeEnvs, and its quota is 3") {
		t.Errorf("a full namespace: %v", err)
	}
	c.namespace(t, "envs-quota-2", "")
	s = c.as(t, "", "envs-quota-2")
	for i := range 10 {
		_, err := s.create(t.Context(), anEnv, named(fmt.Sprint("env-", i)))
		must(t, err)
	}
	if _, err := s.create(t.Context(), anEnv, named("eleven")); !full(err) {
		t.Errorf("one more than the default: %v", err)
	}
}

// testBuiltInRoles plays the controller that fills the roles view, edit and admin, and
// looks at what they can do with jobs then.
func (c *cluster) testBuiltInRoles(t *testing.T) {
	for _, name := range []string{"view", "edit", "admin"} { // each is a part of the next
		role := &rbacv1.ClusterRole{}
		must(t, c.Get(t.Context(), client.ObjectKey{Name: name}, role))
		role.Rules = nil
		for i := range role.AggregationRule.ClusterRoleSelectors {
			selector, err := metav1.LabelSelectorAsSelector(&role.AggregationRule.ClusterRoleSelectors[i])
			must(t, err)
			var parts rbacv1.ClusterRoleList
			must(t, c.List(t.Context(), &parts, client.MatchingLabelsSelector{Selector: selector}))
			for _, part := range parts.Items {
				role.Rules = append(role.Rules, part.Rules...)
			}
		}
		must(t, c.Update(t.Context(), role))
		c.bind(t, "has-"+name, name, "team")
	}
	for name, want := range map[string][]string{
		"view":  {"get yes", "create no", "submit no", "delete no"},
		"edit":  {"get yes", "create yes", "submit yes", "delete yes"},
		"admin": {"get yes", "create yes", "submit yes", "delete yes"},
	} {
		eventually(t, func() error {
			var got []string
			for _, verb := range []string{"get", "create", "submit", "delete"} {
				out, _ := c.run(t, "", "auth", "can-i", verb, "batchjobs.batchcompute.dev", "-n", "team", "--as=has-"+name)
				fields := strings.Fields(out) // the answer comes after a warning that kubectl does not know submit
				got = append(got, verb+" "+fields[len(fields)-1])
			}
			if !slices.Equal(got, want) {
				return fmt.Errorf("role %s: %q, want %q", name, got, want)
			}
			return nil
		})
	}
	if _, err := c.as(t, "has-edit", "team").create(t.Context(), good, named("of-edit")); err != nil {
		t.Errorf("the role edit cannot create: %v", err)
	}
}

// testApplyTenTimes applies one manifest again and again: nothing changes and nothing is
// refused; what would change is refused by name.
func (c *cluster) testApplyTenTimes(t *testing.T) {
	data, err := os.ReadFile("../../internal/validation/testdata/requests/ok-everything-at-its-limit.yaml")
	must(t, err)
	large := strings.Replace(string(data), "taskInstanceNum: 99999", "taskInstanceNum: 2", 1) // whose status stops changing soon
	c.namespace(t, "apply", "")
	// Suspended ones have a status that nothing changes, however long the test takes.
	for name, manifest := range map[string]string{"large": large, "small": good} {
		file := filepath.Join(t.TempDir(), "job.yaml")
		obj := map[string]any{}
		must(t, yaml.Unmarshal([]byte(manifest), &obj))
		obj["metadata"] = map[string]any{"name": name, "namespace": "apply"}
		obj["spec"].(map[string]any)["suspend"] = true
		data, err := yaml.Marshal(obj)
		must(t, err)
		must(t, os.WriteFile(file, data, 0o600))
		apply := func(manager string) {
			t.Helper()
			if out, err := c.run(t, "", "apply", "--server-side", "--field-manager", manager, "-f", file); err != nil {
				t.Errorf("%s applies: %v: %s", manager, err, out)
			}
		}
		version := func() string {
			t.Helper()
			job := &v1alpha1.BatchJob{}
			must(t, c.Get(t.Context(), client.ObjectKey{Namespace: "apply", Name: name}, job))
			return fmt.Sprintf("resourceVersion %s, generation %d", job.ResourceVersion, job.Generation)
		}
		apply("argocd")
		apply("flux")
		want := c.settled(t, version)
		for range 10 {
			apply("argocd")
			apply("flux")
		}
		if got := version(); got != want {
			t.Errorf("%s: %s after the first two applies, %s after ten more of both", name, want, got)
		}
		t.Logf("%s: %s before and after", name, want)
		for _, args := range [][]string{{"diff", "--server-side", "--field-manager", "flux", "-f", file}, {"diff", "-f", file}} {
			if out, err := c.run(t, "", args...); err != nil || out != "" {
				t.Errorf("kubectl %s: %v: %s", strings.Join(args, " "), err, out)
			}
		}
	}
	// The same with kubectl apply as it is without flags.
	manifest := strings.Replace(good, "name: good, namespace: default", "name: client-side, namespace: apply", 1)
	for i := range 3 {
		out, err := c.run(t, manifest, "apply", "-f", "-")
		if want := []string{"created", "unchanged", "unchanged"}[i]; err != nil || !strings.Contains(out, want) {
			t.Errorf("kubectl apply: %v: %s, want %s", err, out, want)
		}
	}
	if out, err := c.run(t, manifest, "diff", "-f", "-"); err != nil || out != "" {
		t.Errorf("kubectl diff: %v: %s", err, out)
	}
	changed := strings.Replace(manifest, `command: "true"`, `command: "false"`, 1)
	for _, args := range [][]string{{"apply", "-f", "-"}, {"apply", "--server-side", "--force-conflicts", "-f", "-"}, {"diff", "-f", "-"}} {
		out, err := c.run(t, changed, args...)
		if err == nil || !strings.Contains(out, "spec.job.tasks[0].application.command: UnsupportedOperation: must not change after the job was submitted") {
			t.Errorf("kubectl %s of a changed spec: %v: %s", strings.Join(args, " "), err, out)
		}
	}
}

// settled waits until f has returned the same for a second, and returns that.
func (c *cluster) settled(t *testing.T, f func() string) string {
	t.Helper()
	last, since := f(), time.Now()
	eventually(t, func() error {
		if now := f(); now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) < time.Second {
			return fmt.Errorf("%s since %s only", last, time.Since(since))
		}
		return nil
	})
	return last
}

// converter builds kubectl-batchjob and returns its path.
func converter(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "kubectl-batchjob")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../kubectl-batchjob").CombinedOutput()
	if err != nil {
		t.Fatalf("building kubectl-batchjob: %v\n%s", err, out)
	}
	return program
}

// testConverted applies what the converter makes of the requests on the API's own page.
func (c *cluster) testConverted(t *testing.T) {
	program := converter(t)
	c.namespace(t, "converted", "")
	for _, name := range []string{"api-single-task", "api-dag"} {
		file := "../../internal/convert/testdata/" + name + ".json"
		manifest, err := exec.CommandContext(t.Context(), program, "convert", "-n", "converted", "--name", name, "-f", file).Output()
		must(t, err)
		out, err := c.run(t, string(manifest), "apply", "-f", "-")
		t.Logf("kubectl-batchjob convert -f %s | kubectl apply -f -: %s", file, out)
		if err != nil || !strings.Contains(out, "batchjob.batchcompute.dev/"+name+" created") {
			t.Errorf("%s: %v", name, err)
		}
		if out, err := c.run(t, string(manifest), "diff", "-f", "-"); err != nil {
			t.Errorf("kubectl diff: %v: %s", err, out)
		}
	}
}
