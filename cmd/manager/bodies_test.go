// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/naming"
)

// testEnvClientToken: a ComputeEnv with generateName has its name from its token, as a job has.
func (c *cluster) testEnvClientToken(t *testing.T) {
	c.namespace(t, "env-token", "")
	const manifest = `{apiVersion: batchcompute.dev/v1alpha1, kind: ComputeEnv, metadata: {generateName: pool-, namespace: env-token},
  spec: {placement: {zone: z-1}, envName: pool, desiredComputeNodeCount: 2, clientToken: 4a6e2f}}`
	name := naming.TokenName("pool-", "4a6e2f")
	out, err := c.run(t, manifest, "create", "-f", "-")
	t.Logf("kubectl create: %s", out)
	if err != nil || !strings.Contains(out, "computeenv.batchcompute.dev/"+name+" created") {
		t.Errorf("first create: %v", err)
	}
	out, err = c.run(t, manifest, "create", "-f", "-")
	t.Logf("kubectl create: %s", out)
	if err == nil || !strings.Contains(out, "(AlreadyExists)") || !strings.Contains(out, `"`+name+`" already exists`) {
		t.Errorf("second create: %v", err)
	}
	env := &v1alpha1.ComputeEnv{}
	must(t, c.Get(t.Context(), client.ObjectKey{Namespace: "env-token", Name: name}, env))
	if env.GenerateName != "" || env.Spec.ClientToken != "4a6e2f" {
		t.Errorf("%+v", env)
	}
	s := c.as(t, "", "env-token")
	errs := atOnce(20, func(int) error {
		_, err := s.create(t.Context(), manifest, token("at once"))
		return err
	})
	if ok, exists := countErrors(errs, isNil), countErrors(errs, apierrors.IsAlreadyExists); ok != 1 || exists != 19 {
		t.Errorf("%d created, %d exist already, want 1 and 19: %v", ok, exists, errors.Join(errs...))
	}
	// Without a token each is another, and with a name of its own the token has no effect.
	for _, edit := range []func(*unstructured.Unstructured){
		func(o *unstructured.Unstructured) { unstructured.RemoveNestedField(o.Object, "spec", "clientToken") },
		func(o *unstructured.Unstructured) { unstructured.RemoveNestedField(o.Object, "spec", "clientToken") },
		named("own"),
	} {
		if _, err := s.create(t.Context(), manifest, edit); err != nil {
			t.Error(err)
		}
	}
	var list v1alpha1.ComputeEnvList
	must(t, c.List(t.Context(), &list, client.InNamespace("env-token")))
	if len(list.Items) != 5 {
		t.Errorf("%d ComputeEnvs, want 5", len(list.Items))
	}
}

// convert runs the converter on a body.
func convert(t *testing.T, program, body string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs strings.Builder
	cmd := exec.CommandContext(t.Context(), program, append([]string{"convert", "-f", "-"}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(body), &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// testConvertedCredentials: a body with credentials that is refused leaves no Secret, whether the
// converter refuses it or the cluster does.
func (c *cluster) testConvertedCredentials(t *testing.T) {
	program := converter(t)
	c.namespace(t, "credentials", "1")
	secrets := func() (names []string) {
		t.Helper()
		var list corev1.SecretList
		must(t, c.List(t.Context(), &list, client.InNamespace("credentials"), client.HasLabels{v1alpha1.LabelCredentialsOf}))
		for i := range list.Items {
			names = append(names, list.Items[i].Name)
		}
		return names
	}
	const job = `{"Placement": {"Zone": "z-1"}, "Job": {"Tasks": [{"Application": {"DeliveryForm": "LOCAL", "Command": "COMMAND",
		"Docker": {"User": "u", "Password": "p", "Image": "r.example/a:1"}}, "ComputeEnv": {}}]}}`
	// What breaks a rule of the API is not converted, so kubectl gets nothing.
	out, errs, err := convert(t, program, strings.Replace(job, "COMMAND", " ", 1), "-n", "credentials", "--name", "bad")
	t.Logf("kubectl batchjob convert: %s", errs)
	if err == nil || out != "" || !strings.Contains(errs, "InvalidParameterValue: spec.job.tasks[0].application.command: must not be blank") {
		t.Errorf("a body that is wrong: %v: %s", err, out)
	}
	// What only the cluster knows, the dry run finds out.
	_, err = c.as(t, "", "credentials").create(t.Context(), good, named("first"))
	must(t, err)
	manifest, _, err := convert(t, program, strings.Replace(job, "COMMAND", "true", 1), "-n", "credentials", "--name", "second")
	must(t, err)
	eventually(t, func() error { // the webhook sees the first job through a watch
		out, err = c.run(t, manifest, "apply", "--dry-run=server", "-f", "-")
		if err == nil {
			return errors.New("the quota does not count")
		}
		return nil
	})
	t.Logf("kubectl apply --dry-run=server: %s", out)
	if !strings.Contains(out, "LimitExceeded.JobQuota") {
		t.Errorf("dry run: %s", out)
	}
	if names := secrets(); names != nil {
		t.Errorf("Secrets of refused jobs: %q", names)
	}
	// Without the dry run they stay, and the label finds them.
	if out, err := c.run(t, manifest, "apply", "-f", "-"); err == nil {
		t.Errorf("let in: %s", out)
	}
	if names := secrets(); len(names) != 1 {
		t.Errorf("Secrets %q", names)
	}
	out, err = c.run(t, "", "delete", "secret", "-n", "credentials", "-l", "batchcompute.dev/credentials-of=second")
	t.Logf("kubectl delete: %s", out)
	if names := secrets(); err != nil || names != nil {
		t.Errorf("%v, Secrets %q", err, names)
	}
	// CreateComputeEnv, with both kinds of credentials.
	manifest, _, err = convert(t, program, `{"Action": "CreateComputeEnv", "ClientToken": "t", "Placement": {"Zone": "z-1"}, "ComputeEnv": {"EnvName": "pool", "DesiredComputeNodeCount": 1,
		"EnvData": {"InstanceType": "S5.MEDIUM4", "ImageId": "img-bd78fy2t", "LoginSettings": {"Password": "p"}}, "Authentications": [{"Scene": "COS", "SecretId": "i", "SecretKey": "k"}]}}`, "-n", "credentials")
	must(t, err)
	out, err = c.run(t, manifest, "apply", "-f", "-")
	t.Logf("kubectl apply: %s", out)
	if err != nil || strings.Count(out, "created") != 3 || len(secrets()) != 2 {
		t.Errorf("a ComputeEnv: %v", err)
	}
	if out, err := c.run(t, manifest, "diff", "-f", "-"); err != nil {
		t.Errorf("kubectl diff: %v: %s", err, out)
	}
}

// testWarnings: kubectl prints what admission warns of.
func (c *cluster) testWarnings(t *testing.T) {
	c.namespace(t, "warnings", "")
	for manifest, want := range map[string][]string{
		`{apiVersion: batchcompute.dev/v1alpha1, kind: BatchJob, metadata: {name: odd, namespace: warnings},
  spec: {suspend: true, placement: {zone: z-1, rackId: rack-1}, job: {tasks: [{
    computeEnv: {envData: {instanceType: S12.LARGE8}, mountDataDisks: [{localPath: /data}]},
    application: {deliveryForm: LOCAL, command: "exit 0\r\n", docker: {image: a, passwordSecretRef: {name: none}}}}]}}}`: {
			"Warning: spec.placement.rackId has no effect on Kubernetes",
			`Warning: spec.job.tasks[0].application.command has carriage returns (\r)`,
			"Warning: spec.job.tasks[0].application.docker.passwordSecretRef was not checked, since the operator does not read Secrets",
			"Warning: spec.job.tasks[0].computeEnv.envData.instanceType is not in the operator's catalogue: its size was derived from its name",
			"Warning: spec.job.tasks[0].computeEnv.mountDataDisks[0] has no data disk: it becomes a directory of the system disk",
		},
		`{apiVersion: batchcompute.dev/v1alpha1, kind: ComputeEnv, metadata: {name: odd, namespace: warnings},
  spec: {placement: {zone: z-1}, envName: odd, desiredComputeNodeCount: 1, envData: {instanceTypes: [S12.LARGE8]}, mountDataDisks: [{localPath: /data}],
    authentications: [{scene: COS, secretId: i, secretKeySecretRef: {name: none}}, {scene: COS, secretId: j, secretKeySecretRef: {name: none}}]}}`: {
			"Warning: spec.envData.instanceTypes[0] is not in the operator's catalogue: its size was derived from its name",
			"Warning: spec.mountDataDisks[0] has no data disk: it becomes a directory of the system disk",
			"Warning: spec.authentications has several keys for COS; the first one counts",
		},
	} {
		out, err := c.run(t, manifest, "create", "-f", "-")
		t.Logf("kubectl create: %s", out)
		if err != nil {
			t.Error(err)
		}
		for _, line := range want {
			if !strings.Contains(out, line) {
				t.Errorf("kubectl does not say %q", line)
			}
		}
		if n := strings.Count(out, "Warning: "); n != len(want) {
			t.Errorf("%d warnings, want %d", n, len(want))
		}
	}
}
