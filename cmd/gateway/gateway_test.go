// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/naming"
)

// noLimits lifts the limits of requests, which other tests are about.
var noLimits = func() []string {
	args := []string{"--rate-limit=default=0", "--max-in-flight=1000"}
	for _, action := range []string{"SubmitJob", "DescribeTask", "DescribeTaskLogs", "DeleteJob"} {
		args = append(args, "--rate-limit="+action+"=0")
	}
	return args
}()

// TestGateway: the API over a real API server, with the rights of config/gateway and the webhook of the manager.
func TestGateway(t *testing.T) {
	c := startCluster(t)
	first, second := c.startGateway(t, noLimits...), c.startGateway(t, noLimits...)
	d := c.newCaller(t, first)
	t.Run("submits and describes", func(t *testing.T) { testSubmit(t, d) })
	t.Run("takes all signings", func(t *testing.T) { testSignings(t, d) })
	t.Run("refuses what is wrong", func(t *testing.T) { testCodes(t, d) })
	t.Run("submits once over two replicas", func(t *testing.T) { testReplicas(t, d, second) })
	t.Run("submits once though it is killed", func(t *testing.T) { testKill(t, c, d) })
	t.Run("creates environments", func(t *testing.T) { testEnvs(t, d) })
	t.Run("follows the keys", func(t *testing.T) { testKeys(t, c, c.newCaller(t, first)) })
	t.Run("keeps tenants apart", func(t *testing.T) { testTenants(t, c, d, c.newCaller(t, first)) })
	t.Run("logs no secrets", func(t *testing.T) {
		for _, r := range []*replica{first, second} {
			for _, secret := range []string{d.SecretKey, "p4ss-word", "Signature="} {
				if strings.Contains(r.log.String(), secret) {
					t.Errorf("the log has %q", secret)
				}
			}
		}
	})
}

const dag = `{"Placement": {"Zone": "ap-beijing-2"}, "Job": {"JobName": "dag", "JobDescription": "dag_demo", "Tasks": [
	{"TaskName": "pre_task", "TaskInstanceNum": 1, "Application": {"DeliveryForm": "LOCAL", "Command": "echo pre_task"}, "ComputeEnv": {"EnvData": {"InstanceType": "S2.SMALL1"}}},
	{"TaskName": "post_task", "TaskInstanceNum": 1, "Application": {"DeliveryForm": "LOCAL", "Command": "echo post_task"}, "ComputeEnv": {"EnvData": {"InstanceType": "S2.SMALL1"}}}],
	"Dependences": [{"StartTask": "pre_task", "EndTask": "post_task"}]}%s}`

func testSubmit(t *testing.T, d *caller) {
	d.t = t
	var submitted struct{ JobID string }
	d.must("SubmitJob", fmt.Sprintf(dag, ""), &submitted)
	ofJob := `{"JobId": "` + submitted.JobID + `"}`
	var job struct {
		JobName, JobState string
		TaskSet           []struct{ TaskName string }
		DependenceSet     []struct{ StartTask, EndTask string }
	}
	d.must("DescribeJob", ofJob, &job)
	if job.JobName != "dag" || len(job.TaskSet) != 2 || job.DependenceSet[0].EndTask != "post_task" {
		t.Errorf("the job is %+v", job)
	}
	eventually(t, func() error { // the manager reconciles it
		d.must("DescribeJob", ofJob, &job)
		if job.JobState == "SUBMITTED" {
			return fmt.Errorf("the job is %s", job.JobState)
		}
		return nil
	})
	var task struct {
		TaskInstanceSet []struct{ TaskInstanceState string }
	}
	d.must("DescribeTask", `{"JobId": "`+submitted.JobID+`", "TaskName": "pre_task"}`, &task)
	if len(task.TaskInstanceSet) != 1 {
		t.Errorf("the task is %+v", task)
	}
	var info struct {
		Tasks []struct {
			Application struct{ Command string }
		}
	}
	d.must("DescribeJobSubmitInfo", ofJob, &info)
	if info.Tasks[1].Application.Command != "echo post_task" {
		t.Errorf("what was submitted is %+v", info)
	}
	d.must("TerminateJob", ofJob, nil)
	eventually(t, func() error {
		if _, err := d.call("DeleteJob", ofJob, nil); err != nil {
			return err
		}
		return nil
	})
	d.refused("DescribeJob", ofJob, "ResourceNotFound.Job")
	// A job with a password runs only once its Secret is there.
	d.must("SubmitJob", `{"Placement": {"Zone": "z"}, "ClientToken": "secret", "Job": {"Tasks": [{"Application": {"DeliveryForm": "LOCAL", "Command": "true",
		"Docker": {"User": "u", "Password": "p4ss-word", "Image": "r.example/x:1"}}, "ComputeEnv": {}}]}}`, &submitted)
	eventually(t, func() error {
		d.must("DescribeJob", `{"JobId": "`+submitted.JobID+`"}`, &job)
		if job.JobState != "RUNNABLE" {
			return fmt.Errorf("the job is %s", job.JobState)
		}
		return nil
	})
}

func testSignings(t *testing.T, d *caller) {
	s := d.Signer
	s.Action, s.At = "SubmitJob", time.Now()
	flat := url.Values{
		"Placement.Zone": {"ap-guangzhou-2"}, "ClientToken": {"signings"}, "Job.Tasks.0.Application.Command": {"echo <a> && b"},
		"Job.Tasks.0.Application.DeliveryForm": {"LOCAL"}, "Job.Tasks.0.ComputeEnv.EnvType": {"MANAGED"}, "Job.Priority": {"5"},
	}
	unsigned := s
	unsigned.UnsignedPayload = true
	body := `{"ClientToken": "signings", "Placement": {"Zone": "ap-guangzhou-2"}, "Job": {"Priority": "5", "Tasks": [{"ComputeEnv": {"EnvType": "MANAGED"},
		"Application": {"Command": "echo <a> && b", "DeliveryForm": "LOCAL"}}]}}`
	ids := map[string]bool{}
	for name, req := range map[string]*http.Request{
		"v3 POST": s.POST(d.to.url, body), "v3 POST unsigned": unsigned.POST(d.to.url, body), "v3 GET": s.GET(d.to.url, flat),
		"v1 POST": s.V1(http.MethodPost, d.to.url, "HmacSHA256", flat), "v1 GET": s.V1(http.MethodGet, d.to.url, "HmacSHA1", flat),
	} {
		var out struct{ JobID string }
		if _, err := d.send(req, &out); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		ids[out.JobID] = true
	}
	if len(ids) != 1 {
		t.Errorf("the same request has the JobIds %v", ids)
	}
}

// testCodes: what is wrong with a request itself. What admission and each action refuse is in TestCodes.
func testCodes(t *testing.T, d *caller) {
	d.t = t
	edit := func(old, new string) string { return strings.Replace(fmt.Sprintf(dag, ""), old, new, 1) }
	d.refused("SubmitJob", "{}", "MissingParameter")
	d.refused("SubmitJob", edit("JobDescription", "JobDescripton"), "UnknownParameter")
	d.refused("SubmitJob", edit(`"TaskInstanceNum": 1`, `"TaskInstanceNum": 1.5`), "InvalidParameter")
	d.must("SubmitJob", fmt.Sprintf(dag, `, "ClientToken": "used"`), nil)
	d.refused("SubmitJob", strings.Replace(fmt.Sprintf(dag, `, "ClientToken": "used"`), "echo pre_task", "echo other", 1), "InvalidParameterValue")
	d.refused("NoSuchAction", "{}", "InvalidAction")
}

// testReplicas: 50 requests at once over two replicas are one job, also if a replica is killed meanwhile.
func testReplicas(t *testing.T, d *caller, second *replica) {
	d.t = t
	twin := *d
	twin.to = second
	body := fmt.Sprintf(dag, `, "ClientToken": "fifty"`)
	ids := make([]string, 50)
	var wg sync.WaitGroup
	for i := range ids {
		from := []*caller{d, &twin}[i%2]
		wg.Go(func() {
			var out struct{ JobID string }
			if _, err := from.call("SubmitJob", body, &out); err != nil {
				t.Error(err)
			}
			ids[i] = out.JobID
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("the JobIds are %q", ids)
		}
	}
	// Right after a submission, through the other replica.
	for i := range 10 {
		var out struct{ JobID string }
		d.must("SubmitJob", fmt.Sprintf(dag, fmt.Sprintf(`, "ClientToken": "n-%d"`, i)), &out)
		twin.must("DescribeJob", `{"JobId": "`+out.JobID+`"}`, nil)
	}
}

// testKill kills a gateway between its create of the job and its answer, and between the creates of a job and of its
// Secret. The client's retry, which another replica gets, is the same job.
func testKill(t *testing.T, c *cluster, d *caller) {
	d.t = t
	for name, tc := range map[string]struct{ path, body string }{
		"after the job":    {"/batchjobs", fmt.Sprintf(dag, `, "ClientToken": "killed"`)},
		"after the Secret": {"/secrets", strings.Replace(fmt.Sprintf(dag, `, "ClientToken": "killed-2"`), `"Command": "echo pre_task"`, `"Command": "true", "Docker": {"User": "u", "Password": "p4ss-word", "Image": "x"}`, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := c.startProxy(t, tc.path)
			third := c.startGatewayAt(t, proxy.kubeconfig, noLimits...)
			lost := *d
			lost.to = third
			done := make(chan error, 1)
			go func() { _, err := lost.call("SubmitJob", tc.body, nil); done <- err }()
			<-proxy.stored
			third.kill()
			if err := <-done; err == nil {
				t.Error("the request was answered, though the gateway was killed")
			}
			close(proxy.release)
			var first, second struct{ JobID string }
			d.must("SubmitJob", tc.body, &first)
			d.must("SubmitJob", tc.body, &second)
			var jobs v1alpha1.BatchJobList
			must(t, c.List(t.Context(), &jobs, client.InNamespace(d.namespace)))
			n := 0
			for i := range jobs.Items {
				if job := &jobs.Items[i]; naming.JobID(job.UID) == first.JobID {
					n++
					if job.Spec.Suspend || job.Annotations[v1alpha1.AnnotationAwaitsCredentials] != "" {
						t.Errorf("the job does not run: %+v", job)
					}
				}
			}
			// The answer that was lost has the UID of the job: as its own, or as that of the Secret's owner.
			if n != 1 || first != second || !strings.Contains(proxy.created(), uidOf(jobs.Items, first.JobID)) {
				t.Errorf("the retry is %v and %v, of %d jobs", first, second, n)
			}
		})
	}
}

// uidOf returns the UID of the job with a JobId.
func uidOf(jobs []v1alpha1.BatchJob, id string) string {
	for i := range jobs {
		if naming.JobID(jobs[i].UID) == id {
			return string(jobs[i].UID)
		}
	}
	return "none"
}

func testEnvs(t *testing.T, d *caller) {
	d.t = t
	create := `{"Placement": {"Zone": "z"}, "ClientToken": "pool", "ComputeEnv": {"EnvName": "pool", "DesiredComputeNodeCount": 3, "EnvData": {"InstanceType": "S2.SMALL1"}}}`
	var env, again struct{ EnvID string }
	d.must("CreateComputeEnv", create, &env)
	d.must("CreateComputeEnv", create, &again)
	if env != again {
		t.Errorf("the same request is %v and %v", env, again)
	}
	d.refused("CreateComputeEnv", strings.Replace(create, `"Zone": "z"`, `"Zone": "y"`, 1), "InvalidParameterValue")
	d.refused("CreateComputeEnv", strings.Replace(create, "3", "-3", 1), "InvalidParameterValue.Negative")
	ofEnv := `{"EnvId": "` + env.EnvID + `"`
	d.must("ModifyComputeEnv", ofEnv+`, "DesiredComputeNodeCount": 4, "EnvName": "new", "EnvData": {"InstanceTypes": ["S2.SMALL1", "S2.MEDIUM4"]}}`, nil)
	d.must("CreateComputeEnv", create, &again) // after it was modified
	if env != again {
		t.Errorf("the same request is %v and %v", env, again)
	}
	var info struct {
		EnvName                 string
		DesiredComputeNodeCount int
	}
	d.must("DescribeComputeEnvCreateInfo", ofEnv+"}", &info)
	if info.EnvName != "pool" || info.DesiredComputeNodeCount != 3 {
		t.Errorf("it was created as %+v", info)
	}
	var got struct {
		EnvName                 string
		DesiredComputeNodeCount int
		ComputeNodeSet          []struct{ ComputeNodeID string }
	}
	describe := func(nodes int) {
		t.Helper()
		eventually(t, func() error {
			got.ComputeNodeSet = nil
			if d.must("DescribeComputeEnv", ofEnv+"}", &got); len(got.ComputeNodeSet) != nodes {
				return fmt.Errorf("%d nodes, want %d", len(got.ComputeNodeSet), nodes)
			}
			return nil
		})
	}
	if describe(4); got.EnvName != "new" || got.DesiredComputeNodeCount != 4 {
		t.Errorf("the environment is %+v", got)
	}
	gone := got.ComputeNodeSet[0].ComputeNodeID
	ofNode := ofEnv + `, "ComputeNodeId": "` + gone + `"}`
	d.must("TerminateComputeNode", ofNode, nil)
	d.refused("TerminateComputeNode", ofNode, "ResourceNotFound.ComputeNode")
	describe(3)
	two := got.ComputeNodeSet[0].ComputeNodeID + `", "` + got.ComputeNodeSet[2].ComputeNodeID
	d.must("TerminateComputeNodes", ofEnv+`, "ComputeNodeIds": ["`+two+`"]}`, nil)
	describe(1)
	for body, want := range map[string]string{
		`, "ComputeNodeIds": []}`:                                 "MissingParameter",
		`, "ComputeNodeIds": ["x"]}`:                              "InvalidParameter.ComputeNodeIdMalformed",
		`, "ComputeNodeIds": ["node-00000000", "node-00000000"]}`: "InvalidParameterValue",
		`, "ComputeNodeIds": ["node-00000000"]}`:                  "ResourceNotFound.ComputeNode",
	} {
		d.refused("TerminateComputeNodes", ofEnv+body, want)
	}
	// A job that uses it: its Pod is a node.
	var submitted struct{ JobID string }
	d.must("SubmitJob", `{"Placement": {"Zone": "z"}, "Job": {"Tasks": [{"TaskName": "a", "EnvId": "`+env.EnvID+`", "Application": {"DeliveryForm": "LOCAL", "Command": "true"}}]}}`, &submitted)
	eventually(t, func() error {
		var acts struct{ TotalCount int }
		if d.must("DescribeComputeEnvActivities", ofEnv+"}", &acts); acts.TotalCount != 1 {
			return fmt.Errorf("%d activities", acts.TotalCount)
		}
		return nil
	})
	d.refused("DeleteComputeEnv", ofEnv+"}", "UnsupportedOperation.ComputeEnvOperation")
	describe(1)
	d.must("TerminateComputeNode", ofEnv+`, "ComputeNodeId": "`+got.ComputeNodeSet[0].ComputeNodeID+`"}`, nil)
	describe(0)
	d.must("TerminateJob", `{"JobId": "`+submitted.JobID+`"}`, nil)
	var list struct{ TotalCount int }
	d.must("DescribeComputeEnvs", `{"Filters": [{"Name": "env-name", "Values": ["new"]}, {"Name": "resource-type", "Values": ["CVM"]}]}`, &list)
	if list.TotalCount != 1 {
		t.Errorf("%d environments, want 1", list.TotalCount)
	}
	d.must("DescribeComputeEnvCreateInfos", `{"EnvIds": ["`+env.EnvID+`"]}`, &list)
	d.refused("DescribeComputeEnvs", `{"Filters": [{"Name": "resource-type", "Values": ["GPU"]}]}`, "InvalidParameterValue.ResourceType")
	eventually(t, func() error { _, err := d.call("DeleteComputeEnv", ofEnv+"}", nil); return err })
}

// testKeys: a change of a key's Secret holds as soon as the gateway hears of it.
func testKeys(t *testing.T, c *cluster, d *caller) {
	d.t = t
	becomes := func(want string) {
		t.Helper()
		eventually(t, func() error {
			_, err := d.call("DescribeJobs", "{}", nil)
			if got := fmt.Sprint(err); !strings.HasPrefix(got, want) {
				return fmt.Errorf("%s, want %s", got, want)
			}
			return nil
		})
	}
	change := func(entry, value string) {
		t.Helper()
		patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"stringData": {%q: %q}}`, entry, value))
		must(t, c.Patch(t.Context(), d.secret("key"), patch))
	}
	change("enabled", "false")
	becomes("AuthFailure.SecretIdNotFound")
	change("enabled", "true")
	becomes("<nil>")
	change("expiry", "2020-01-01T00:00:00Z")
	becomes("AuthFailure.SecretIdNotFound")
	change("expiry", "")
	becomes("<nil>")
	change("token", "temporary")
	becomes("AuthFailure.TokenFailure")
	d.Token = "temporary"
	becomes("<nil>")
	change("secretKey", "another-0123456789abcdef")
	becomes("AuthFailure.SignatureFailure")
	d.SecretKey = "another-0123456789abcdef"
	becomes("<nil>")
	must(t, c.Delete(t.Context(), d.secret("key")))
	becomes("AuthFailure.SecretIdNotFound")
	must(t, c.Create(t.Context(), d.secret("key")))
	d.Token = ""
	becomes("<nil>")
	// A service account that the gateway may not act as.
	must(t, c.Patch(t.Context(), d.secret("key"), client.RawPatch("application/merge-patch+json", []byte(`{"metadata": {"annotations": {"`+v1alpha1.AnnotationServiceAccount+`": "default"}}}`))))
	becomes("UnauthorizedOperation: the gateway may not act as")
}

// testTenants: what is in a namespace is only for its keys, and a secretId belongs to whoever had it first.
func testTenants(t *testing.T, c *cluster, d, other *caller) {
	d.t, other.t = t, t
	var out struct{ JobID string }
	d.must("SubmitJob", fmt.Sprintf(dag, ""), &out)
	for _, action := range []string{"DescribeJob", "TerminateJob", "DeleteJob", "DescribeJobSubmitInfo"} {
		other.refused(action, `{"JobId": "`+out.JobID+`"}`, "ResourceNotFound.Job")
	}
	thief := *other
	thief.SecretID, thief.SecretKey = d.SecretID, "thief-0123456789abcdef"
	must(t, c.Create(t.Context(), thief.secret("stolen")))
	eventually(t, func() error {
		if !strings.Contains(d.to.log.String(), "an older Secret has its secretId") {
			return fmt.Errorf("the log does not say that the key is not used")
		}
		return nil
	})
	thief.refused("DescribeJobs", "{}", "AuthFailure.SignatureFailure")
	d.must("DescribeJobs", "{}", nil)
}
