// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/params"
	"batchcompute.dev/operator/internal/validation"
)

// ignoreSecretNames compares references by whether they are there.
var ignoreSecretNames = cmp.Comparer(func(a, b v1alpha1.SecretRef) bool { return true })

// The bodies of the API's pages become the manifests that validation is tested with.
func TestBodiesOfThePages(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no bodies: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			body, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			manifest, err := os.ReadFile("../validation/testdata/requests/" + name + ".yaml")
			if err != nil {
				t.Fatal(err)
			}
			want := &v1alpha1.BatchJob{}
			if err := yaml.UnmarshalStrict(manifest, want); err != nil {
				t.Fatal(err)
			}
			got, err := FromBody(body, Options{})
			if err != nil {
				t.Fatal(err)
			}
			// The manifest has an identifier that is none of the placeholders of the page.
			for i := range got.Job.Spec.Job.Tasks {
				for k := range got.Job.Spec.Job.Tasks[i].Authentications {
					got.Job.Spec.Job.Tasks[i].Authentications[k].SecretID = "an-id"
				}
			}
			if diff := cmp.Diff(want.Spec, got.Job.Spec, ignoreSecretNames); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			checkRoundTrip(t, got)
		})
	}
}

// checkRoundTrip writes a request in every form and reads it back. References to Secrets are
// not written.
func checkRoundTrip(t interface {
	Helper()
	Fatalf(string, ...any)
}, r *Request) {
	t.Helper()
	want := withoutRefs(r)
	body, notes := ToJSON(r)
	if len(notes) != countRefs(r) {
		t.Fatalf("%d notes for %d references: %v", len(notes), countRefs(r), notes)
	}
	again := func(form string, body []byte) {
		t.Helper()
		got, err := FromBody(body, Options{})
		if err != nil {
			t.Fatalf("reading back: %v\n%s", err, body)
		}
		if diff := cmp.Diff(specOf(want), specOf(got), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%s (-want +got):\n%s\n%q", form, diff, body)
		}
	}
	again("JSON", body)
	params, flatNotes, err := ToParameters(r)
	if err != nil {
		return // a request that the form cannot carry
	}
	if diff := cmp.Diff(notes, flatNotes); diff != "" {
		t.Fatalf("notes (-json +flattened):\n%s", diff)
	}
	if len(params) == 0 {
		return // an empty request
	}
	again("form", []byte(Form(params)))
	if lines, err := Lines(params); err == nil && len(params) > 1 {
		again("lines", lines)
	}
}

func specOf(r *Request) any {
	_, spec := r.action()
	return spec.Interface()
}

func withoutRefs(r *Request) *Request {
	r = &Request{Job: r.Job.DeepCopy(), Env: r.Env.DeepCopy()}
	eachRef(r, func(ref **v1alpha1.SecretRef) { *ref = nil })
	return r
}

func countRefs(r *Request) (n int) {
	eachRef(r, func(**v1alpha1.SecretRef) { n++ })
	return n
}

func eachRef(r *Request, do func(ref **v1alpha1.SecretRef)) {
	_, spec := r.action()
	walk(spec, func(v reflect.Value) {
		if ref, ok := v.Addr().Interface().(**v1alpha1.SecretRef); ok && *ref != nil {
			do(ref)
		}
	})
}

// walk visits every value below v, outer ones first.
func walk(v reflect.Value, visit func(reflect.Value)) {
	visit(v)
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			walk(v.Field(i), visit)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			walk(v.Elem(), visit)
		}
	case reflect.Slice:
		for i := range v.Len() {
			walk(v.Index(i), visit)
		}
	}
}

// drawSpec draws any spec: every field absent, empty or filled, lists of up to 3 items.
func drawSpec(t *rapid.T) *v1alpha1.BatchJobSpec {
	spec := &v1alpha1.BatchJobSpec{}
	fill(t, reflect.ValueOf(spec).Elem())
	return spec
}

func fill(t *rapid.T, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type() == reflect.TypeFor[v1alpha1.Task]() && v.Type().Field(i).Name == "TaskTemplate" {
				continue // the API has no such field
			}
			fill(t, v.Field(i))
		}
	case reflect.Pointer:
		if v.Type() == reflect.TypeFor[*v1alpha1.KubernetesOptions]() {
			return // the API has no such field
		}
		if rapid.Bool().Draw(t, "given") {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem())
		}
	case reflect.Slice:
		if n := rapid.IntRange(-1, 3).Draw(t, "items"); n >= 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				fill(t, v.Index(i))
			}
		}
	case reflect.String:
		s := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "1", "true", "a=b&c=%41+", "\n\r\t <&>\u2028\x00", "{}"})).Draw(t, "text")
		v.SetString(strings.ToValidUTF8(s, "?"))
	case reflect.Int64:
		v.SetInt(rapid.Int64().Draw(t, "number"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "switch"))
	default:
		t.Fatalf("cannot fill %s", v.Type())
	}
}

func TestPropertyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		checkRoundTrip(t, &Request{Job: &v1alpha1.BatchJob{Spec: *drawSpec(t)}})
	})
}

// Numbers and switches may stand as texts; null is absent; common parameters are passed
// over; the names that no rule makes are read.
func TestLiberties(t *testing.T) {
	want := &v1alpha1.BatchJobSpec{ClientToken: "t"}
	want.Placement.Zone, want.Placement.HostIPs = "z", []string{"10.0.0.1"}
	want.Job.Priority = new(int64(1))
	want.Job.Tasks = []v1alpha1.Task{{
		TaskInstanceNum: new(int64(-2)), RestartComputeNode: new(true),
		ComputeEnv: &v1alpha1.AnonymousComputeEnv{EnvData: &v1alpha1.EnvData{
			InstanceTypes:       []string{"a", "b"},
			InstanceTypeOptions: &v1alpha1.InstanceTypeOptions{CPU: new(int64(8)), Memory: new(int64(0))},
			InternetAccessible:  &v1alpha1.InternetAccessible{PublicIPAssigned: new(false)},
		}},
		EnvVars: []v1alpha1.EnvVar{{Name: "E"}},
	}}
	for name, body := range map[string]string{
		"JSON": `{"Action": "SubmitJob", "Version": "2017-03-12", "Region": "r", "ClientToken": "t", "Placement": {"Zone": "z", "HostIps": ["10.0.0.1"], "ProjectId": null},
			"Job": {"Priority": "1", "Dependences": null, "Tasks": [{"TaskInstanceNum": -2, "EnvId": "", "RestartComputeNode": "TRUE",
			"EnvVars": [{"Name": "E", "Value": ""}], "RedirectInfo": null, "ComputeEnv": {"EnvData": {"InstanceTypes": ["a", "b"],
			"InstanceTypeOptions": {"CPU": "8", "Memory": 0}, "InternetAccessible": {"PublicIpAssigned": "False"}}}}]}}`,
		"form": "Nonce=1&Timestamp=2&SecretId=x&Signature=y&SignatureMethod=HmacSHA256&Language=en-US&RequestClient=SDK_GO_1.0.162&Version=2017-03-12&Region=r&Action=SubmitJob&Token=" +
			"&ClientToken=t&Placement.Zone=z&Placement.HostIps.0=10.0.0.1&Job.Priority=1&Job.Tasks.0.TaskInstanceNum=-2&Job.Tasks.0.RestartComputeNode=true" +
			"&Job.Tasks.0.EnvVars.0.Name=E&Job.Tasks.0.ComputeEnv.EnvData.InstanceTypes.1=b&Job.Tasks.0.ComputeEnv.EnvData.InstanceTypes.0=a&" +
			"&Job.Tasks.0.ComputeEnv.EnvData.InstanceTypeOptions.CPU=8&Job.Tasks.0.ComputeEnv.EnvData.InstanceTypeOptions.Memory=0" +
			"&Job.Tasks.0.ComputeEnv.EnvData.InternetAccessible.PublicIpAssigned=FALSE",
		"lines": `
			https://batch.tencentcloudapi.com/?Action=SubmitJob
			&ClientToken=t
			&Placement.Zone=z
			Placement.HostIps.0=10.0.0.1

			&Job.Priority=1
			Job.Tasks.0.TaskInstanceNum=-2
			Job.Tasks.0.RestartComputeNode=true
			Job.Tasks.0.EnvVars.0.Name=E
			Job.Tasks.0.EnvVars.0.Value=
			Job.Tasks.0.ComputeEnv.EnvData.InstanceTypes.0=a
			Job.Tasks.0.ComputeEnv.EnvData.InstanceTypes.1=b
			Job.Tasks.0.ComputeEnv.EnvData.InstanceTypeOptions.CPU=8
			Job.Tasks.0.ComputeEnv.EnvData.InstanceTypeOptions.Memory=0
			Job.Tasks.0.ComputeEnv.EnvData.InternetAccessible.PublicIpAssigned=false`,
		"query": "https://batch.tencentcloudapi.com/?Action=SubmitJob&ClientToken=t&Placement.Zone=z&Placement.HostIps.0=10.0.0.1&Job.Priority=1" +
			"&Job.Tasks.0.TaskInstanceNum=-2&Job.Tasks.0.RestartComputeNode=true&Job.Tasks.0.EnvVars.0.Name=E" +
			"&Job.Tasks.0.ComputeEnv.EnvData.InstanceTypes.0=a&Job.Tasks.0.ComputeEnv.EnvData.InstanceTypes.1=b" +
			"&Job.Tasks.0.ComputeEnv.EnvData.InstanceTypeOptions.CPU=8&Job.Tasks.0.ComputeEnv.EnvData.InstanceTypeOptions.Memory=0" +
			"&Job.Tasks.0.ComputeEnv.EnvData.InternetAccessible.PublicIpAssigned=false",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := FromBody([]byte(body), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(*want, got.Job.Spec, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestValuesOfForms(t *testing.T) {
	const command = "Job.Tasks.0.Application.Command="
	for name, tc := range map[string]struct{ body, want string }{
		"encoded":          {command + "echo+a%3Db+%26%26+x", "echo a=b && x"},
		"an equals sign":   {command + "A=b", "A=b"},
		"lines are as is":  {command + "echo a+b %41 && x=1\nPlacement.Zone=z", "echo a+b %41 && x=1"},
		"carriage returns": {command + "a\r\nPlacement.Zone=z\r\n", "a"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := FromBody([]byte(tc.body), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if got := got.Job.Spec.Job.Tasks[0].Application.Command; got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestProblems(t *testing.T) {
	for name, tc := range map[string]struct {
		body string
		want []string
	}{
		"nothing":   {" \n", []string{"MissingParameter: the body is empty"}},
		"not UTF-8": {"Job.JobName=\xff", []string{"InvalidParameter: the body must be UTF-8"}},
		"list":      {"[]", []string{"InvalidParameter: the body must be an object, got a list"}},
		"cut off":   {`{"Job": {`, []string{"InvalidParameter: the body is no valid JSON: it ends too early at byte 9"}},
		"cut off in a list": {`{"Job": {"Tasks": [{`, []string{
			"InvalidParameter: the body is no valid JSON: it ends too early at byte 20",
		}},
		"cut off in what is skipped":          {`{"x": [{`, []string{`UnknownParameter: SubmitJob has no field "x"`, "InvalidParameter: the body is no valid JSON: it ends too early at byte 8"}},
		"cut off before what is skipped":      {`{"x":`, []string{`UnknownParameter: SubmitJob has no field "x"`, "InvalidParameter: the body is no valid JSON: it ends too early at byte 5"}},
		"cut off before a common parameter":   {`{"Action":`, []string{"InvalidParameter: the body is no valid JSON: it ends too early at byte 10"}},
		"a bad character":                     {`{"Job" secret}`, []string{"InvalidParameter: the body is no valid JSON: a character is out of place at byte 7"}},
		"a bad key":                           {`{secret: 1}`, []string{"InvalidParameter: the body is no valid JSON: a character is out of place at byte 1"}},
		"something behind":                    {`{} {}`, []string{"InvalidParameter: the body is no valid JSON: must end after the first value at byte 4"}},
		"another action":                      {`{"Action": "DeleteJob"}`, []string{"InvalidParameterValue: Action: must be SubmitJob or CreateComputeEnv"}},
		"another action in a form":            {"Action=DeleteJob&Placement.Zone=z", []string{"InvalidParameterValue: Action: must be SubmitJob or CreateComputeEnv"}},
		"unknown at the top, in other case":   {`{"job": {}}`, []string{`UnknownParameter: SubmitJob has no field "job"; did you mean Job?`}},
		"an action is common only at the top": {`{"Job": {"Action": 1}}`, []string{`UnknownParameter: Job: has no field "Action"`}},
		"unknown fields": {
			`{"Placement": {"Zone": "z", "Zones": []}, "Job": {"Tasks": [{"TaskNane": {"a": [1, {"b": null}]}, "x\u202e": 1}]}}`,
			[]string{
				`UnknownParameter: Placement: has no field "Zones"; did you mean Zone?`,
				`UnknownParameter: Job.Tasks.0: has no field "TaskNane"; did you mean TaskName?`,
				`UnknownParameter: Job.Tasks.0: has no field "x\u202e"`,
			},
		},
		"wrong types": {
			`{"Placement": [], "Job": {"JobName": 1, "Priority": true, "Tasks": {}, "Dependences": ["a"], "Tags": "x"}, "ClientToken": {}}`,
			[]string{
				"InvalidParameter: Placement: must be an object, got a list",
				"InvalidParameter: Job.JobName: must be a text, got a number",
				"InvalidParameter: Job.Priority: must be a whole number, got true or false",
				"InvalidParameter: Job.Tasks: must be a list, got an object",
				"InvalidParameter: Job.Dependences.0: must be an object, got a text",
				"InvalidParameter: Job.Tags: must be a list, got a text",
				"InvalidParameter: ClientToken: must be a text, got an object",
			},
		},
		"numbers and switches": {
			`{"Job": {"Priority": 1.0, "Tasks": [{"TaskInstanceNum": "many", "Timeout": 9223372036854775808, "RestartComputeNode": "yes", "MaxRetryCount": {}}, {"RestartComputeNode": 1}]}}`,
			[]string{
				`InvalidParameter: Job.Priority: must be a whole number, got "1.0"`,
				`InvalidParameter: Job.Tasks.0.TaskInstanceNum: must be a whole number, got "many"`,
				`InvalidParameter: Job.Tasks.0.Timeout: must be a whole number, got "9223372036854775808"`,
				"InvalidParameter: Job.Tasks.0.RestartComputeNode: must be true or false, got another text",
				"InvalidParameter: Job.Tasks.0.MaxRetryCount: must be a whole number, got an object",
				"InvalidParameter: Job.Tasks.1.RestartComputeNode: must be true or false, got a number",
			},
		},
		"a password is never repeated": {
			`{"Job": {"Tasks": [{"Application": {"Docker": {"Password": ["secret"]}}}, {"Application": {"Docker": {"Password": 5}}}]}}`,
			[]string{
				"InvalidParameter: Job.Tasks.0.Application.Docker.Password: must be a text, which becomes a Secret, got a list",
				"InvalidParameter: Job.Tasks.1.Application.Docker.Password: must be a text, which becomes a Secret, got a number",
			},
		},
		"given twice": {
			`{"Placement": {"Zone": "a", "Zone": ["b"]}}`,
			[]string{"InvalidParameter: Placement.Zone: must be given once"},
		},
		"the types' own names are none of the API": {
			`{"Job": {"Tasks": [{"Application": {"Docker": {"PasswordSecretRef": {"name": "x"}}}}]}}`,
			[]string{`UnknownParameter: Job.Tasks.0.Application.Docker: has no field "PasswordSecretRef"`},
		},
		"form given twice": {"Placement.Zone=a&Placement.Zone=b", []string{"InvalidParameter: Placement.Zone: must be given once"}},
		"form not encoded": {"Placement.Zone=%zz&x%&a", []string{
			"InvalidParameter: parameter 1 must be a key, = and a value, both UTF-8 and encoded for a URL",
			"InvalidParameter: parameter 2 must be a key, = and a value, both UTF-8 and encoded for a URL",
			"InvalidParameter: parameter 3 must be a key, = and a value, both UTF-8 and encoded for a URL",
		}},
		"form not UTF-8":       {"Placement.Zone=%ff", []string{"InvalidParameter: parameter 1 must be a key, = and a value, both UTF-8 and encoded for a URL"}},
		"lines without a sign": {"Placement.Zone=z\nsecret\n", []string{"InvalidParameter: line 2 must be a key, = and a value; if it belongs to the value before, write the body as JSON or URL-encoded"}},
		"paths": {
			"=x&Job=x&Job.Tasks=x&Job.Tasks.0=x&Job.Tasks.=x&Job.=x&Job.JobName.x=x&Job.JobName.=x&Job.Tasks.N.TaskName=x&Job.Tasks.01.TaskName=x" +
				"&Job.Tasks.-1.TaskName=x&Job.Tasks.99999999999.TaskName=x&Job.Taskz.0.TaskName=x",
			[]string{
				"InvalidParameter: the body must be an object, got a text",
				"InvalidParameter: Job: must be an object, got a text",
				"InvalidParameter: Job.Tasks: must be a list, got a text",
				"InvalidParameter: Job.Tasks.0: must be an object, got a text",
				"InvalidParameter: Job.Tasks: must be a list, got a text",
				"InvalidParameter: Job: must be an object, got a text",
				"InvalidParameter: Job.JobName: must be a text, got an object",
				"InvalidParameter: Job.JobName: must be a text, got an object",
				`InvalidParameter: Job.Tasks: must be followed by the position of an item, such as 0, got "N"`,
				`InvalidParameter: Job.Tasks: must be followed by the position of an item, such as 0, got "01"`,
				`InvalidParameter: Job.Tasks: must be followed by the position of an item, such as 0, got "-1"`,
				`InvalidParameter: Job.Tasks: must be followed by the position of an item, such as 0, got "99999999999"`,
				`UnknownParameter: Job: has no field "Taskz"; did you mean Tasks?`,
			},
		},
		"a gap": {
			"Job.Tasks.2.TaskName=x&Job.Tasks.0.TaskName=x&Job.Tasks.2000000000.TaskName=x",
			[]string{
				"InvalidParameter: Job.Tasks: must have items from 0 on without a gap: item 1 is missing",
				"InvalidParameter: Job.Tasks: must have items from 0 on without a gap: item 1 is missing",
			},
		},
		"form of wrong types": {
			"Job.Priority=high&Job.Tasks.0.RestartComputeNode=1",
			[]string{
				`InvalidParameter: Job.Priority: must be a whole number, got "high"`,
				"InvalidParameter: Job.Tasks.0.RestartComputeNode: must be true or false, got another text",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := FromBody([]byte(tc.body), Options{})
			if diff := cmp.Diff(tc.want, strings.Split(errorOf(err), "\n")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			var problems Problems
			if !errors.As(err, &problems) {
				t.Errorf("the error is a %T", err)
			}
		})
	}
}

func errorOf(err error) string {
	if err == nil {
		return "no error"
	}
	return err.Error()
}

func TestProblemsAreBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"a": 1`)
	for i := range 100_000 {
		fmt.Fprintf(&b, `, "Jobb%d": %s`, i, "{}")
	}
	b.WriteString("}")
	_, err := FromBody([]byte(b.String()), Options{})
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != MaxProblems {
		t.Errorf("%d problems", len(problems))
	}
	// What is nested deeper than any type is passed over without recursion.
	deep := `{"x": ` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + "}"
	if _, err := FromBody([]byte(deep), Options{}); errorOf(err) != `UnknownParameter: SubmitJob has no field "x"` {
		t.Errorf("%.200s", errorOf(err))
	}
	long := "Job." + strings.Repeat("a.", 1<<19) + "=x"
	if _, err := FromBody([]byte(long), Options{}); len(errorOf(err)) > 200 {
		t.Errorf("an error of %d bytes", len(errorOf(err)))
	}
}

func TestSecrets(t *testing.T) {
	body := `{"Job": {"JobName": "My Job!", "Tasks": [
		{"Application": {"Docker": {"User": "u", "Password": "p1", "Image": "r.example/a"}}, "Authentications": [{"Scene": "COS", "SecretId": "i", "SecretKey": "k1"}, {"SecretKey": "k2"}]},
		{"Application": {"Docker": {"User": "u", "Password": "p1", "Image": "r.example/b"}}, "Authentications": [{"SecretKey": "k1"}]},
		{"Application": {"Docker": {"User": "u", "Password": "p1", "Image": "busybox"}}},
		{"Application": {"Docker": {"User": "u", "Password": "p1", "Image": "localhost/x", "Server": "s.example:5000"}}},
		{"Application": {"Docker": {"User": "u", "Password": "", "Image": "team/x"}}, "ComputeEnv": {"EnvData": {"LoginSettings": {"Password": "k1"}}}},
		{"Application": {"Docker": {"User": "u", "Password": "p1", "Image": "localhost/x"}}, "ComputeEnv": {"EnvData": {}}}]}}`
	r, err := FromBody([]byte(body), Options{Namespace: "n"})
	if err != nil {
		t.Fatal(err)
	}
	name := r.Job.Name
	if !strings.HasPrefix(name, "my-job-") || len(name) != len("my-job-")+hashLength {
		t.Errorf("name %q", name)
	}
	var got []string
	for _, s := range r.Secrets {
		if s.Namespace != "n" || s.Kind != "Secret" || s.APIVersion != "v1" {
			t.Errorf("secret %+v", s)
		}
		for entry, value := range s.StringData {
			got = append(got, strings.TrimPrefix(s.Name, name)+" "+string(s.Type)+" "+entry+" "+value)
		}
	}
	config := func(server string) string {
		return fmt.Sprintf(`%s %s {"auths":{"%s":{"username":"u","password":"p1","auth":"dTpwMQ=="}}}`, corev1.SecretTypeDockerConfigJson, corev1.DockerConfigJsonKey, server)
	}
	want := []string{
		"-registry " + config("r.example"),
		"-key Opaque secretKey k1",
		"-key-2 Opaque secretKey k2",
		"-registry-2 " + config("https://index.docker.io/v1/"),
		"-registry-3 " + config("s.example:5000"),
		"-login Opaque password k1",
		"-registry-4 " + config("localhost"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("secrets (-want +got):\n%s", diff)
	}
	var refs []string
	eachRef(r, func(ref **v1alpha1.SecretRef) { refs = append(refs, strings.TrimPrefix((*ref).Name, name)) })
	wantRefs := []string{"-registry", "-key", "-key-2", "-registry", "-key", "-registry-2", "-registry-3", "-login", "-registry-4"}
	if diff := cmp.Diff(wantRefs, refs); diff != "" {
		t.Errorf("references (-want +got):\n%s", diff)
	}
	if spec, err := json.Marshal(r.Job); err != nil || strings.Contains(string(spec), "p1") || strings.Contains(string(spec), "k1") {
		t.Errorf("the job has a credential: %s", spec)
	}
	_, notes := ToJSON(r)
	if len(notes) != len(wantRefs) || notes[1] != `Job.Tasks.0.Authentications.0.SecretKey is left out; a BatchJob has it in a Secret, here "`+name+`-key"` {
		t.Errorf("notes %v", notes)
	}
}

// Every reference that the types have is one that makeSecrets knows: with a credential in
// each, every reference ends up with the name of a Secret.
func TestEveryReferenceGetsASecret(t *testing.T) {
	var count func(s *params.Shape) int
	count = func(s *params.Shape) int {
		switch s.Kind {
		case params.KindSecret:
			return 1
		case params.KindList:
			return count(s.Item)
		}
		n := 0
		for _, f := range s.Fields {
			n += count(f.Shape)
		}
		return n
	}
	body := `{"Job": {"Tasks": [{"Application": {"Docker": {"Password": "a"}}, "Authentications": [{"SecretKey": "b"}], "ComputeEnv": {"EnvData": {"LoginSettings": {"Password": "c"}}}}]}}`
	r, err := FromBody([]byte(body), Options{Name: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if got := count(submitJob.shape); got != len(r.Secrets) || got != countRefs(r) {
		t.Errorf("the types have %d references, %d became Secrets", got, len(r.Secrets))
	}
}

func TestNames(t *testing.T) {
	for jobName, want := range map[string]string{
		"": "batchjob-", "任务": "batchjob-", "--A__b..": "a-b-", strings.Repeat("x", 60): strings.Repeat("x", 40) + "-", strings.Repeat("x", 39) + " y": strings.Repeat("x", 39) + "-",
	} {
		body := []byte(`{"Job": {"JobName": "` + jobName + `"}}`)
		r, err := FromBody(body, Options{})
		if err != nil {
			t.Fatal(err)
		}
		again, err := FromBody(body, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(r.Job.Name, want) || len(r.Job.Name) != len(want)+hashLength || again.Job.Name != r.Job.Name {
			t.Errorf("%q: %q, then %q, want %q and a hash", jobName, r.Job.Name, again.Job.Name, want)
		}
	}
	r, err := FromBody([]byte(`{"Job": {"JobName": "x"}}`), Options{Name: "mine"})
	if err != nil || r.Job.Name != "mine" {
		t.Errorf("%v, %v", r, err)
	}
}

// The hash in a name must not help to guess a password.
func TestNameSaysNothingOfCredentials(t *testing.T) {
	name := func(password string) string {
		r, err := FromBody([]byte(`{"Job": {"Tasks": [{"Application": {"Docker": {"Password": "`+password+`"}}}]}}`), Options{})
		if err != nil {
			t.Fatal(err)
		}
		return r.Job.Name
	}
	if name("a") != name("b") {
		t.Error("two passwords make two names")
	}
}

func TestFlattenedFormCannotSayEverything(t *testing.T) {
	for want, edit := range map[string]func(*v1alpha1.BatchJob){
		"Job.Tasks.0":            func(j *v1alpha1.BatchJob) {},
		"Job.Tasks.0.ComputeEnv": func(j *v1alpha1.BatchJob) { j.Spec.Job.Tasks[0].ComputeEnv = &v1alpha1.AnonymousComputeEnv{} },
		"Placement.HostIds.1":    func(j *v1alpha1.BatchJob) { j.Spec.Placement.HostIDs = []string{"a", ""} },
	} {
		job := &v1alpha1.BatchJob{}
		job.Spec.Job.Tasks = make([]v1alpha1.Task, 1)
		edit(job)
		if _, _, err := ToParameters(&Request{Job: job}); errorOf(err) != want+" is empty, which the flattened form cannot express; write JSON" {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// The names are derived, so what they come out as is held here: the API's spelling of
// every field that has an unusual one.
func TestAPINames(t *testing.T) {
	var names []string
	var list1 func(path string, s *params.Shape)
	list1 = func(path string, s *params.Shape) {
		if s.Kind == params.KindList {
			s, path = s.Item, path+".N"
		}
		for _, f := range s.Fields {
			names = append(names, params.Join(path, f.Name))
			list1(params.Join(path, f.Name), f.Shape)
		}
	}
	list1("", submitJob.shape)
	all := strings.Join(names, "\n") + "\n"
	for _, name := range []string{
		"Placement.HostIps", "Placement.ProjectId", "ClientToken", "Job.Tasks.N.EnvId", "Job.Tasks.N.Application.Docker.Password",
		"Job.Tasks.N.Authentications.N.SecretKey", "Job.Tasks.N.ComputeEnv.EnvData.InstanceTypeOptions.CPU", "Job.Tasks.N.ComputeEnv.EnvData.ImageId",
		"Job.Tasks.N.ComputeEnv.EnvData.LoginSettings.Password", "Job.Tasks.N.ComputeEnv.EnvData.VirtualPrivateCloud.Ipv6AddressCount",
		"Job.Tasks.N.ComputeEnv.EnvData.VirtualPrivateCloud.AsVpcGateway", "Job.Tasks.N.ComputeEnv.EnvData.InternetAccessible.PublicIpAssigned",
		"Job.Tasks.N.ComputeEnv.EnvData.DataDisks.N.KmsKeyId", "Job.Tasks.N.ComputeEnv.EnvData.EnhancedService.MonitorService.Enabled",
		"Job.Notifications.N.EventConfigs.N.EventVars.N.Name", "Job.StateIfCreateCvmFailed",
	} {
		if !strings.Contains(all, name+"\n") {
			t.Errorf("no field %s", name)
		}
	}
	if strings.Contains(all, secretSuffix) {
		t.Errorf("a reference is written as such:\n%s", all)
	}
}

// A field that the API does not have is neither read nor written.
func TestExceptionsLeaveFieldsOut(t *testing.T) {
	type other struct {
		Suspend bool   `json:"suspend,omitempty"`
		Name    string `json:"name,omitempty"`
	}
	exceptions[reflect.TypeFor[other]()] = map[string]string{"suspend": ""}
	defer delete(exceptions, reflect.TypeFor[other]())
	s := shapeOf(reflect.TypeFor[other]())
	if diff := cmp.Diff([]string{"Name"}, s.Names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var got other
	d := &params.Decoder{Shape: s}
	d.Parameters([]Parameter{{Key: "Name", Value: "n"}}, reflect.ValueOf(&got).Elem())
	if got.Name != "n" || len(d.Problems()) > 0 {
		t.Errorf("%+v, %v", got, d.Problems())
	}
}

func FuzzFlattened(f *testing.F) {
	for _, seed := range []string{
		"", "Placement.Zone=z&Job.Tasks.0.TaskName=a&Job.Tasks.1.TaskName=b&Job.Dependences.0.StartTask=a&Job.Dependences.0.EndTask=b",
		"Action=SubmitJob&Job.Priority=1&Job.Tasks.0.Application.Command=echo+pre_task", "Job.Tasks.0.Application.Docker.Password=p&Job.Tasks.0.RestartComputeNode=TRUE",
		"Placement.Zone=z\n&Job.JobName=n\nJob.Tasks.0.EnvVars.0.Name=E\n", "Job.Tasks.1.TaskName=x", "Job..=&=&%00=%zz", "https://h/?Action=SubmitJob\nClientToken=t",
		"Job.Tasks.0.ComputeEnv.EnvData.InstanceTypeOptions.CPU=8&Job.Tasks.0.ComputeEnv.EnvData.Zones.0=z", "{}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) { checkBody(t, []byte(body)) })
}

func FuzzJSON(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Add([]byte(`{"Job": {"Priority": "1", "Priority": 1.5, "Tasks": [null, {}, [], {"x": [[{}]]}]}}`))
	f.Fuzz(func(t *testing.T, body []byte) { checkBody(t, body) })
}

// checkBody holds what is promised of any body.
func checkBody(t *testing.T, body []byte) {
	r, err := FromBody(body, Options{})
	if err != nil {
		var problems Problems
		if !errors.As(err, &problems) || len(problems) == 0 || len(problems) > MaxProblems {
			t.Fatalf("error %T with %d problems", err, len(problems))
		}
		for _, p := range problems {
			if len(p.Detail) > 300 || !utf8.ValidString(p.Error()) || len(p.Field) > 300 {
				t.Errorf("problem %q", p.Error())
			}
			switch p.Code {
			case errcode.InvalidParameter, errcode.InvalidParameterValue, errcode.MissingParameter, errcode.UnknownParameter:
			default:
				t.Errorf("code %s", p.Code)
			}
		}
		return
	}
	checkRoundTrip(t, r)
	if countRefs(r) < len(r.Secrets) {
		t.Errorf("%d Secrets for %d references", len(r.Secrets), countRefs(r))
	}
	if r.Env != nil {
		validation.Validator{}.ValidateComputeEnvCreate(r.Env)
		return
	}
	validation.Validator{}.ValidateCreate(r.Job)
}
