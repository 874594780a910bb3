// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/staging"
	"batchcompute.dev/operator/internal/testutil"
	"batchcompute.dev/operator/internal/testutil/s3test"
)

// cosBucket is a bucket as COS names it, and cosURL its root.
const (
	cosBucket = "studio-1250000000"
	cosURL    = "cos://" + cosBucket + ".cos.ap-guangzhou.myqcloud.com/"
)

// TestCosURL runs a task whose paths are those of COS, while the catalogue says that another store has the buckets.
func TestCosURL(t *testing.T) { checkCosURL(t, s3test.Versitygw(t, cosBucket)) }

// TestCosURLMinIO does it with a second store, which also takes the style of URLs that COS takes.
func TestCosURLMinIO(t *testing.T) { s3test.MinIO(t, cosBucket, checkCosURL) }

// checkCosURL builds the Pod of a task, and runs the agent as its containers configure it.
func checkCosURL(t *testing.T, s agentapi.Store) {
	t.Helper()
	in := t.TempDir()
	for name, text := range map[string]string{"a": "first\n", "dir/b": "second\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(in, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(in, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if r := staging.Store(t.Context(), agentapi.Outputs{Outputs: []agentapi.Output{{Store: s, Source: in, Prefix: "moved/in/"}}}, staging.Command{Succeeded: true}, nil); r.Class != "" {
		t.Fatal(r.Message)
	}

	built := cosPod(t, s)
	p := newPod(t)
	var stage agentapi.Stage
	var outputs agentapi.Outputs
	configOf(t, built.Spec.InitContainers, podspec.StageContainer, &stage)
	configOf(t, built.Spec.Containers, podspec.OutputsContainer, &outputs)
	// What the kubelet would mount is in other places here.
	input, results := p.mkdir("in"), p.mkdir("results")
	if len(stage.Inputs) != 1 || len(outputs.Outputs) != 1 || outputs.Stdout == nil {
		t.Fatalf("%+v, %+v", stage, outputs)
	}
	stage.Inputs[0].Destination, outputs.Outputs[0].Source = input, results
	want := s
	want.KeySecret = "keys" // so that messages can name the catalogue's Secret
	for _, got := range []*agentapi.Store{&stage.Inputs[0].Store, &outputs.Outputs[0].Store, &outputs.Stdout.Store} {
		got.Credentials = s.Credentials
		if *got != want {
			t.Errorf("%+v, want %+v", *got, want)
		}
	}
	for _, c := range []*container{
		p.command("stage", stage), p.exec(`cat "$DIR/in/a" "$DIR/in/dir/b" | tee "$DIR/results/all"`, agentapi.Exec{}), p.command("outputs", outputs),
	} {
		for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"} {
			c.Env = append(c.Env, name+"="+os.Getenv(name))
		}
		if code := c.start().wait(); code != 0 {
			t.Fatalf("exit code %d: %s", code, c.stderr.String())
		}
	}
	back := t.TempDir()
	if r := staging.Stage(t.Context(), agentapi.Stage{Inputs: []agentapi.Input{{Store: s, Prefix: "moved/", Destination: back}}}, nil); r.Class != "" {
		t.Fatal(r.Message)
	}
	for _, name := range []string{"out/2/all", "logs/t.2.out"} {
		if got, err := os.ReadFile(filepath.Join(back, name)); err != nil || string(got) != "first\nsecond\n" {
			t.Errorf("%s is %q: %v", name, got, err)
		}
	}
}

// cosPod builds the Pod of an instance of a task with paths of COS.
func cosPod(t *testing.T, s agentapi.Store) *corev1.Pod {
	t.Helper()
	style := map[bool]string{true: "path", false: "virtual"}[s.PathStyle]
	text := fmt.Sprintf("apiVersion: config.batchcompute.dev/v1alpha1\nkind: Catalog\nstores:\n- {match: %q, endpoint: %q, style: %s, region: %s, prefix: moved/, secretName: keys, ca: %q}\n",
		"*.cos.ap-guangzhou.myqcloud.com", s.Endpoint, style, s.Region, s.CA)
	if s.CA == "" {
		text = strings.Replace(text, `, ca: ""`, "", 1)
	}
	stores, err := catalog.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	job := testutil.Job("render").Task("t", testutil.Instances(3), testutil.Inputs(cosURL+"in/", "/data/in/"),
		testutil.Outputs("/data/out/", cosURL+"out/${BATCH_TASK_INSTANCE_INDEX}/"), func(t *v1alpha1.Task) {
			t.RedirectInfo = &v1alpha1.RedirectInfo{
				StdoutRedirectPath: cosURL + "logs/", StdoutRedirectFileName: "${BATCH_TASK_NAME}.${BATCH_TASK_INSTANCE_INDEX}.out",
			}
		}).Obj()
	spec, err := resolve.Resolve(job)
	if err != nil {
		t.Fatal(err)
	}
	pod, err := podspec.Build(job, spec, resolve.Instance{Index: 2}, spec.Tasks[0].Env,
		podspec.Cluster{Catalog: stores, Agent: podspec.Agent{Image: "agent:1", ImageVolumes: true}})
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

// configOf reads the agent's configuration from a container.
func configOf(t *testing.T, containers []corev1.Container, name string, config any) {
	t.Helper()
	i := slices.IndexFunc(containers, func(c corev1.Container) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("there is no container %s", name)
	}
	var environ []string
	for _, v := range containers[i].Env {
		environ = append(environ, v.Name+"="+v.Value)
	}
	if _, err := agentapi.Read(environ, config); err != nil {
		t.Fatal(err)
	}
}
