// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"batchcompute.dev/operator/internal/params"
)

// paramsOf decodes a JSON body, or a form, for an action.
func paramsOf(t *testing.T, action, body string) *params.Object {
	t.Helper()
	if body[0] == '{' {
		o, err := params.FromJSON(action, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	list, err := params.ParseQuery(body)
	if err != nil {
		t.Fatal(err)
	}
	o, err := params.FromParameters(action, list)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// Parameters are converted as the same body is.
func TestFromParams(t *testing.T) {
	for action, bodies := range map[string][]string{
		"SubmitJob": {
			`{"Placement": {"Zone": "z"}, "Job": {"JobName": "n", "Tasks": [{"TaskName": "a", "Authentications": [{"SecretKey": "k"}]}]}, "ClientToken": "t"}`,
			"Placement.Zone=z&Job.JobName=n&Job.Tasks.0.TaskName=a&Job.Tasks.0.Authentications.0.SecretKey=k&ClientToken=t&Action=SubmitJob&Version=2017-03-12",
		},
		"CreateComputeEnv": {
			`{"Placement": {"Zone": "z"}, "ComputeEnv": {"EnvName": "n", "DesiredComputeNodeCount": 2}}`,
			"Placement.Zone=z&ComputeEnv.EnvName=n&ComputeEnv.DesiredComputeNodeCount=2&Nonce=0",
		},
	} {
		for _, body := range bodies {
			o := Options{Name: "x", Namespace: "ns"}
			want, err := FromBody([]byte(body), o)
			if err != nil {
				t.Fatal(err)
			}
			got, err := FromParams(paramsOf(t, action, body), o)
			if err != nil {
				t.Fatalf("%s: %v", body, err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", body, diff)
			}
		}
	}
	for body, want := range map[string]string{
		`{"Job": {"Taskz": []}}`:            "UnknownParameter: Job: has no field \"Taskz\"; did you mean Tasks?",
		"Job.Priority=1.5":                  "InvalidParameter: Job.Priority: must be a whole number, got \"1.5\"",
		`{"ComputeEnv": {}, "Action": "X"}`: "UnknownParameter: SubmitJob has no field \"ComputeEnv\"\nInvalidParameterValue: Action: must be SubmitJob or CreateComputeEnv",
	} {
		if got, err := FromParams(paramsOf(t, "SubmitJob", body), Options{}); got != nil || fmt.Sprint(err) != want {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestTaskFromParams(t *testing.T) {
	type request struct{ TaskTemplateInfo *params.Object }
	for _, body := range []string{
		`{"TaskTemplateInfo": {"TaskName": "a", "Application": {"Docker": {"User": "u", "Password": "p", "Image": "i"}}, "MaxRetryCount": 1}}`,
		"TaskTemplateInfo.MaxRetryCount=1&TaskTemplateInfo.TaskName=a&TaskTemplateInfo.Application.Docker.User=u&" +
			"TaskTemplateInfo.Application.Docker.Image=i&TaskTemplateInfo.Application.Docker.Password=p",
	} {
		var r request
		if err := paramsOf(t, "CreateTaskTemplate", body).Decode(&r); err != nil {
			t.Fatal(err)
		}
		task, secrets, err := TaskFromParams(r.TaskTemplateInfo, Options{Name: "tmpl", Namespace: "ns"})
		if err != nil {
			t.Fatal(err)
		}
		if task.TaskName != "a" || *task.MaxRetryCount != 1 || len(secrets) != 1 || secrets[0].Name != "tmpl-registry" || secrets[0].Namespace != "ns" ||
			task.Application.Docker.PasswordSecretRef.Name != "tmpl-registry" {
			t.Errorf("%s: %+v, %+v", body, task, secrets)
		}
	}
	var r request
	if err := paramsOf(t, "CreateTaskTemplate", `{"TaskTemplateInfo": {"TaskNam": "a"}}`).Decode(&r); err != nil {
		t.Fatal(err)
	}
	if _, _, err := TaskFromParams(r.TaskTemplateInfo, Options{}); fmt.Sprint(err) != "UnknownParameter: TaskTemplateInfo: has no field \"TaskNam\"; did you mean TaskName?" {
		t.Error(err)
	}
}
