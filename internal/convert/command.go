// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"batchcompute.dev/operator/internal/dockerrun"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/validation"
)

// tools are the names of the vendor's command line tool, the first of which is today's.
var tools = []string{"tccli", "qcloudcli"}

// prompt is printed before a command by some pages.
var prompt = []byte("$ ")

// isCommandLine says whether a body is a command of the vendor's tool, or its options.
func isCommandLine(body []byte) bool {
	body = bytes.TrimPrefix(body, prompt)
	return bytes.HasPrefix(body, []byte("--")) ||
		slices.ContainsFunc(tools, func(tool string) bool { return bytes.HasPrefix(body, []byte(tool+" ")) })
}

// switches are options of the tool that no value follows.
var switches = map[string]bool{"--cli-unfold-argument": true, "--use-cvm-role": true, "--detail": true, "--warning": true}

// decodeCommandLine reads a command, in either form:
//
//	tccli batch SubmitJob --cli-unfold-argument --Placement.Zone ap-x-1 --Job.Tasks.0.Application.Command 'echo'
//	tccli batch SubmitJob --version 2017-03-12 --Placement '{"Zone": "ap-x-1"}' --Job '{"Tasks": […]}'
//
// Fields begin with a capital letter. Other options are the tool's own, and passed over.
func (d *decoder) decodeCommandLine(body string) {
	words, err := dockerrun.Split(strings.TrimPrefix(body, string(prompt)))
	if err != nil {
		d.Fail(errcode.InvalidParameter, "", "the command %s", err.Error())
		return
	}
	var list []Parameter
	if len(words) > 0 && slices.Contains(tools, words[0]) {
		words = words[1:]
		if len(words) > 0 && words[0] == "batch" {
			words = words[1:]
		}
		if len(words) > 0 && !strings.HasPrefix(words[0], "--") {
			list, words = append(list, Parameter{Key: actionParameter, Value: words[0]}), words[1:]
		}
	}
	for len(words) > 0 {
		option, isOption := strings.CutPrefix(words[0], "--")
		field := isOption && option != "" && 'A' <= option[0] && option[0] <= 'Z'
		words = words[1:]
		switch {
		case !isOption:
			d.Fail(errcode.InvalidParameter, "", "the command must be options and a value for each; there is a word between them")
			return
		case field && len(words) == 0:
			d.Fail(errcode.InvalidParameter, option, "must have a value")
			return
		case field:
			list, words = append(list, Parameter{Key: option, Value: words[0]}), words[1:]
		case switches["--"+option] || len(words) == 0 || strings.HasPrefix(words[0], "--"):
			d.note("--%s is an option of the tool and was ignored", option)
		case option == "version":
			list, words = append(list, Parameter{Key: versionParameter, Value: words[0]}), words[1:]
		default:
			words = words[1:]
			d.note("--%s is an option of the tool and was ignored", option)
		}
	}
	d.commandFields(list)
}

// commandFields reads the fields of a command: flattened, or whole objects as JSON.
func (d *decoder) commandFields(list []Parameter) {
	whole := func(p Parameter) bool { return bodyObjects[p.Key] }
	if !slices.ContainsFunc(list, whole) {
		d.parameters(list)
		return
	}
	var body bytes.Buffer
	separator := "{"
	for _, p := range list {
		value := []byte(p.Value)
		switch {
		case !whole(p):
			value, _ = json.Marshal(p.Value) // a text can be written
		case !json.Valid(value):
			d.Fail(errcode.InvalidParameter, p.Key, "must be JSON")
			return
		}
		if strings.Contains(p.Key, ".") {
			d.Fail(errcode.InvalidParameter, "", "the command must have either whole objects, as in --Job, or their fields, got %s as well", validation.Quote(p.Key))
			return
		}
		key, _ := json.Marshal(p.Key)
		body.WriteString(separator)
		body.Write(key)
		body.WriteByte(':')
		body.Write(value)
		separator = ","
	}
	body.WriteString("}")
	d.decodeJSON(body.Bytes())
}
