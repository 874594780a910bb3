//go:build e2e

// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil/sdkcall"
)

// dagRequest is the job of the API's page, with a token.
const dagRequest = `{"Placement": {"Zone": "ap-guangzhou-2"}, "ClientToken": "once", "Job": {"JobName": "dag", "JobDescription": "dag_demo", "Tasks": [
	{"TaskName": "pre_task", "TaskInstanceNum": 1, "Application": {"DeliveryForm": "LOCAL", "Command": "echo pre_task"}, "ComputeEnv": {"EnvData": {"InstanceType": "S2.SMALL1"}}},
	{"TaskName": "post_task", "TaskInstanceNum": 1, "Application": {"DeliveryForm": "LOCAL", "Command": "echo post_task"}, "ComputeEnv": {"EnvData": {"InstanceType": "S2.SMALL1"}}}],
	"Dependences": [{"StartTask": "pre_task", "EndTask": "post_task"}]}}`

// keyLimit is how long it may take until a new key holds everywhere, or until a revoked one does not any more.
const keyLimit = 10 * time.Second

// unknownKey is the code for a key that there is not, or that was revoked.
const unknownKey = "AuthFailure.SecretIdNotFound"

// sdkUser is a user with the vendor's SDK and a key for the story's namespace.
type sdkUser struct {
	*story
	sdk  *sdkcall.SDK
	call sdkcall.Call
}

// beginWithSDK starts a story whose namespace has a service account with the rights of the gateway's callers.
func beginWithSDK(t *testing.T) *sdkUser {
	t.Helper()
	s := begin(t)
	s.must("create", "serviceaccount", v1alpha1.DefaultAPIServiceAccount)
	s.must("create", "rolebinding", v1alpha1.DefaultAPIServiceAccount, "--clusterrole=batchcompute-gateway-client",
		"--serviceaccount="+s.namespace+":"+v1alpha1.DefaultAPIServiceAccount)
	gateway, err := cluster.Gateway(s.ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(gateway.Close)
	return &sdkUser{s, sdkcall.Start(t, sdkcall.V162), sdkcall.Call{
		Endpoint: gateway.Endpoint, CA: string(gateway.CA), Region: "ap-guangzhou", SignMethod: sdkcall.TC3, Method: http.MethodPost,
	}}
}

// plugin runs the plugin of kubectl on the keys of the namespace.
func (u *sdkUser) plugin(args ...string) string {
	u.Helper()
	cmd := exec.CommandContext(u.ctx, "go", append([]string{"run", "./cmd/kubectl-batchjob", "key", "--kubeconfig", cluster.Kubeconfig, "-n", u.namespace}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		u.Fatalf("kubectl batchjob key %v: %v", args, err)
	}
	return string(out)
}

// makeKey makes a key and uses it from now on, as soon as it holds.
func (u *sdkUser) makeKey(name string) {
	u.Helper()
	out := u.plugin("create", name)
	if n, err := fmt.Sscanf(out, "secretId: %s\nsecretKey: %s\n", &u.call.SecretID, &u.call.SecretKey); n != 2 {
		u.Fatalf("the plugin printed %d lines with a key: %v", n, err)
	}
	u.always("", "the new key to hold")
}

// always waits until 6 calls after each other, which reach all replicas, are answered with a code, "" for success.
func (u *sdkUser) always(want, what string) {
	u.Helper()
	u.eventually(keyLimit, what, func() error {
		for range 6 {
			if code, message := u.try("DescribeJobs", "{}", nil); code != want {
				return fmt.Errorf("DescribeJobs: %q: %s", code, message)
			}
		}
		return nil
	})
}

// try does an action, decodes its answer into out, nil for none, and returns the code, "" for success. A call that is
// one too many in a second is repeated.
func (u *sdkUser) try(action, params string, out any) (code, message string) {
	u.Helper()
	c := u.call
	c.Action, c.Params = action, json.RawMessage(params)
	answer, err := u.sdk.Do(c)
	for end := time.Now().Add(keyLimit); answer.Code == "RequestLimitExceeded" && time.Now().Before(end); {
		time.Sleep(300 * time.Millisecond)
		answer, err = u.sdk.Do(c)
	}
	if err == nil && answer.Code == "" && out != nil {
		err = json.Unmarshal(answer.Response, out)
	}
	if err != nil {
		u.Errorf("%s: %v", action, err)
		return "Test", err.Error()
	}
	return answer.Code, answer.Message
}

// do does an action that must succeed.
func (u *sdkUser) do(action, params string, out any) {
	u.Helper()
	if code, message := u.try(action, params, out); code != "" {
		u.Fatalf("%s %s: %s: %s", action, params, code, message)
	}
}

// refused does an action that must be refused with a code.
func (u *sdkUser) refused(action, params, want string) {
	u.Helper()
	if code, message := u.try(action, params, nil); code != want {
		u.Errorf("%s %s: %q: %s, want %s", action, params, code, message, want)
	}
}

// TestGateway: a program with the vendor's SDK runs a job by the Service of the gateway: it finds it at once, sends it
// again, reads its logs and deletes it. A key that is revoked is refused within seconds.
func TestGateway(t *testing.T) {
	t.Parallel()
	u := beginWithSDK(t)
	u.makeKey("first")
	id := u.submitOnce()
	ofJob := `{"JobId": "` + id + `"}`
	var job struct{ JobName, JobState string }
	u.eventually(3*time.Minute, "the end of the job", func() error {
		if u.do("DescribeJob", ofJob, &job); job.JobState == "FAILED" {
			u.Fatal("the job is FAILED")
		} else if job.JobState != "SUCCEED" {
			return fmt.Errorf("it is %s", job.JobState)
		}
		return nil
	})
	for _, task := range []string{"pre_task", "post_task"} {
		var logs struct {
			TaskInstanceLogSet []struct{ StdoutLog string }
		}
		u.do("DescribeTaskLogs", `{"JobId": "`+id+`", "TaskName": "`+task+`"}`, &logs)
		if set := logs.TaskInstanceLogSet; len(set) != 1 || set[0].StdoutLog != base64.StdEncoding.EncodeToString([]byte(task+"\n")) {
			t.Errorf("the logs of %s are %+v", task, set)
		}
	}
	u.plugin("revoke", "first")
	u.always(unknownKey, "the revocation to hold")
	if list := u.plugin("list"); !strings.Contains(list, "disabled") || strings.Contains(list, u.call.SecretKey) {
		t.Errorf("the list of keys is\n%s", list)
	}
	u.makeKey("second")
	u.eventually(keyLimit, "the job to be deleted", func() error { // a replica may not have seen the end of the job yet
		if code, message := u.try("DeleteJob", ofJob, nil); code != "" && code != "ResourceNotFound.Job" {
			return fmt.Errorf("%s: %s", code, message)
		}
		return nil
	})
	u.eventually(keyLimit, "the job to be gone for all replicas", func() error {
		if code, message := u.try("DescribeJob", ofJob, nil); code != "ResourceNotFound.Job" {
			return fmt.Errorf("%q: %s", code, message)
		}
		return nil
	})
	u.jobIs(id, false)
}

// submitOnce submits the job several times at once with one token, and returns its JobId.
func (u *sdkUser) submitOnce() string {
	u.Helper()
	const times = 8
	var ids [times]struct{ JobID string }
	u.do("SubmitJob", dagRequest, &ids[0])
	var job struct{ JobName string }
	if u.do("DescribeJob", `{"JobId": "`+ids[0].JobID+`"}`, &job); job.JobName != "dag" { // at once
		u.Errorf("the job is %+v", job)
	}
	var wg sync.WaitGroup
	for i := 1; i < times; i++ {
		wg.Go(func() {
			if code, message := u.try("SubmitJob", dagRequest, &ids[i]); code != "" {
				u.Errorf("SubmitJob again: %s: %s", code, message)
			}
		})
	}
	wg.Wait()
	for _, again := range ids {
		if again != ids[0] || again.JobID == "" {
			u.Errorf("the same request is %v", ids)
			break
		}
	}
	u.refused("SubmitJob", strings.Replace(dagRequest, "dag_demo", "another", 1), "InvalidParameterValue")
	u.jobIs(ids[0].JobID, true)
	return ids[0].JobID
}

// jobIs waits until the namespace has the job, and no other, or none.
func (u *sdkUser) jobIs(id string, there bool) {
	u.Helper()
	u.eventually(time.Minute, "the BatchJob of the request", func() error {
		var list v1alpha1.BatchJobList
		if err := kube.List(u.ctx, &list, client.InNamespace(u.namespace)); err != nil {
			return err
		}
		if n := len(list.Items); !there && n > 0 || there && (n != 1 || list.Items[0].Status.JobID != id) {
			return fmt.Errorf("there are %d BatchJobs", n)
		}
		return nil
	})
}
