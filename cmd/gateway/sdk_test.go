// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"batchcompute.dev/operator/internal/gateway/actions"
	"batchcompute.dev/operator/internal/testutil/sdkcall"
)

// sdkCaller calls the gateway with an SDK of the vendor, in one of its ways to sign.
type sdkCaller struct {
	t    *testing.T
	sdk  *sdkcall.SDK
	call sdkcall.Call
	used map[string]bool // actions that were answered
}

// do does an action that must succeed, and decodes the answer into out, nil for none.
func (s *sdkCaller) do(action, params string, out any) {
	s.t.Helper()
	if code, message := s.try(action, params, out); code != "" {
		s.t.Fatalf("%s %s: %s: %s", action, params, code, message)
	}
}

// try does an action and returns its code, "" for success.
func (s *sdkCaller) try(action, params string, out any) (code, message string) {
	s.t.Helper()
	c := s.call
	c.Action, c.Params = action, json.RawMessage(params)
	answer, err := s.sdk.Do(c)
	must(s.t, err)
	if answer.Code != "" {
		return answer.Code, answer.Message
	}
	s.used[action] = true
	if out != nil {
		must(s.t, json.Unmarshal(answer.Response, out))
	}
	return "", ""
}

// refused does an action that must be refused with a code.
func (s *sdkCaller) refused(action, params, want string) {
	s.t.Helper()
	if code, message := s.try(action, params, nil); code != want {
		s.t.Errorf("%s %s: %q: %s, want %s", action, params, code, message, want)
	}
	s.used[action] = true
}

// TestSDKsOverTLS: the vendor's SDKs, unmodified, call a gateway that serves with a certificate.
func TestSDKsOverTLS(t *testing.T) {
	c := startCluster(t)
	r := c.startGateway(t)
	d := c.newCaller(t, r)
	for _, version := range []string{sdkcall.V162, sdkcall.Latest} {
		s := &sdkCaller{t: t, sdk: sdkcall.Start(t, version), used: map[string]bool{}, call: sdkcall.Call{
			Endpoint: strings.TrimPrefix(r.url, "https://"), CA: r.ca, SecretID: d.SecretID, SecretKey: d.SecretKey, Region: "ap-guangzhou",
			SignMethod: sdkcall.TC3, Method: http.MethodPost,
		}}
		var first, again struct{ JobID string }
		submit := fmt.Sprintf(dag, `, "ClientToken": "tls"`)
		s.do("SubmitJob", submit, &first)
		if s.do("SubmitJob", submit, &again); first != again || first.JobID == "" {
			t.Errorf("SDK %s: the same request is %v and %v", version, first, again)
		}
		s.do("DescribeJob", `{"JobId": "`+first.JobID+`"}`, nil)
	}
}

// TestSDKs: every action with the vendor's SDKs, unmodified, in all their signings.
func TestSDKs(t *testing.T) {
	c := startCluster(t)
	plain := c.startGateway(t, append([]string{"--tls-cert-dir="}, noLimits...)...)
	plain.url = strings.Replace(plain.url, "https", "http", 1)
	for _, version := range []string{sdkcall.V162, sdkcall.Latest} {
		sdk := sdkcall.Start(t, version)
		for name, signing := range map[string]sdkcall.Call{
			"v3 POST":          {SignMethod: sdkcall.TC3, Method: http.MethodPost},
			"v3 POST unsigned": {SignMethod: sdkcall.TC3, Method: http.MethodPost, Unsigned: true},
			"v3 GET":           {SignMethod: sdkcall.TC3, Method: http.MethodGet},
			"v1 POST":          {SignMethod: sdkcall.HmacSHA256, Method: http.MethodPost},
			"v1 GET":           {SignMethod: sdkcall.HmacSHA1, Method: http.MethodGet},
		} {
			t.Run(version+" "+name, func(t *testing.T) {
				d := c.newCaller(t, plain)
				signing.Endpoint = strings.TrimPrefix(plain.url, "http://")
				signing.SecretID, signing.SecretKey, signing.Region = d.SecretID, d.SecretKey, "ap-guangzhou"
				s := &sdkCaller{t: t, sdk: sdk, call: signing, used: map[string]bool{}}
				s.jobs()
				s.envs()
				s.templates()
				s.others()
				for _, action := range actions.Names() {
					if !s.used[action] {
						t.Errorf("%s was not called", action)
					}
				}
			})
		}
	}
}

// jobs calls all actions on jobs.
func (s *sdkCaller) jobs() {
	t := s.t
	submit := fmt.Sprintf(dag, `, "ClientToken": "dag"`)
	var first, again struct{ JobID string }
	s.do("SubmitJob", submit, &first)
	s.do("SubmitJob", submit, &again)
	if first != again || first.JobID == "" {
		t.Errorf("the same request is %v and %v", first, again)
	}
	s.refused("SubmitJob", strings.Replace(submit, "dag_demo", "another", 1), "InvalidParameterValue")
	ofJob := `{"JobId": "` + first.JobID + `"}`
	ofTask := `{"JobId": "` + first.JobID + `", "TaskName": "pre_task"`
	var job struct {
		JobName, JobState, Zone string
		TaskSet                 []struct{ TaskName, TaskState string }
		DependenceSet           []struct{ StartTask, EndTask string }
		TaskInstanceMetrics     struct{ RunnableCount int }
	}
	eventually(t, func() error {
		if s.do("DescribeJob", ofJob, &job); job.JobState != "RUNNABLE" {
			return fmt.Errorf("the job is %s", job.JobState)
		}
		return nil
	})
	if job.JobName != "dag" || job.Zone != "ap-beijing-2" || len(job.TaskSet) != 2 || len(job.DependenceSet) != 1 || job.TaskInstanceMetrics.RunnableCount != 1 {
		t.Errorf("the job is %+v", job)
	}
	var list struct {
		TotalCount int
		JobSet     []struct{ JobID, JobState string }
	}
	for _, params := range []string{`{}`, `{"JobIds": ["` + first.JobID + `"], "Limit": 5}`, `{"Filters": [{"Name": "job-state", "Values": ["RUNNABLE"]}, {"Name": "job-name", "Values": ["dag"]}]}`} {
		if s.do("DescribeJobs", params, &list); list.TotalCount != 1 || len(list.JobSet) != 1 || list.JobSet[0].JobID != first.JobID {
			t.Errorf("%s: %+v", params, list)
		}
	}
	var info struct {
		JobDescription string
		Tasks          []struct {
			Application struct{ Command string }
			ComputeEnv  struct{ EnvData struct{ InstanceType string } }
		}
	}
	if s.do("DescribeJobSubmitInfo", ofJob, &info); info.JobDescription != "dag_demo" || info.Tasks[0].Application.Command != "echo pre_task" || info.Tasks[1].ComputeEnv.EnvData.InstanceType != "S2.SMALL1" {
		t.Errorf("what was submitted is %+v", info)
	}
	var task struct {
		TaskState              string
		TaskInstanceTotalCount int
		TaskInstanceSet        []struct{ TaskInstanceState string }
	}
	if s.do("DescribeTask", ofTask+"}", &task); task.TaskInstanceTotalCount != 1 || task.TaskInstanceSet[0].TaskInstanceState != "RUNNABLE" {
		t.Errorf("the task is %+v", task)
	}
	var logs struct{ TaskInstanceLogSet []struct{} }
	if s.do("DescribeTaskLogs", ofTask+`, "TaskInstanceIndexes": [0]}`, &logs); len(logs.TaskInstanceLogSet) != 0 {
		t.Errorf("the logs are %+v", logs)
	}
	s.refused("DescribeJobMonitorData", ofTask+`, "TaskInstanceIndex": 0, "MetricName": "CpuUsage"}`, "ResourceUnavailable")
	await := func(state string) {
		t.Helper()
		eventually(t, func() error {
			if s.do("DescribeJob", ofJob, &job); job.JobState != state {
				return fmt.Errorf("the job is %s, want %s", job.JobState, state)
			}
			return nil
		})
	}
	s.refused("DeleteJob", ofJob, "ResourceInUse.Job")
	s.refused("RetryJobs", `{"JobIds": ["`+first.JobID+`"]}`, "UnsupportedOperation")
	s.do("TerminateTaskInstance", ofTask+`, "TaskInstanceIndex": 0}`, nil)
	await("FAILED")
	s.do("RetryJobs", `{"JobIds": ["`+first.JobID+`"]}`, nil)
	await("RUNNABLE")
	s.do("TerminateJob", ofJob, nil)
	await("FAILED")
	s.do("DeleteJob", ofJob, nil)
	s.refused("DescribeJob", ofJob, "ResourceNotFound.Job")
	s.refused("DescribeJob", `{"JobId": "job-1"}`, "InvalidParameter.JobIdMalformed")
}

// envs calls all actions on environments.
func (s *sdkCaller) envs() {
	t := s.t
	var env struct{ EnvID string }
	s.do("CreateComputeEnv", `{"Placement": {"Zone": "z"}, "ClientToken": "pool", "ComputeEnv": {"EnvName": "pool", "DesiredComputeNodeCount": 4, "EnvData": {"InstanceType": "S2.SMALL1"}}}`, &env)
	ofEnv := `{"EnvId": "` + env.EnvID + `"`
	s.do("ModifyComputeEnv", ofEnv+`, "DesiredComputeNodeCount": 5, "EnvName": "new"}`, nil)
	var got struct {
		EnvName            string
		ComputeNodeSet     []struct{ ComputeNodeID string }
		ComputeNodeMetrics struct{ RunningCount int }
	}
	eventually(t, func() error {
		if s.do("DescribeComputeEnv", ofEnv+"}", &got); len(got.ComputeNodeSet) != 5 || got.EnvName != "new" || got.ComputeNodeMetrics.RunningCount != 5 {
			return fmt.Errorf("the environment is %+v", got)
		}
		return nil
	})
	var list struct{ TotalCount int }
	if s.do("DescribeComputeEnvs", `{"Filters": [{"Name": "env-name", "Values": ["new"]}]}`, &list); list.TotalCount != 1 {
		t.Errorf("%+v", list)
	}
	var info struct {
		EnvName                 string
		DesiredComputeNodeCount int
	}
	if s.do("DescribeComputeEnvCreateInfo", ofEnv+"}", &info); info.EnvName != "pool" || info.DesiredComputeNodeCount != 4 {
		t.Errorf("it was created as %+v", info)
	}
	if s.do("DescribeComputeEnvCreateInfos", `{"EnvIds": ["`+env.EnvID+`"]}`, &list); list.TotalCount != 1 {
		t.Errorf("%+v", list)
	}
	if s.do("DescribeComputeEnvActivities", ofEnv+"}", &list); list.TotalCount != 0 {
		t.Errorf("%+v", list)
	}
	nodes := got.ComputeNodeSet
	s.do("TerminateComputeNode", ofEnv+`, "ComputeNodeId": "`+nodes[0].ComputeNodeID+`"}`, nil)
	s.do("TerminateComputeNodes", ofEnv+`, "ComputeNodeIds": ["`+nodes[1].ComputeNodeID+`", "`+nodes[2].ComputeNodeID+`"]}`, nil)
	s.refused("TerminateComputeNode", ofEnv+`, "ComputeNodeId": "`+nodes[1].ComputeNodeID+`"}`, "ResourceNotFound.ComputeNode")
	s.do("DeleteComputeEnv", ofEnv+"}", nil)
}

// templates calls all actions on task templates.
func (s *sdkCaller) templates() {
	t := s.t
	create := `{"TaskTemplateName": "%s", "TaskTemplateInfo": {"TaskName": "a", "TaskInstanceNum": 2, "Application": {"DeliveryForm": "LOCAL", "Command": "true"},
		"ComputeEnv": {"EnvData": {"InstanceType": "S2.SMALL1"}}}}`
	var template struct{ TaskTemplateID string }
	s.do("CreateTaskTemplate", fmt.Sprintf(create, "frames"), &template)
	s.refused("CreateTaskTemplate", fmt.Sprintf(create, strings.Repeat("x", 61)), "InvalidParameter.TaskTemplateNameTooLong")
	ofTemplate := `{"TaskTemplateId": "` + template.TaskTemplateID + `"`
	s.do("ModifyTaskTemplate", ofTemplate+`, "TaskTemplateDescription": "new"}`, nil)
	s.refused("ModifyTaskTemplate", ofTemplate+`}`, "InvalidParameterAtLeastOneAttribute")
	s.refused("ModifyTaskTemplate", ofTemplate+`, "TaskTemplateName": ":-)"}`, "InvalidParameter.TaskTemplateName")
	var list struct {
		TotalCount      int
		TaskTemplateSet []struct {
			TaskTemplateDescription string
			TaskTemplateInfo        struct{ TaskInstanceNum int }
		}
	}
	ids := `{"TaskTemplateIds": ["` + template.TaskTemplateID + `"]}`
	if s.do("DescribeTaskTemplates", ids, &list); list.TotalCount != 1 || list.TaskTemplateSet[0].TaskTemplateDescription != "new" ||
		list.TaskTemplateSet[0].TaskTemplateInfo.TaskInstanceNum != 2 {
		t.Errorf("the templates are %+v", list)
	}
	s.do("DeleteTaskTemplates", ids, nil)
	s.refused("DeleteTaskTemplates", ids, "ResourceNotFound.TaskTemplate")
}

// others calls the actions about machines, and those that no cluster can do.
func (s *sdkCaller) others() {
	t := s.t
	var types struct {
		InstanceTypeConfigSet []struct{ InstanceType, Zone string }
	}
	if s.do("DescribeAvailableCvmInstanceTypes", `{"Filters": [{"Name": "zone", "Values": ["ap-beijing-2"]}]}`, &types); len(types.InstanceTypeConfigSet) == 0 || types.InstanceTypeConfigSet[0].Zone != "ap-beijing-2" {
		t.Errorf("the machine types are %+v", types)
	}
	s.do("DescribeCvmZoneInstanceConfigInfos", `{"Filters": [{"Name": "instance-charge-type", "Values": ["POSTPAID_BY_HOUR"]}]}`, nil)
	s.refused("DescribeCvmZoneInstanceConfigInfos", `{"Filters": [{"Name": "instance-charge-type", "Values": ["FREE"]}]}`, "InvalidParameterValue.UnsupportedBatchInstanceChargeType")
	s.do("DescribeInstanceCategories", `{}`, nil)
	for action, params := range map[string]string{
		"AttachInstances":     `{"EnvId": "env-0a1b2c3d", "Instances": [{"InstanceId": "ins-0a1b2c3d"}]}`,
		"DetachInstances":     `{"EnvId": "env-0a1b2c3d", "InstanceIds": ["ins-0a1b2c3d"]}`,
		"CreateCpmComputeEnv": `{}`, "DescribeCpmOsInfo": `{"DeviceClassCode": "x"}`,
	} {
		s.refused(action, params, "UnsupportedOperation")
	}
	s.refused("DescribeEverything", `{}`, "InvalidAction")
}
