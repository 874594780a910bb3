// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command demo is a program of a user of the vendor's API, with the vendor's Go SDK, unmodified: it submits the job of
// the API's page with two tasks, waits for its end, prints what the tasks have printed, and deletes the job. What it
// says of the gateway is the endpoint and the key.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"time"

	batch "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/batch/v20170312"
	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common"
	sdkerrors "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/errors"
	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/profile"
)

// dag is the request of the API's page, without a store for the logs. The zone is to be filled in.
const dag = `{
  "Placement": {"Zone": %q},
  "Job": {
    "JobName": "dag",
    "JobDescription": "dag_demo",
    "Tasks": [
      {"TaskName": "pre_task", "TaskInstanceNum": 1, "Application": {"DeliveryForm": "LOCAL", "Command": "echo pre_task"}, "ComputeEnv": {"EnvData": {"InstanceType": "S2.SMALL1"}}},
      {"TaskName": "post_task", "TaskInstanceNum": 1, "Application": {"DeliveryForm": "LOCAL", "Command": "echo post_task"}, "ComputeEnv": {"EnvData": {"InstanceType": "S2.SMALL1"}}}
    ],
    "Dependences": [{"StartTask": "pre_task", "EndTask": "post_task"}]
  }
}`

// maxDelay is for how long a call is repeated, and pollInterval how long the program waits between two calls: the API
// answers DescribeJob twice a second.
const (
	maxDelay     = 10 * time.Second
	pollInterval = time.Second
)

func main() {
	endpoint := flag.String("endpoint", "", "host and port of the gateway")
	ca := flag.String("ca", "", "file with the certificate to trust, in PEM (default: those of the system)")
	zone := flag.String("zone", "ap-guangzhou-2", "where the job is to run")
	flag.Parse()
	if err := run(*endpoint, *ca, fmt.Sprintf(dag, *zone)); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(endpoint, ca, body string) error {
	client, err := connect(endpoint)
	if err != nil {
		return err
	}
	if ca != "" {
		if err := trust(client, ca); err != nil {
			return err
		}
	}
	// A new key, and the rights of its service account, are not known everywhere at once.
	job, err := soon(func() (string, error) { return submit(client, body) }, "AuthFailure.SecretIdNotFound", "UnauthorizedOperation")
	if err != nil {
		return err
	}
	if err := wait(client, job); err != nil {
		return err
	}
	for _, task := range []string{"pre_task", "post_task"} {
		if err := showLog(client, job, task); err != nil {
			return err
		}
	}
	// The status of a job that has just ended may change once more in the moment of the call.
	id, err := soon(func() (string, error) { return remove(client, job) }, "ResourceInUse.Job")
	if err != nil {
		return err
	}
	fmt.Println("DeleteJob          RequestId", id)
	return nil
}

// connect makes a client of the gateway.
func connect(endpoint string) (*batch.Client, error) {
	key := common.NewCredential(os.Getenv("TENCENTCLOUD_SECRET_ID"), os.Getenv("TENCENTCLOUD_SECRET_KEY"))
	settings := profile.NewClientProfile()
	settings.HttpProfile.Endpoint = endpoint
	return batch.NewClient(key, "ap-guangzhou", settings)
}

// submit submits a job and returns its JobId.
func submit(client *batch.Client, body string) (string, error) {
	request := batch.NewSubmitJobRequest()
	if err := request.FromJsonString(body); err != nil {
		return "", err
	}
	response, err := client.SubmitJob(request)
	if err != nil {
		return "", err
	}
	fmt.Println("SubmitJob         ", *response.Response.JobId, "RequestId", *response.Response.RequestId)
	return *response.Response.JobId, nil
}

// trust has a client trust the certificate in a file only.
func trust(client *batch.Client, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return fmt.Errorf("%s has no certificate", file)
	}
	client.WithHttpTransport(&http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}})
	return nil
}

// soon repeats f for a moment while it is refused with one of these codes.
func soon(f func() (string, error), codes ...string) (string, error) {
	for end := time.Now().Add(maxDelay); ; time.Sleep(pollInterval) {
		out, err := f()
		var refused *sdkerrors.TencentCloudSDKError
		if err == nil || !errors.As(err, &refused) || time.Now().After(end) || !slices.Contains(codes, refused.Code) {
			return out, err
		}
	}
}

// wait waits for the end of a job and prints each state that it sees.
func wait(client *batch.Client, job string) error {
	request := batch.NewDescribeJobRequest()
	request.JobId = &job
	for state := ""; ; time.Sleep(pollInterval) {
		response, err := client.DescribeJob(request)
		if err != nil {
			return err
		}
		if now := *response.Response.JobState; now != state {
			state = now
			fmt.Printf("DescribeJob        %s\n", state)
		}
		switch state {
		case "SUCCEED":
			return nil
		case "FAILED":
			reason, _ := json.Marshal(response.Response.StateReason)
			return fmt.Errorf("the job is FAILED: %s", reason)
		}
	}
}

// remove deletes a job and returns the RequestId.
func remove(client *batch.Client, job string) (string, error) {
	request := batch.NewDeleteJobRequest()
	request.JobId = &job
	response, err := client.DeleteJob(request)
	if err != nil {
		return "", err
	}
	return *response.Response.RequestId, nil
}

// showLog prints the standard output of a task's instances.
func showLog(client *batch.Client, job, task string) error {
	request := batch.NewDescribeTaskLogsRequest()
	request.JobId, request.TaskName = &job, &task
	response, err := client.DescribeTaskLogs(request)
	if err != nil {
		return err
	}
	for _, log := range response.Response.TaskInstanceLogSet {
		if log.StdoutLog == nil {
			continue
		}
		text, err := base64.StdEncoding.DecodeString(*log.StdoutLog)
		if err != nil {
			return fmt.Errorf("decoding the log of %s: %w", task, err)
		}
		fmt.Printf("DescribeTaskLogs   %s[%d]: %s", task, *log.TaskInstanceIndex, text)
	}
	return nil
}
