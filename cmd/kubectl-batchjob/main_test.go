// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"batchcompute.dev/operator/api/v1alpha1"
)

const body = `{"Placement": {"Zone": "ap-shanghai-2"}, "ClientToken": "t", "Job": {"JobName": "train", "Tasks": [
	{"TaskName": "a", "TaskInstanceNum": "3", "RestartComputeNode": false, "EnvVars": [{"Name": "YES", "Value": "yes"}],
	"Application": {"DeliveryForm": "LOCAL", "Command": "echo 1\necho 2", "Docker": {"User": "u", "Password": "p", "Image": "r.example/a:1"}},
	"ComputeEnv": {}}]}}`

const manifest = `apiVersion: v1
kind: Secret
metadata:
  name: mine-registry
  namespace: team
  labels:
    batchcompute.dev/credentials-of: mine
stringData:
  .dockerconfigjson: '{"auths":{"r.example":{"username":"u","password":"p","auth":"dTpw"}}}'
type: kubernetes.io/dockerconfigjson
---
apiVersion: batchcompute.dev/v1alpha1
kind: BatchJob
metadata:
  name: mine
  namespace: team
spec:
  placement:
    zone: ap-shanghai-2
  job:
    jobName: train
    tasks:
      - taskName: a
        taskInstanceNum: 3
        application:
          deliveryForm: LOCAL
          command: |-
            echo 1
            echo 2
          docker:
            image: r.example/a:1
            user: u
            passwordSecretRef:
              name: mine-registry
        computeEnv: {}
        envVars:
          - name: "YES"
            value: "yes"
        restartComputeNode: false
  clientToken: t
`

const back = `{
  "Placement": {
    "Zone": "ap-shanghai-2"
  },
  "Job": {
    "JobName": "train",
    "Tasks": [
      {
        "TaskName": "a",
        "TaskInstanceNum": 3,
        "Application": {
          "DeliveryForm": "LOCAL",
          "Command": "echo 1\necho 2",
          "Docker": {
            "Image": "r.example/a:1",
            "User": "u"
          }
        },
        "ComputeEnv": {},
        "EnvVars": [
          {
            "Name": "YES",
            "Value": "yes"
          }
        ],
        "RestartComputeNode": false
      }
    ]
  },
  "ClientToken": "t"
}
`

// small is a BatchJob that every form can say.
const small = `{"apiVersion": "batchcompute.dev/v1alpha1", "kind": "BatchJob", "metadata": {"name": "s"}, "spec": {"placement": {"zone": "z"}, "job": {"tasks": [
	{"application": {"deliveryForm": "LOCAL", "command": "echo a b"}, "computeEnv": {"envType": "MANAGED"}}]}}}`

// sorted is a manifest in JSON that begins with something else.
const sorted = `{"spec": {"placement": {"zone": "z"}}, "kind": "BatchJob", "apiVersion": "batchcompute.dev/v1alpha1"}`

func TestRun(t *testing.T) {
	leftOut := "note: Job.Tasks.0.Application.Docker.Password is left out; a BatchJob has it in a Secret, here \"mine-registry\"\n"
	for name, tc := range map[string]struct {
		args       string
		stdin      string
		wantCode   int
		want       string
		wantStderr string // a part of it
	}{
		"body to manifest":           {"convert -f - --name mine -n team", body, exitOK, manifest, "note: the Secret mine-registry contains a credential in plain text; keep the file private\n"},
		"manifest to body":           {"convert -f -", manifest, exitOK, back, leftOut},
		"manifest to manifest":       {"convert -f - --to batchjob", manifest, exitOK, manifest[strings.Index(manifest, "---\n")+4:], ""},
		"body to body":               {"convert -f - --to json", body, exitOK, back, "is left out"},
		"manifest to lines":          {"convert -f - --to lines", small, exitOK, "Placement.Zone=z\nJob.Tasks.0.Application.DeliveryForm=LOCAL\nJob.Tasks.0.Application.Command=echo a b\nJob.Tasks.0.ComputeEnv.EnvType=MANAGED\n", ""},
		"JSON that begins otherwise": {"convert -f - --to form", sorted, exitOK, "Placement.Zone=z\n", "the cluster would refuse this"},
		"manifest to form":           {"convert -f - --to form", small, exitOK, "Placement.Zone=z&Job.Tasks.0.Application.DeliveryForm=LOCAL&Job.Tasks.0.Application.Command=echo+a+b&Job.Tasks.0.ComputeEnv.EnvType=MANAGED\n", ""},
		"what would be refused":      {"convert -f - --name x", "Placement.Zone=z", exitFailed, "", "error: nothing was written, because the cluster would refuse this:\nMissingParameter: spec.job.tasks: must have at least one task\n"},
		"form to manifest":           {"convert -f - --name x --validate=false", "Placement.Zone=z", exitOK, "apiVersion: batchcompute.dev/v1alpha1\nkind: BatchJob\nmetadata:\n  name: x\nspec:\n  placement:\n    zone: z\n  job: {}\n", "note: the cluster would refuse this: MissingParameter: spec.job.tasks: must have at least one task\n"},
		"what lines cannot hold":     {"convert -f - --to lines", strings.ReplaceAll(small, "echo a b", `a\nb`), exitFailed, "", "error: Job.Tasks.0.Application.Command has line ends, which the form lines cannot express"},
		"what no form can say":       {"convert -f - --to form", body, exitFailed, "", "error: Job.Tasks.0.ComputeEnv is empty"},
		"unknown field":              {"convert -f -", `{"Jobs": {}}`, exitFailed, "", `error: UnknownParameter: SubmitJob has no field "Jobs"; did you mean Job?`},
		"unknown manifest field":     {"convert -f -", strings.ReplaceAll(small, "envType", "envTyp"), exitFailed, "", "error: reading the BatchJob: "},
		"another kind":               {"convert -f -", "apiVersion: v1\nkind: Pod\n", exitFailed, "", "error: the manifest has no BatchJob and no ComputeEnv of batchcompute.dev/v1alpha1\n"},
		"broken YAML":                {"convert -f -", "kind: {\n", exitFailed, "", "error: reading the manifest: "},
		"two BatchJobs":              {"convert -f -", manifest + "---\n" + manifest, exitFailed, "", "error: the manifest has more than one BatchJob or ComputeEnv\n"},
		"no file":                    {"convert -f /does/not/exist", "", exitFailed, "", "error: reading: open /does/not/exist"},
		"no -f":                      {"convert", "", exitUsage, "", "Usage: kubectl batchjob convert -f FILE"},
		"an argument":                {"convert -f - x", "", exitUsage, "", "Usage:"},
		"an unknown form":            {"convert -f - --to xml", "", exitUsage, "", "Usage:"},
		"an unknown flag":            {"convert --x", "", exitUsage, "", "flag provided but not defined: -x"},
		"help of a command":          {"convert -h", "", exitOK, "", "Usage: kubectl batchjob convert -f FILE"},
		"help":                       {"help", "", exitOK, usage, ""},
		"no command":                 {"", "", exitUsage, "", usage},
		"an unknown command":         {"concert", "", exitUsage, "", "unknown command \"concert\"\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(strings.Fields(tc.args), strings.NewReader(tc.stdin), &stdout, &stderr); code != tc.wantCode {
				t.Errorf("exit code %d, want %d", code, tc.wantCode)
			}
			if diff := cmp.Diff(tc.want, stdout.String()); diff != "" {
				t.Errorf("stdout (-want +got):\n%s", diff)
			}
			if tc.wantStderr == "" && stderr.Len() > 0 || !strings.Contains(stderr.String(), tc.wantStderr) {
				t.Errorf("stderr %q, want %q", stderr.String(), tc.wantStderr)
			}
		})
	}
}

// What people write by hand reads back as what it was.
func TestManifestsReadBack(t *testing.T) {
	for _, text := range []string{"", "yes", "1", "null", "~", "a: b", "# a", "\x7f\u2028\u0085", "  a ", "a\nb\n", "\ta", "名", "'", `"`, "-", "<<"} {
		job := &v1alpha1.BatchJob{}
		job.Spec.Job.JobName = text
		data, err := orderedYAML(job)
		if err != nil {
			t.Fatal(err)
		}
		var got v1alpha1.BatchJob
		if err := yaml.UnmarshalStrict(data, &got); err != nil {
			t.Fatalf("%q: %v\n%s", text, err, data)
		}
		if got.Spec.Job.JobName != text {
			t.Errorf("%q became %q:\n%s", text, got.Spec.Job.JobName, data)
		}
	}
}

func TestFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "request.json")
	if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout bytes.Buffer
	if code := run([]string{"convert", "-f", file, "--name", "mine", "-n", "team"}, nil, &stdout, io.Discard); code != exitOK || stdout.String() != manifest {
		t.Errorf("exit code %d:\n%s", code, stdout.String())
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error)  { return 0, errors.New("broken") }
func (broken) Write([]byte) (int, error) { return 0, errors.New("broken") }

func TestBrokenStreams(t *testing.T) {
	var stderr bytes.Buffer
	if code := run([]string{"convert", "-f", "-"}, broken{}, io.Discard, &stderr); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	if code := run([]string{"convert", "-f", "-"}, strings.NewReader(body), broken{}, &stderr); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	want := "error: reading the standard input: broken\nerror: writing the result: broken\n"
	if stderr.String() != want {
		t.Errorf("got %q, want %q", stderr.String(), want)
	}
}

func TestOrderedYAMLOfOtherValues(t *testing.T) {
	data, err := orderedYAML(map[string]any{"a": nil, "b": true, "c": []int{1}, "d": []int{}})
	if want := "a: null\nb: true\nc:\n  - 1\nd: []\n"; err != nil || string(data) != want {
		t.Errorf("%v:\n%s", err, data)
	}
	if _, err := orderedYAML(make(chan int)); err == nil {
		t.Error("a channel was written")
	}
}
