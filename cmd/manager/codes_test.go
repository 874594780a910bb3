// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
)

// testCodes provokes every error code through the API server and prints which request
// did. It fails when a code of the table is provoked by none, or when the API server
// answers in its own words, before the webhook, a request that has codes.
func (c *cluster) testCodes(t *testing.T) {
	provoked := map[errcode.Code][]string{}
	note := func(err error, request string, want ...string) {
		t.Helper()
		got := causes(err)
		if !slices.Equal(got, want) {
			t.Errorf("%s: causes %q, want %q; shadowed by the schema? %v", request, got, want, err)
		}
		if len(got) > 0 {
			code, _, _ := strings.Cut(got[0], " ")
			provoked[errcode.Code(code)] = append(provoked[errcode.Code(code)], request)
		}
	}
	c.namespace(t, "codes", "")
	c.noteFiles(t, c.as(t, "", "codes"), note)
	c.noteFromCluster(t, note)
	c.noteConverter(t, provoked)
	c.noteInternalError(t, note) // last: it takes a right from the manager

	for _, e := range errcode.Table() {
		requests := provoked[e.Code]
		delete(provoked, e.Code)
		switch {
		case e.From == errcode.FromRunTime:
			requests = []string{"none: it comes at run time"}
		case e.Code == errcode.UnavailableZone:
			requests = []string{"(a manager with --unknown-zones=reject: TestUnknownZones)"}
		case len(requests) == 0:
			t.Errorf("no request provokes %s", e.Code)
		}
		t.Logf("%-55s %s", e.Code, strings.Join(requests, ", "))
	}
	for code, requests := range provoked {
		t.Errorf("%s, provoked by %v, is not in the table", code, requests)
	}
}

// noteFiles sends the requests of internal/validation. The comment lines at the top of
// each are the causes that it must get, or "accepted".
func (c *cluster) noteFiles(t *testing.T, s *submitter, note func(err error, request string, want ...string)) {
	for dir, few := range map[string]int{"requests": 50, "computeenvs": 20, "tasktemplates": 10} {
		files, err := filepath.Glob("../../internal/validation/testdata/" + dir + "/*.yaml")
		must(t, err)
		if len(files) < few {
			t.Fatalf("only %d %s", len(files), dir)
		}
		c.noteEachFile(t, s, files, note)
	}
}

func (c *cluster) noteEachFile(t *testing.T, s *submitter, files []string, note func(err error, request string, want ...string)) {
	for _, file := range files {
		data, err := os.ReadFile(file)
		must(t, err)
		var want []string
		for line := range strings.Lines(string(data)) {
			comment, ok := strings.CutPrefix(line, "# ")
			if !ok {
				break
			}
			if comment = strings.TrimSpace(comment); comment != "accepted" {
				want = append(want, comment)
			}
		}
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		obj, err := s.create(t.Context(), string(data), named(name))
		if (err == nil) != (len(want) == 0) {
			t.Errorf("%s: error %v, want causes %q", name, err, want)
		}
		if err == nil { // one has many instances, which would keep the machine busy
			must(t, s.of(obj.GetKind()).Delete(t.Context(), name, metav1.DeleteOptions{}))
		}
		if err != nil && !apierrors.IsInvalid(err) {
			t.Errorf("%s: not 422: %v", name, err)
		}
		note(err, name, want...)
	}
}

// noteFromCluster sends requests that are bad because of what the cluster holds.
func (c *cluster) noteFromCluster(t *testing.T, note func(err error, request string, want ...string)) {
	c.namespace(t, "codes-quota", "1")
	s := c.as(t, "", "codes-quota")
	_, err := s.create(t.Context(), good)
	must(t, err)
	_, err = s.create(t.Context(), good, named("second"))
	note(err, "(one job more than the quota)", "LimitExceeded.JobQuota metadata.namespace")

	must(t, c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: "codes-envs", Annotations: map[string]string{v1alpha1.AnnotationEnvQuota: "1", v1alpha1.AnnotationTemplateQuota: "1"},
	}}))
	s = c.as(t, "", "codes-envs")
	_, err = s.create(t.Context(), anEnv)
	must(t, err)
	_, err = s.create(t.Context(), anEnv, named("second"))
	note(err, "(one ComputeEnv more than the quota)", "LimitExceeded.ComputeEnvQuota metadata.namespace")
	_, err = s.create(t.Context(), aTemplate)
	must(t, err)
	_, err = s.create(t.Context(), aTemplate, named("second"))
	note(err, "(one TaskTemplate more than the quota)", "LimitExceeded.TaskTemplateQuota metadata.namespace")
	_, err = s.create(t.Context(), aJobIn)
	must(t, err)
	eventually(t, func() error { // the webhook sees the job through a watch
		if err = s.envs.Delete(t.Context(), "pool", metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}); err == nil {
			return errors.New("the finalizer was removed")
		}
		return nil
	})
	note(err, "(a deletion of a ComputeEnv in use)", "ResourceInUse metadata.name")

	_, err = c.as(t, "", "codes").create(t.Context(), strings.Replace(good, "computeEnv: {}", "computeEnv: {kubernetes: {priorityClassName: system-node-critical}}", 1))
	note(err, "(what the cluster's policy forbids)", "UnauthorizedOperation spec.job.tasks[0].computeEnv.kubernetes.priorityClassName")

	c.onlyCreate(t)
	c.bind(t, "mallory", "only-create", "codes")
	eventually(t, func() error {
		_, err = c.as(t, "mallory", "codes").create(t.Context(), good)
		if apierrors.IsForbidden(err) { // the binding reaches the authorizer through a watch
			return err
		}
		return nil
	})
	note(err, "(a user without the verb submit)", "UnauthorizedOperation.UserNotAllowedToUseBatch metadata.namespace")

	s = c.as(t, "", "codes")
	_, err = s.create(t.Context(), good, named("first"), token("t"))
	must(t, err)
	eventually(t, func() error { // the webhook sees it through a watch
		_, err = s.create(t.Context(), good, named("dry"), token("t"), set("z-2", "spec", "placement", "zone"))
		if err == nil {
			must(t, s.jobs.Delete(t.Context(), "dry", metav1.DeleteOptions{}))
			return errors.New("let in")
		}
		return nil
	})
	note(err, "(a clientToken that stands for another request)", "InvalidParameterValue spec.clientToken")

	eventually(t, func() error { // the manager writes its status meanwhile
		job, getErr := s.jobs.Get(t.Context(), "first", metav1.GetOptions{})
		must(t, getErr)
		must(t, unstructured.SetNestedField(job.Object, "z-2", "spec", "placement", "zone"))
		_, err = s.jobs.Update(t.Context(), job, metav1.UpdateOptions{FieldValidation: metav1.FieldValidationStrict})
		if apierrors.IsConflict(err) {
			return err
		}
		return nil
	})
	note(err, "(an update of the spec)", "UnsupportedOperation spec.placement.zone")
}

// noteConverter has the codes that the converter gives: a manifest with the same mistake
// is refused by the API server, in its own words.
func (c *cluster) noteConverter(t *testing.T, provoked map[errcode.Code][]string) {
	program := converter(t)
	for code, tc := range map[errcode.Code]struct{ body, manifest string }{
		errcode.InvalidParameter: {`{"Job": {"Tasks": [{"TaskInstanceNum": "many"}]}}`, `{spec: {job: {tasks: [{taskInstanceNum: many}]}}}`},
		errcode.UnknownParameter: {`{"Job": {"Taskz": []}}`, `{spec: {job: {taskz: []}}}`},
	} {
		cmd := exec.CommandContext(t.Context(), program, "convert", "-f", "-")
		cmd.Stdin = strings.NewReader(tc.body)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), string(code)) {
			t.Errorf("converting %s: %v: %s", tc.body, err, out)
			continue
		}
		provoked[code] = append(provoked[code], "(the converter, "+tc.body+")")
		_, err = c.as(t, "", "codes").create(t.Context(), tc.manifest, named("wrong"), func(o *unstructured.Unstructured) {
			o.SetAPIVersion("batchcompute.dev/v1alpha1")
			o.SetKind("BatchJob")
		})
		if err == nil || strings.Contains(err.Error(), "webhook") {
			t.Errorf("the API server lets %s through to the webhook: %v", tc.manifest, err)
		}
	}
}

// noteInternalError takes the right to review access from the manager.
func (c *cluster) noteInternalError(t *testing.T, note func(err error, request string, want ...string)) {
	role := &rbacv1.ClusterRole{}
	must(t, c.Get(t.Context(), client.ObjectKey{Name: "batchcompute-manager-role"}, role))
	role.Rules = slices.DeleteFunc(role.Rules, func(r rbacv1.PolicyRule) bool { return slices.Contains(r.Resources, "subjectaccessreviews") })
	must(t, c.Update(t.Context(), role))
	var err error
	eventually(t, func() error { // the authorizer hears of it through a watch; client-go tries for 10 s
		user := fmt.Sprint("somebody-", time.Now().UnixNano()) // about whom there is no answer yet
		_, err = c.as(t, user, "codes", "system:masters").create(t.Context(), good, named("undecided"))
		if client.IgnoreAlreadyExists(err) == nil {
			return errors.New("decided")
		}
		return nil
	})
	note(err, "(an access review that fails)", "InternalError")
	if seconds, ok := apierrors.SuggestsClientDelay(err); !ok || seconds != 1 {
		t.Errorf("a client is to wait %d s, %v", seconds, ok)
	}
}
