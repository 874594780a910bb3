// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"batchcompute.dev/operator/api/v1alpha1"
)

// No parameter of a line is lost: it is split off, or the line is refused.
func TestSeveralParametersOnALine(t *testing.T) {
	r, err := FromBody([]byte("https://batch.tencentcloudapi.com/?Action=SubmitJob&Version=2017-03-12&<Common request parameters>&Placement.Zone=ap-guangzhou-2\n"+
		"&Job.JobDescription=test&Job.Priority= 1 \n&ClientToken=t&Region=r\n&<公共请求参数>\n"+
		"&Job.Tasks.0.Application.Command=echo a && x=1 && curl 'http://h/?a=1&b=2' & wait  \n"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	job := r.Job.Spec.Job
	got := []any{r.Job.Spec.Placement.Zone, job.JobDescription, *job.Priority, r.Job.Spec.ClientToken, job.Tasks[0].Application.Command}
	want := []any{"ap-guangzhou-2", "test", int64(1), "t", "echo a && x=1 && curl 'http://h/?a=1&b=2' & wait  "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	wantNotes := []string{`"<Common request parameters>" is a placeholder and was ignored`, `"<公共请求参数>" is a placeholder and was ignored`}
	if diff := cmp.Diff(wantNotes, r.Notes); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	r, err = FromBody([]byte("Placement.Zone=z&Job.Tasks.0.Application.Command=echo+a++&<Common+parameters>\r\n"), Options{})
	if err != nil || r.Job.Spec.Job.Tasks[0].Application.Command != "echo a  " || len(r.Notes) != 1 {
		t.Errorf("form: %+v, %v", r, err)
	}
	for _, unclear := range []string{" Job.Priority", "amp;Job.Priority", "amp; Region", " ClientToken", "job.priority", "PLACEMENT.Zone"} {
		_, err := FromBody([]byte("Placement.Zone=z\nJob.JobDescription=test&"+unclear+"=1\n"), Options{})
		if want := "InvalidParameter: line 2 has &" + unclear + "= in a value: write the parameter on a line of its own"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("&%s=: %v, want %q", unclear, err, want)
		}
	}
	for _, command := range []string{"a & Region=1 b", "curl h/?a=1&job=2", "a &job_x=1", "a && Version=2 b"} {
		r, err := FromBody([]byte("Placement.Zone=z\nJob.Tasks.0.Application.Command="+command+"\n"), Options{})
		if err != nil || r.Job.Spec.Job.Tasks[0].Application.Command != command {
			t.Errorf("%s: %v", command, err)
		}
	}
	for _, tc := range []struct{ value, want string }{
		{"a&Job.Priority=1", "has an & that would start a parameter"}, {"a&Region=1", "has an &"}, {"a\nb", "line ends"}, {"a && b&c=d ", ""},
	} {
		lines, err := Lines([]Parameter{{Key: "Job.JobName", Value: tc.value}})
		if tc.want == "" && (err != nil || string(lines) != "Job.JobName="+tc.value+"\n") || tc.want != "" && !strings.Contains(fmt.Sprint(err), tc.want) {
			t.Errorf("%q: %q, %v", tc.value, lines, err)
		}
	}
}

func unencoded(parameter int) string {
	return fmt.Sprintf("InvalidParameter: parameter %d is empty or has + or %%, and the body has spaces, so it is not URL-encoded as a whole: encode all of it, or write it as JSON", parameter)
}

// A request as the vendor's newer pages print it converts, whatever stands in its headers.
func TestHTTPRequest(t *testing.T) {
	for _, body := range []string{`{"ComputeEnv": {"EnvName": "e"}, "Placement": {"Zone": "z"}}`, "ComputeEnv.EnvName=e&Placement.Zone=z", `{"Placement": {"Zone": "z"}}`} {
		for _, end := range []string{"\n", "\r\n"} {
			head := strings.Join([]string{"POST / HTTP/1.1", "Host: batch.tencentcloudapi.com", "Authorization: TC3 Credential=AKID", "x-tc-action: CreateComputeEnv", "X-TC-Version: 2017-03-12", "<Common request parameters>", "", ""}, end)
			r, err := FromBody([]byte(head+body), Options{})
			if err != nil || r.Env == nil || r.Env.Spec.Placement.Zone != "z" {
				t.Errorf("%q: %+v, %v", body, r, err)
				continue
			}
			if want := []string{`"<Common request parameters>" is a placeholder and was ignored`}; !slices.Equal(r.Notes, want) {
				t.Errorf("notes %q", r.Notes)
			}
		}
	}
}

func TestOddBodies(t *testing.T) {
	for name, tc := range map[string]struct{ body, want string }{
		"unclear line":               {"Placement.Zone=z\nJob.Tasks.0.Application.Command=serve &Token=x run", "InvalidParameter: line 2 has &Token= in a value: write the parameter on a line of its own, or, if it belongs to the value, the body as JSON or URL-encoded"},
		"null":                       {"null", "InvalidParameter: the body must be an object, got null"},
		"a text":                     {`"x"`, "InvalidParameter: the body must be an object, got a text"},
		"a number":                   {`5`, "InvalidParameter: the body must be an object, got a number"},
		"a task that is null":        {`{"Job": {"Priority": null, "Tasks": [{"TaskName": null}, null]}}`, "InvalidParameter: Job.Tasks.1: must be an object, got null"},
		"a text that is null":        {`{"Placement": {"HostIds": ["a", null]}}`, "InvalidParameter: Placement.HostIds.1: must be a text, got null"},
		"lone high surrogate":        {`{"Job": {"JobName": "\ud83d"}}`, "InvalidParameter: the body has half a surrogate pair at byte 21; escape the whole character"},
		"lone low surrogate":         {`{"Job": {"JobName": "\\\udc00"}}`, "InvalidParameter: the body has half a surrogate pair at byte 23; escape the whole character"},
		"half a pair":                {`{"Job": {"JobName": "\ud83dx"}}`, "InvalidParameter: the body has half a surrogate pair at byte 21; escape the whole character"},
		"UTF-16":                     {"\xff\xfe{\x00}\x00", "InvalidParameter: the body must be UTF-8"},
		"another version":            {`{"Version": "2020-01-01"}`, `InvalidParameterValue: Version: must be 2017-03-12, got "2020-01-01"`},
		"another version, too":       {`Version=2017-03-13&Placement.Zone=z`, `InvalidParameterValue: Version: must be 2017-03-12, got "2017-03-13"`},
		"a version of no text":       {`{"Version": 2017}`, `InvalidParameterValue: Version: must be 2017-03-12, got ""`},
		"a field of the other":       {`{"Action": "CreateComputeEnv", "Job": {}}`, `UnknownParameter: CreateComputeEnv has no field "Job"`},
		"both":                       {`{"Job": {}, "ComputeEnv": {}}`, `UnknownParameter: SubmitJob has no field "ComputeEnv"`},
		"open quote":                 {`tccli batch SubmitJob --Job.JobName 'x`, "InvalidParameter: the command must be words that a shell can split: a quote or a bracket is unbalanced"},
		"a shell's work":             {`--Job.JobName $(date)`, "InvalidParameter: the command must not need a shell: no $, `, ;, &, |, <, > and line ends outside single quotes"},
		"no value":                   {`--Job.JobName`, "InvalidParameter: Job.JobName: must have a value"},
		"two values":                 {`--Job.JobName a b`, "InvalidParameter: the command must be options and a value for each; there is a word between them"},
		"both kinds":                 {`--Job '{}' --Placement.Zone z`, `InvalidParameter: the command must have either whole objects, as in --Job, or their fields, got "Placement.Zone" as well`},
		"no JSON":                    {`--Job x`, "InvalidParameter: Job: must be JSON"},
		"another action":             {`tccli batch DeleteJob --JobId x`, "InvalidParameterValue: Action: must be SubmitJob or CreateComputeEnv"},
		"a command of several lines": {"Placement.Zone=z\nJob.Tasks.0.Application.Command=a; \\\nb", "InvalidParameter: line 3 must be a key, = and a value; if it belongs to the value before, write the body as JSON or URL-encoded"},
		"half encoded, +":            {"Placement.Zone=z&Job.JobName=a+b&Job.Tasks.0.Application.Command=expr 1 + 1", unencoded(2) + "\n" + unencoded(3)},
		"half encoded, %":            {"Job.Tasks.0.Application.Command=echo a%20b", unencoded(1)},
		"half encoded, &&":           {"Job.Tasks.0.Application.Command=sleep 1 &&wait&x=1", unencoded(2) + "\nInvalidParameter: parameter 3 must be a key, = and a value, both UTF-8 and encoded for a URL\nUnknownParameter: SubmitJob has no field \"x\""},
		"half encoded, &":            {"&Job.Tasks.0.Application.Command=sleep 1 &", unencoded(2)},
		"headers of another action":  {"POST / HTTP/1.1\r\nX-TC-Action: DescribeJob\r\nX-TC-Version: 2020-01-01\r\n\r\n{}", "InvalidParameterValue: X-TC-Action: must be SubmitJob or CreateComputeEnv\nInvalidParameterValue: X-TC-Version: must be 2017-03-12"},
		"headers alone":              {"POST / HTTP/1.1\nX-TC-Action: SubmitJob", "MissingParameter: the body is empty"},
		"headers and the other body": {"POST / HTTP/1.1\nX-TC-Action: CreateComputeEnv\n\n{\"Job\": {}}", `UnknownParameter: CreateComputeEnv has no field "Job"`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := FromBody([]byte(tc.body), Options{}); errorOf(err) != tc.want {
				t.Errorf("got  %s\nwant %s", errorOf(err), tc.want)
			}
		})
	}
	for _, body := range []string{"\ufeff" + `{"Job": {"JobName": "\ud83d\ude00\\ud83d"}}`, "\ufeffJob.JobName=😀\\ud83d\nPlacement.Zone=z"} {
		r, err := FromBody([]byte(body), Options{})
		if err != nil || r.Job.Spec.Job.JobName != `😀\ud83d` {
			t.Errorf("%q: %+v, %v", body, r, err)
		}
	}
}

// A command of the vendor's tool converts, in both of its forms.
func TestCommandLine(t *testing.T) {
	want := `{"Placement":{"Zone":"z"},"Job":{"JobName":"n","Priority":1,"Tasks":[{"Application":{"Command":"--x 'y'","DeliveryForm":"LOCAL"}}]},"ClientToken":"5"}`
	r, err := FromBody([]byte(want), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{
		`$ tccli batch SubmitJob --cli-unfold-argument --region ap-x --Placement.Zone z \
  --Job.JobName n --Job.Priority 1 --Job.Tasks.0.Application.Command "--x 'y'" \
  --Job.Tasks.0.Application.DeliveryForm 'LOCAL' --ClientToken 5 --detail`,
		`--Placement.Zone z --Job.JobName n --Job.Priority 1 --Job.Tasks.0.Application.Command '--x '"'y'" --Job.Tasks.0.Application.DeliveryForm LOCAL --ClientToken 5`,
		`qcloudcli batch SubmitJob --Version 2017-03-12 --version 2017-03-12 --Placement '{"Zone": "z"}' --ClientToken 5 \
		--Job '{"JobName": "n", "Priority": "1",
		"Tasks": [{"Application": {"Command": "--x '"'y'"'", "DeliveryForm": "LOCAL"}}]}'`,
	} {
		got, err := FromBody([]byte(body), Options{})
		if err != nil {
			t.Errorf("%s\n%v", body, err)
			continue
		}
		if diff := cmp.Diff(r.Job, got.Job); diff != "" {
			t.Errorf("%s (-want +got):\n%s", body, diff)
		}
	}
}

const envBody = `{
  "ComputeEnv": {
    "EnvName": "Test Env",
    "DesiredComputeNodeCount": 10,
    "EnvType": "MANAGED",
    "EnvData": {
      "InstanceType": "BS1.LARGE8",
      "ImageId": "img-m4q71qnf",
      "InternetAccessible": {
        "PublicIpAssigned": true,
        "IPv4AddressType": "WanIP"
      },
      "LoginSettings": {
        "Password": "B1[habcd"
      }
    },
    "MountDataDisks": [
      {
        "LocalPath": "/data"
      }
    ],
    "Authentications": [
      {
        "Scene": "COS",
        "SecretId": "an-id",
        "SecretKey": "a key"
      }
    ],
    "Notifications": [
      {
        "TopicName": "t",
        "EventConfigs": [
          {
            "EventName": "COMPUTE_ENV_CREATED",
            "EventVars": [
              {
                "Name": "n",
                "Value": ""
              }
            ]
          }
        ]
      }
    ],
    "ActionIfComputeNodeInactive": "RECREATE"
  },
  "Placement": {
    "Zone": "ap-guangzhou-2"
  },
  "ClientToken": "token"
}
`

// CreateComputeEnv converts as SubmitJob does, in every form, and back.
func TestCreateComputeEnv(t *testing.T) {
	r, err := FromBody([]byte(envBody), Options{Namespace: "team"})
	if err != nil {
		t.Fatal(err)
	}
	env := r.Env
	if r.Job != nil || env == nil || env.Kind != "ComputeEnv" || !strings.HasPrefix(env.Name, "test-env-") || env.Namespace != "team" {
		t.Fatalf("%+v", r)
	}
	if s := env.Spec; s.ClientToken != "token" || s.Placement.Zone != "ap-guangzhou-2" || *s.DesiredComputeNodeCount != 10 || s.Authentications[0].SecretKeySecretRef.Name != env.Name+"-key" {
		t.Errorf("%+v", s)
	}
	if len(r.Secrets) != 2 || r.Secrets[0].Name != env.Name+"-login" || r.Secrets[0].Labels[v1alpha1.LabelCredentialsOf] != env.Name || r.Secrets[1].StringData["secretKey"] != "a key" {
		t.Errorf("%+v", r.Secrets)
	}
	checkRoundTrip(t, r)
	body, notes := ToJSON(r)
	want := strings.NewReplacer("\n        \"Password\": \"B1[habcd\"\n      ", "", ",\n        \"SecretKey\": \"a key\"", "").Replace(envBody)
	if diff := cmp.Diff(want, string(body)); diff != "" || len(notes) != 2 || !strings.Contains(notes[0], "a ComputeEnv has it in a Secret") {
		t.Errorf("(-want +got):\n%s\n%v", diff, notes)
	}
	single := strings.NewReplacer("\"Notifications\": [\n      {", "\"Notifications\": {", "        ]\n      }\n    ],\n    \"Action", "        ]\n      },\n    \"Action").Replace(envBody)
	spaced := "https://h/?Action=CreateComputeEnv&Signature=a%2Bb&ComputeEnv.EnvName=Test Env&ComputeEnv.Notifications.EventConfigs.0.EventName=COMPUTE_ENV_CREATED"
	flat := "Action=CreateComputeEnv\n&ComputeEnv.EnvName=Test Env\nComputeEnv.Notifications.TopicName=t\nComputeEnv.Notifications.EventConfigs.0.EventName=COMPUTE_ENV_CREATED"
	for _, body := range []string{single, spaced, flat, strings.ReplaceAll(strings.ReplaceAll(flat, "\n", "&"), " ", "+")} {
		got, err := FromBody([]byte(body), Options{})
		if err != nil || got.Env == nil || got.Env.Spec.EnvName != "Test Env" || got.Env.Spec.Notifications[0].EventConfigs[0].EventName != "COMPUTE_ENV_CREATED" {
			t.Errorf("%s\n%+v, %v", body, got, err)
		}
	}
	got, err := FromBody([]byte(`tccli batch CreateComputeEnv --version 2017-03-12 --ComputeEnv '{"EnvName": "e"}' --Placement '{"Zone": "z"}'`), Options{})
	if err != nil || got.Env == nil || got.Env.Spec.EnvName != "e" || got.Env.Spec.Placement.Zone != "z" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, _, err := ToParameters(&Request{Env: &v1alpha1.ComputeEnv{Spec: v1alpha1.ComputeEnvSpec{ClientToken: "t"}}}); fmt.Sprint(err) != "ComputeEnv is empty, which the flattened form cannot express; write JSON" {
		t.Errorf("%v", err)
	}
}

func TestPropertyComputeEnvRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		env := &v1alpha1.ComputeEnv{}
		_, spec := (&Request{Env: env}).action()
		fill(t, spec)
		checkRoundTrip(t, &Request{Env: env})
	})
}
