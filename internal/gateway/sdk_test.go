// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"batchcompute.dev/operator/internal/convert"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/testutil/sdkcall"
)

// The vendor's SDKs get their answers and their errors, with each signature, method and form.
func TestSDKs(t *testing.T) {
	f := newFixture(t, func(o *Options) {
		o.Now = time.Now
		o.Actions["DescribeJobs"] = o.Actions["Echo"]
		o.Actions["SubmitJob"] = func(_ context.Context, c *Call) (any, error) {
			r, err := convert.FromParams(c.Params, convert.Options{Name: "x"})
			if err != nil {
				return nil, err
			}
			return struct {
				JobID string `json:"JobId"`
			}{r.Job.Spec.Job.JobName + "/" + r.Job.Spec.Job.Tasks[1].Application.Command}, nil
		}
	})
	server := httptest.NewServer(f)
	defer server.Close()
	for _, version := range []string{sdkcall.V162, sdkcall.Latest} {
		sdk := sdkcall.Start(t, version)
		for _, way := range []struct {
			method, sign string
			unsigned     bool
		}{
			{"POST", sdkcall.TC3, false}, {"POST", sdkcall.TC3, true}, {"GET", sdkcall.TC3, false},
			{"GET", sdkcall.HmacSHA1, false}, {"POST", sdkcall.HmacSHA1, false}, {"GET", sdkcall.HmacSHA256, false}, {"POST", sdkcall.HmacSHA256, false},
		} {
			base := sdkcall.Call{
				Endpoint: strings.TrimPrefix(server.URL, "http://"), SecretID: "AKIDtmp", SecretKey: "key-tmp", Token: "token-tmp",
				Region: "ap-x", SignMethod: way.sign, Method: way.method, Unsigned: way.unsigned,
			}
			for _, tc := range []struct {
				name, action, params, want string
				code                       errcode.Code
				change                     func(c *sdkcall.Call)
			}{
				{name: "submit", action: "SubmitJob", want: `"JobId":"dag/echo a<b && 'ü' +%2B"`,
					params: `{"Placement": {"Zone": "z"}, "Job": {"JobName": "dag", "Priority": 0, "Tasks": [{"TaskName": "a", "Application": {"Command": "true", "DeliveryForm": "LOCAL"}},
						{"TaskName": "b", "Application": {"Command": "echo a<b && 'ü' +%2B"}, "EnvVars": [{"Name": "E", "Value": ""}], "RestartComputeNode": false}]}}`},
				{name: "list", action: "DescribeJobs", params: `{"JobIds": ["a", "b c"], "Limit": 3}`, want: `"RequestId":"`},
				{name: "none", action: "Free", params: `{}`, want: `{"RequestId":"`},
				{name: "unknown action", action: "NoSuchAction", params: `{}`, code: errcode.InvalidAction},
				{name: "wrong type", action: "DescribeJobs", params: `{"Limit": "many"}`, code: errcode.InvalidParameter, change: func(c *sdkcall.Call) { c.Raw = true }},
				{name: "unknown field", action: "DescribeJobs", params: `{"JobId": "a"}`, code: errcode.UnknownParameter, change: func(c *sdkcall.Call) { c.Raw = true }},
				{name: "wrong key", action: "Free", params: `{}`, code: errcode.SignatureFailure, change: func(c *sdkcall.Call) { c.SecretKey = "x" }},
				{name: "wrong token", action: "Free", params: `{}`, code: errcode.TokenFailure, change: func(c *sdkcall.Call) { c.Token = "x" }},
			} {
				c := base
				c.Action, c.Params = tc.action, json.RawMessage(tc.params)
				if tc.change != nil {
					tc.change(&c)
				}
				f.failures = newFixture(t, nil).failures // a new limit for each
				a, err := sdk.Do(c)
				if err != nil {
					t.Fatal(err)
				}
				text := strings.NewReplacer(`\u003c`, "<", `\u0026`, "&", `\u003e`, ">").Replace(string(a.Response))
				if a.Code != string(tc.code) || !strings.Contains(text, tc.want) || tc.code != "" && len(a.RequestID) != 36 {
					t.Errorf("%s, %s %s, %s: %+v, %s", version, way.method, way.sign, tc.name, a, text)
				}
			}
		}
		// Many calls at the same time each get their own answer.
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				id := strings.Repeat("x", i+1)
				a, err := sdk.Do(sdkcall.Call{
					Endpoint: strings.TrimPrefix(server.URL, "http://"), SecretID: "AKIDone", SecretKey: "key-one", Region: "ap-x", SignMethod: sdkcall.TC3, Method: "POST",
					Action: "SubmitJob", Params: json.RawMessage(`{"Job": {"JobName": "` + id + `", "Tasks": [{}, {"Application": {"Command": "c"}}]}}`),
				})
				if err != nil || !strings.Contains(string(a.Response), `"`+id+`/c"`) {
					t.Errorf("%d: %+v, %v", i, a, err)
				}
			})
		}
		wg.Wait()
	}
}
