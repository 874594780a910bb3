// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package params

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

type filter struct {
	Name   string `params:"required"`
	Values []string
}

type request struct {
	JobID    string `json:"JobId" params:"required"`
	JobIds   []string
	Filters  []filter `params:"orItem"`
	Index    *int64
	Offset   *int64
	Force    *bool
	On       bool
	Template *Object
	Nested   struct{ Indexes []int64 }
}

// decode decodes both forms of a request; a body that begins with { is JSON.
func decode(t *testing.T, body string, into any) error {
	t.Helper()
	var o *Object
	var err error
	if strings.HasPrefix(body, "{") || strings.HasPrefix(body, "[") || body == "null" {
		o, err = FromJSON("Do", []byte(body))
	} else {
		var list []Parameter
		if list, err = ParseQuery(body); err == nil {
			o, err = FromParameters("Do", list)
		}
	}
	if err != nil {
		return err
	}
	return o.Decode(into)
}

func TestDecode(t *testing.T) {
	want := request{
		JobID: "job-0a1b2c3d", JobIds: []string{"a", ""}, Filters: []filter{{Name: "zone", Values: []string{"z"}}, {Name: "n"}},
		Index: new(int64(0)), Force: new(false), On: true, Nested: struct{ Indexes []int64 }{[]int64{3, -4}},
	}
	for _, body := range []string{
		`{"JobId": "job-0a1b2c3d", "JobIds": ["a", ""], "Filters": [{"Name": "zone", "Values": ["z"]}, {"Name": "n"}],
		  "Index": 0, "Offset": null, "Force": false, "On": true, "Nested": {"Indexes": [3, -4]}}`,
		`{"Nested": {"Indexes": ["3", "-4"]}, "Force": "FALSE", "On": "true", "Index": "0", "Region": "r",
		  "Filters": [{"Name": "zone", "Values": ["z"]}, {"Name": "n"}], "JobIds": ["a", ""], "JobId": "job-0a1b2c3d"}`,
		"JobId=job-0a1b2c3d&JobIds.1=&JobIds.0=a&Filters.0.Name=zone&Filters.0.Values.0=z&Filters.1.Name=n&Index=0&Force=False&" +
			"On=true&Nested.Indexes.0=3&Nested.Indexes.1=-4&Action=Do&Nonce=0&Signature=x%3D&RequestClient=SDK&Language=zh-CN",
	} {
		var got request
		if err := decode(t, body, &got); err != nil {
			t.Errorf("%s: %v", body, err)
		}
		if diff := gocmp.Diff(want, got, gocmp.AllowUnexported(Object{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", body, diff)
		}
	}
	for _, body := range []string{`{"JobId": "", "Filters": {"Name": "zone"}}`, "JobId=&Filters.Name=zone"} {
		var got request
		if err := decode(t, body, &got); err != nil || !gocmp.Equal(got.Filters, []filter{{Name: "zone"}}) {
			t.Errorf("%s: %+v, %v", body, got.Filters, err)
		}
	}
	if o, err := FromJSON("Do", []byte(" \n")); err != nil || o.Action() != "Do" || o.Decode(&struct{ A string }{}) != nil {
		t.Errorf("an empty body: %v", err)
	}
}

func TestProblems(t *testing.T) {
	many := "must have at most 100000"
	tests := map[string]string{
		`{}`:                           "MissingParameter: JobId: must be given",
		`{"JobId": null}`:              "MissingParameter: JobId: must be given",
		"Index=1":                      "MissingParameter: JobId: must be given",
		"JobId=a&Filters.0.Values.0=x": "MissingParameter: Filters.0.Name: must be given",
		`{"JobId": "a", "Filters": [{"Values": []}]}`:         "MissingParameter: Filters.0.Name: must be given",
		`{"JobId": "a", "Jobids": ["a"]}`:                     "UnknownParameter: Do has no field \"Jobids\"; did you mean JobIds?",
		"JobId=a&Jobids.0=a":                                  "UnknownParameter: Do has no field \"Jobids\"; did you mean JobIds?",
		"JobId=a&Filters.0.Name=a&Filters.0.X=a":              "UnknownParameter: Filters.0: has no field \"X\"",
		`{"JobId": "a", "Nested": {"Region": 1}}`:             "UnknownParameter: Nested: has no field \"Region\"",
		`{"JobId": "a", "Index": 9223372036854775808}`:        `InvalidParameter: Index: must be a whole number, got "9223372036854775808"`,
		"JobId=a&Index=9223372036854775808":                   `InvalidParameter: Index: must be a whole number, got "9223372036854775808"`,
		`{"JobId": "a", "Index": 1.0}`:                        `InvalidParameter: Index: must be a whole number, got "1.0"`,
		`{"JobId": "a", "Index": 1e3}`:                        `InvalidParameter: Index: must be a whole number, got "1e3"`,
		`{"JobId": "a", "Index": ""}`:                         `InvalidParameter: Index: must be a whole number, got ""`,
		`{"JobId": "a", "Index": true}`:                       "InvalidParameter: Index: must be a whole number, got true or false",
		`{"JobId": "a", "Index": [1]}`:                        "InvalidParameter: Index: must be a whole number, got a list",
		`{"JobId": 1}`:                                        "InvalidParameter: JobId: must be a text, got a number",
		`{"JobId": "a", "Force": 1}`:                          "InvalidParameter: Force: must be true or false, got a number",
		"JobId=a&Force=1":                                     "InvalidParameter: Force: must be true or false, got another text",
		`{"JobId": "a", "JobIds": ["b", null]}`:               "InvalidParameter: JobIds.1: must be a text, got null",
		`{"JobId": "a", "JobIds": "b"}`:                       "InvalidParameter: JobIds: must be a list, got a text",
		`{"JobId": "a", "JobIds": {"0": "b"}}`:                "InvalidParameter: JobIds: must be a list, got an object",
		`{"JobId": "a", "JobId": "b"}`:                        "InvalidParameter: JobId: must be given once",
		`{"JobId": null, "JobId": "b"}`:                       "InvalidParameter: JobId: must be given once",
		"JobId=a&JobId=b":                                     "InvalidParameter: JobId: must be given once",
		"JobId=a&JobIds=b":                                    "InvalidParameter: JobIds: must be a list, got a text",
		"JobId=a&JobIds.x=b":                                  `InvalidParameter: JobIds: must be followed by the position of an item, such as 0, got "x"`,
		"JobId=a&JobIds.1=b":                                  "InvalidParameter: JobIds: must have items from 0 on without a gap: item 0 is missing",
		"JobId=a&JobIds.4294967296=b":                         "InvalidParameter: JobIds: must be followed by the position",
		"JobId.X=a&JobId=b":                                   "InvalidParameter: JobId: must be a text, got an object",
		"JobId=a&Template=b":                                  "InvalidParameter: Template: must be a JSON object, got a text",
		`{"JobId": "a", "Template": []}`:                      "InvalidParameter: Template: must be a JSON object, got another value",
		`{"JobId": "a"`:                                       "InvalidParameter: the body is no valid JSON: it ends too early at byte 13",
		`{"JobId": "a"} {}`:                                   "InvalidParameter: the body is no valid JSON: must end after the first value",
		`{"JobId": "\ud800"}`:                                 "InvalidParameter: the body has half a surrogate pair",
		`["a"]`:                                               "InvalidParameter: the body must be an object, got a list",
		"null":                                                "InvalidParameter: the body must be an object, got null",
		"{\"JobId\": \"\xff\"}":                               "InvalidParameter: the body must be UTF-8",
		"JobId=%ff":                                           "InvalidParameter: each parameter must be a key",
		"JobId=%zz":                                           "InvalidParameter: each parameter must be a key",
		"{" + strings.Repeat(`"A":{`, MaxDepth):               "InvalidParameter: the request must be nested at most 32 deep",
		"JobId" + strings.Repeat(".0", MaxDepth) + "=":        "InvalidParameter: the request must be nested at most 32 deep",
		`{"JobIds": [` + strings.Repeat(`"",`, MaxValues):     "InvalidParameter: the request " + many,
		"JobIds.0=" + strings.Repeat("&JobIds.0=", MaxValues): "InvalidParameter: the request " + many,
	}
	for body, want := range tests {
		var got request
		err := decode(t, body, &got)
		var problems Problems
		if !errors.As(err, &problems) || !strings.Contains("\n"+err.Error(), "\n"+want) {
			t.Errorf("%.60s: %.200v, want %s", body, err, want)
		}
	}
}

// What is decoded later has its own place in the request in all messages.
func TestTemplate(t *testing.T) {
	type inner struct {
		Name  string `params:"required"`
		Items []struct{ N int64 }
	}
	for _, body := range []string{
		`{"JobId": "a", "Template": {"Name": "n", "Items": [{"N": 1}, {"N": 2}], "Region": "r", "Nam": 1}}`,
		"JobId=a&Template.Items.1.N=2&Template.Name=n&Template.Items.0.N=1&Template.Region=r&Template.Nam=1",
	} {
		var outer request
		if err := decode(t, body, &outer); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		var got inner
		err := outer.Template.Decode(&got)
		if want := "UnknownParameter: Template: has no field \"Region\"\nUnknownParameter: Template: has no field \"Nam\"; did you mean Name?"; fmt.Sprint(err) != want {
			t.Errorf("%s: %v", body, err)
		}
		if len(got.Items) != 2 || got.Items[1].N != 2 || got.Name != "n" {
			t.Errorf("%s: %+v", body, got)
		}
	}
	var outer request
	if err := decode(t, `{"JobId": "a"}`, &outer); err != nil || outer.Template != nil {
		t.Errorf("%v, %v", outer.Template, err)
	}
	if err := decode(t, "JobId=a&Template.Items.0.N=x", &outer); err != nil {
		t.Fatal(err)
	}
	want := "InvalidParameter: Template.Items.0.N: must be a whole number, got \"x\"\nMissingParameter: Template.Name: must be given"
	if err := outer.Template.Decode(&inner{}); fmt.Sprint(err) != want {
		t.Errorf("%v", err)
	}
}

func TestMaxProblems(t *testing.T) {
	var got request
	err := decode(t, `{"JobIds": [`+strings.Repeat("1,", 99)+`1]}`, &got)
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != MaxProblems {
		t.Errorf("%d problems", len(problems))
	}
}

func TestDecodePanicsForOtherTypes(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	_ = new(Object).Decode(&struct{ F float64 }{})
}

// flatten writes JSON's own decoding of a struct as parameters.
func flatten(v reflect.Value, path string, to []Parameter) []Parameter {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return to
		}
		return flatten(v.Elem(), path, to)
	case reflect.Slice:
		for i := range v.Len() {
			to = flatten(v.Index(i), Join(path, fmt.Sprint(i)), to)
		}
		return to
	case reflect.Struct:
		if v.Type() == objectType {
			return to
		}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			to = flatten(v.Field(i), Join(path, cmp.Or(f.Tag.Get("json"), f.Name)), to)
		}
		return to
	default:
		return append(to, Parameter{path, fmt.Sprint(v.Interface())})
	}
}

// What JSON decodes to, its flattened form decodes to as well, in any order.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		`{"JobId": "a", "JobIds": ["b"], "Filters": [{"Name": "n", "Values": ["v"]}], "Index": 3, "Force": true}`, `{"JobId": "a", "Template": {"A": [1]}}`,
		`{`, `null`, `[{}]`, `{"JobId": {"JobId": "\ud83d\ude00"}}`, `{"Filters": {"Name": 1}, "Nested": {"Indexes": [1, null]}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := FromJSON("Do", body)
		if err != nil {
			return
		}
		var want request
		if o.Decode(&want) != nil {
			return
		}
		list := flatten(reflect.ValueOf(want), "", nil)
		slices.Reverse(list)
		flat, err := FromParameters("Do", list)
		if err != nil {
			t.Fatal(err)
		}
		var got request
		if err := flat.Decode(&got); err != nil {
			t.Fatalf("%q: %v", list, err)
		}
		if a, b := flatten(reflect.ValueOf(want), "", nil), flatten(reflect.ValueOf(got), "", nil); !slices.Equal(a, b) {
			t.Errorf("%q, want %q", b, a)
		}
	})
}

// Whatever comes is decoded or refused with problems, each of which has a code.
func FuzzParseQuery(f *testing.F) {
	for _, seed := range []string{"JobId=a&JobIds.0=b&Filters.0.Name=n&Index=3&Force=true", "a=%", "&&=", "JobIds.99999999=", "Template.A.0=1&Template=", "Filters.Name=x&Filters.0.Name=y"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		list, err := ParseQuery(query)
		if err == nil {
			var o *Object
			if o, err = FromParameters("Do", list); err == nil {
				err = o.Decode(&request{})
			}
		}
		var problems Problems
		if err != nil && (!errors.As(err, &problems) || len(problems) == 0 || problems[0].Code == "" || problems[0].Message() == "") {
			t.Errorf("%q: %v", query, err)
		}
	})
}
