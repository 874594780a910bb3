// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
)

func TestWarningsOfRequests(t *testing.T) {
	const task, data = "spec.job.tasks[0].", "spec.job.tasks[0].computeEnv.envData."
	for name, want := range map[string][]string{
		"ok-smallest": nil,
		"api-dag":     nil,
		"api-package-and-mappings": {
			data + "systemDisk.diskType has no effect on Kubernetes",
			data + "virtualPrivateCloud has no effect on Kubernetes",
			task + "computeEnv.mountDataDisks[0].fileSystemType has no effect on Kubernetes",
			task + "inputMappings[0] has a mountOptionParameter without effect: objects are copied, and NFS takes options only with a csiDriver of the operator's catalogue",
			task + "outputMappings[0] stores the files of all instances in one place, where they overwrite each other's: put ${BATCH_TASK_INSTANCE_INDEX} into destinationPath, or into the names",
		},
		"api-docker-and-named-environment": {
			task + "application.docker.user has no effect on Kubernetes; the Secret of passwordSecretRef has the user",
			task + "application.docker.passwordSecretRef " + secretText,
			data + "instanceMarketOptions has no effect on Kubernetes",
			"spec.job.tasks[1].restartComputeNode has no effect on Kubernetes",
			"spec.job.stateIfCreateCvmFailed has no effect for tasks with envId",
		},
		"api-windows": {
			task + "computeEnv.mountDataDisks[0].fileSystemType has no effect on Kubernetes",
			task + "computeEnv.agentRunningMode has no effect on Kubernetes",
		},
	} {
		t.Run(name, func(t *testing.T) {
			job, _ := readRequest(t, "testdata/requests/"+name+".yaml")
			got := Validator{}.Warnings(job)
			checkWarnings(t, got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func checkWarnings(t interface{ Errorf(string, ...any) }, warnings []string) {
	if len(warnings) > MaxWarnings {
		t.Errorf("%d warnings", len(warnings))
	}
	for _, w := range warnings {
		if len(w) > MaxWarning {
			t.Errorf("warning of %d bytes: %s", len(w), w)
		}
		if strings.ContainsFunc(w, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("warning is not ASCII: %q", w)
		}
	}
}

func TestWarnings(t *testing.T) {
	for name, tc := range map[string]struct {
		edit func(*v1alpha1.BatchJob)
		want []string
	}{
		"placement": {
			func(j *v1alpha1.BatchJob) {
				j.Spec.Placement = v1alpha1.Placement{Zone: "z", ProjectID: ptr(int64(7)), HostIDs: []string{"h"}, HostIPs: []string{"::1"}}
			},
			nil,
		},
		"what is a default says nothing": {
			func(j *v1alpha1.BatchJob) {
				j.Spec.Placement.ProjectID = ptr(int64(0))
				j.Spec.Job.StateIfCreateCvmFailed = "FAILED"
				task := &j.Spec.Job.Tasks[0]
				task.FailedAction, task.ResourceMaxRetryCount, task.RestartComputeNode = "TERMINATE", ptr(int64(0)), ptr(false)
				task.ComputeEnv.EnvData = &v1alpha1.EnvData{InstanceChargeType: "POSTPAID_BY_HOUR", Zones: []string{"z"}, ImageID: "img-1",
					DataDisks: []v1alpha1.DataDisk{{DiskSize: ptr(int64(0)), DeleteWithInstance: ptr(true), Encrypt: ptr(false), ThroughputPerformance: ptr(int64(0))}}}
			}, nil,
		},
		"with envId": {
			func(j *v1alpha1.BatchJob) {
				j.Spec = request("a", "b", "c").Spec
				j.Spec.Job.StateIfCreateCvmFailed = "RUNNABLE"
				for i := range j.Spec.Job.Tasks {
					task := &j.Spec.Job.Tasks[i]
					task.FailedAction, task.ResourceMaxRetryCount = "INTERRUPT", ptr(int64(0))
					if i > 0 {
						task.ComputeEnv, task.EnvID = nil, "pool"
					}
				}
				j.Spec.Job.Tasks[2].FailedAction = "TERMINATE"
			},
			[]string{
				"spec.job.tasks[1].resourceMaxRetryCount (and in 1 more task) has no effect with envId: that of the ComputeEnv applies",
				"spec.job.tasks[1].failedAction has no effect with envId",
				"spec.job.stateIfCreateCvmFailed has no effect for tasks with envId",
			},
		},
		"disks": {
			func(j *v1alpha1.BatchJob) {
				env := j.Spec.Job.Tasks[0].ComputeEnv
				env.EnvData = &v1alpha1.EnvData{DataDisks: []v1alpha1.DataDisk{
					{DiskSize: ptr(int64(0))}, {DiskSize: ptr(int64(10)), DeleteWithInstance: ptr(false)},
					{DiskSize: ptr(int64(20)), Encrypt: ptr(true), KmsKeyID: "k", ThroughputPerformance: ptr(int64(1))},
				}}
				env.MountDataDisks = []v1alpha1.MountDataDisk{{LocalPath: "/a", FileSystemType: "EXT4"}}
			},
			[]string{
				"spec.job.tasks[0].computeEnv.envData.dataDisks[2] is not mounted, so it has no effect; add a mount to mountDataDisks",
				"spec.job.tasks[0].computeEnv.envData.dataDisks[1].deleteWithInstance has no effect on Kubernetes",
				"spec.job.tasks[0].computeEnv.envData.dataDisks[2].encrypt has no effect on Kubernetes",
				"spec.job.tasks[0].computeEnv.envData.dataDisks[2].kmsKeyId has no effect on Kubernetes",
				"spec.job.tasks[0].computeEnv.envData.dataDisks[2].throughputPerformance has no effect on Kubernetes",
				"spec.job.tasks[0].computeEnv.mountDataDisks[0].fileSystemType has no effect on Kubernetes",
			},
		},
		"a credential in docker's options": {
			func(j *v1alpha1.BatchJob) {
				j.Spec.Job.Tasks[0].Application.Docker = &v1alpha1.Docker{DockerRunOption: "-e DB_PASSWORD=hunter22"}
			},
			[]string{"spec.job.tasks[0].application.docker.dockerRunOption seems to contain a credential; everybody who may read the BatchJob or its Pods can see it"},
		},
		"fields in lists": {
			func(j *v1alpha1.BatchJob) {
				j.Spec.Job.Tasks[0].ComputeEnv.EnvData = &v1alpha1.EnvData{
					SystemDisk: &v1alpha1.SystemDisk{}, DataDisks: []v1alpha1.DataDisk{{}, {CdcID: "c"}}, LoginSettings: &v1alpha1.LoginSettings{},
				}
			},
			[]string{
				"spec.job.tasks[0].computeEnv.envData.dataDisks[1].cdcId has no effect on Kubernetes",
				"spec.job.tasks[0].computeEnv.envData.loginSettings has no effect on Kubernetes",
			},
		},
		"the first task that has it": {
			func(j *v1alpha1.BatchJob) {
				j.Spec = request("a", "b", "c", "d").Spec
				for _, i := range []int{1, 2, 3} {
					j.Spec.Job.Tasks[i].RestartComputeNode = ptr(true)
				}
				j.Spec.Job.Tasks[2].ComputeEnv.AgentRunningMode = &v1alpha1.AgentRunningMode{}
			},
			[]string{
				"spec.job.tasks[1].restartComputeNode (and in 2 more tasks) has no effect on Kubernetes",
				"spec.job.tasks[2].computeEnv.agentRunningMode has no effect on Kubernetes",
			},
		},
		"package without PACKAGE": {
			func(j *v1alpha1.BatchJob) { j.Spec.Job.Tasks[0].Application.PackagePath = "cos://b/p.tgz" },
			[]string{"spec.job.tasks[0].application has a packagePath, which has no effect when deliveryForm is LOCAL"},
		},
		"lines of Windows": {
			func(j *v1alpha1.BatchJob) {
				j.Spec = request("a", "b", "c").Spec
				j.Spec.Job.Tasks[0].Application.Command = "echo a\nexit 0\n"
				j.Spec.Job.Tasks[1].Application.Command = "echo a\r\nexit 0\r\n"
				j.Spec.Job.Tasks[2].Application.Command = "exit 0\r"
			},
			[]string{`spec.job.tasks[1].application.command (and in 1 more task) has carriage returns (\r): save it with Unix line ends, since the shell treats them as parts of words`},
		},
		"a byte order mark": {
			func(j *v1alpha1.BatchJob) { j.Spec.Job.Tasks[0].Application.Command = "\ufeffecho a" },
			[]string{"spec.job.tasks[0].application.command begins with a byte order mark, which the shell takes for a part of the first word: save it without one"},
		},
		"mounts without disks": {
			func(j *v1alpha1.BatchJob) {
				j.Spec = request("a", "b", "c").Spec
				mounts := []v1alpha1.MountDataDisk{{LocalPath: "/data"}, {LocalPath: "/more"}}
				none := []v1alpha1.DataDisk{{DiskSize: ptr(int64(0))}}
				j.Spec.Job.Tasks[0].ComputeEnv = &v1alpha1.AnonymousComputeEnv{MountDataDisks: mounts[:1], EnvData: &v1alpha1.EnvData{DataDisks: []v1alpha1.DataDisk{{DiskSize: ptr(int64(10))}}}}
				j.Spec.Job.Tasks[1].ComputeEnv = &v1alpha1.AnonymousComputeEnv{MountDataDisks: mounts}
				j.Spec.Job.Tasks[2].ComputeEnv = &v1alpha1.AnonymousComputeEnv{MountDataDisks: mounts, EnvData: &v1alpha1.EnvData{DataDisks: none}}
			},
			[]string{"spec.job.tasks[1].computeEnv.mountDataDisks[0] (and in 1 more task) has no data disk: it becomes a directory of the system disk"},
		},
		"Secrets for images": {
			func(j *v1alpha1.BatchJob) {
				j.Spec = request("a", "b").Spec
				for i := range j.Spec.Job.Tasks {
					j.Spec.Job.Tasks[i].Application.Docker = &v1alpha1.Docker{Image: "r.example/a", PasswordSecretRef: &v1alpha1.SecretRef{Name: "r"}}
				}
				j.Spec.Job.Tasks[1].ComputeEnv.Kubernetes = &v1alpha1.KubernetesOptions{ImagePullSecrets: []v1alpha1.SecretRef{{Name: "s"}}}
			},
			[]string{
				"spec.job.tasks[0].application.docker.passwordSecretRef (and in 1 more task) " + secretText,
				"spec.job.tasks[1].computeEnv.kubernetes.imagePullSecrets " + secretText,
			},
		},
		"fields of later versions of the API": {
			func(j *v1alpha1.BatchJob) {
				j.Spec.Placement = v1alpha1.Placement{
					Zone: "z", HostID: "host-1", RackID: "rack-1", DedicatedResourcePackTenancy: "ResourcePool", DedicatedResourcePackIDs: []string{"rpp-7eumgm3l"},
				}
				j.Spec.Job.NotificationTarget = "TDMQ_CMQ"
				task := &j.Spec.Job.Tasks[0]
				task.Application.Docker = &v1alpha1.Docker{Image: "a", MaxRetryCount: ptr(int64(3)), DelayOnRetry: ptr(int64(10))}
				task.ComputeEnv.EnvData = &v1alpha1.EnvData{
					SystemDisk:         &v1alpha1.SystemDisk{DiskName: "n", Encrypt: ptr(true), KmsKeyID: "k"},
					DataDisks:          []v1alpha1.DataDisk{{DiskSize: ptr(int64(0)), DiskName: "n", BurstPerformance: ptr(true)}},
					InternetAccessible: &v1alpha1.InternetAccessible{InternetServiceProvider: "BGP", IPv4AddressType: "WanIP", IPv6AddressType: "EIPv6", AntiDDoSPackageID: "p"},
					EnhancedService:    &v1alpha1.EnhancedService{AutomationService: &v1alpha1.RunService{}},
				}
			},
			[]string{
				"spec.placement.hostId has no effect on Kubernetes; hostIds choose hosts",
				"spec.placement.rackId has no effect on Kubernetes",
				"spec.placement.dedicatedResourcePackTenancy has no effect on Kubernetes",
				"spec.placement.dedicatedResourcePackIds has no effect on Kubernetes",
				"spec.job.tasks[0].application.docker.maxRetryCount has no effect on Kubernetes; the kubelet retries a pull by itself",
				"spec.job.tasks[0].application.docker.delayOnRetry has no effect on Kubernetes; the kubelet backs off by itself",
				"spec.job.tasks[0].computeEnv.envData.systemDisk.diskName has no effect on Kubernetes",
				"spec.job.tasks[0].computeEnv.envData.systemDisk.encrypt has no effect on Kubernetes",
				"spec.job.tasks[0].computeEnv.envData.systemDisk.kmsKeyId has no effect on Kubernetes",
				"spec.job.tasks[0].computeEnv.envData.dataDisks[0].burstPerformance has no effect on Kubernetes",
				"spec.job.tasks[0].computeEnv.envData.dataDisks[0].diskName has no effect on Kubernetes",
				"spec.job.tasks[0].computeEnv.envData.internetAccessible has no effect on Kubernetes",
				"spec.job.tasks[0].computeEnv.envData.enhancedService has no effect on Kubernetes",
				"spec.job.notificationTarget has no effect on Kubernetes; " + targetNote,
			},
		},
		"variables": {
			func(j *v1alpha1.BatchJob) {
				j.Spec.Job.Tasks[0].EnvVars = []v1alpha1.EnvVar{{Name: "A", Value: "1"}, {Name: "DB_PASSWORD", Value: "hunter22"}, {Name: "A", Value: "2"}}
			},
			[]string{
				"spec.job.tasks[0].envVars has a name twice; the last value counts",
				"spec.job.tasks[0].envVars[1] seems to contain a credential; everybody who may read the BatchJob or its Pods can see it",
			},
		},
		"a long timeout": {
			func(j *v1alpha1.BatchJob) { j.Spec.Job.Tasks[0].Timeout = ptr(int64(30*86400 + 1)) },
			[]string{"spec.job.tasks[0].timeout and the timeouts of the tasks that it waits for add up to 31 days, more than 30"},
		},
		"just not too long": {
			func(j *v1alpha1.BatchJob) { j.Spec.Job.Tasks[0].Timeout = ptr(int64(30 * 86400)) }, nil,
		},
		"a long chain": {
			func(j *v1alpha1.BatchJob) {
				names := make([]string, 40)
				for i := range names {
					names[i] = fmt.Sprint("t", i)
				}
				j.Spec = request(names...).Spec
				for i := range 39 {
					j.Spec.Job.Dependences = append(j.Spec.Job.Dependences, v1alpha1.Dependence{StartTask: names[i+1], EndTask: names[i]})
				}
				j.Spec.Job.Dependences = append(j.Spec.Job.Dependences, v1alpha1.Dependence{StartTask: "nope", EndTask: "t1"})
			},
			[]string{"spec.job.tasks[0].timeout and the timeouts of the tasks that it waits for add up to 40 days, more than 30"},
		},
		"a cycle has no longest chain": {
			func(j *v1alpha1.BatchJob) {
				j.Spec.Job.Tasks[0].Timeout = ptr(int64(1) << 40)
				j.Spec.Job.Dependences = []v1alpha1.Dependence{{StartTask: "a", EndTask: "a"}}
			}, nil,
		},
		"no tasks": {func(j *v1alpha1.BatchJob) { j.Spec.Job.Tasks = nil }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			job := request("a")
			tc.edit(job)
			got := Validator{}.Warnings(job)
			checkWarnings(t, got)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestWarningsAreBounded(t *testing.T) {
	job := request("a", "b")
	task := &job.Spec.Job.Tasks[1]
	task.RestartComputeNode = ptr(true)
	task.Application.Docker = &v1alpha1.Docker{Server: "s", User: "u"}
	task.ComputeEnv.AgentRunningMode = &v1alpha1.AgentRunningMode{}
	task.ComputeEnv.MountDataDisks = []v1alpha1.MountDataDisk{{FileSystemType: "EXT4"}}
	task.ComputeEnv.EnvData = &v1alpha1.EnvData{
		InstanceType: "a", InstanceTypes: []string{"a"}, InstanceTypeOptions: &v1alpha1.InstanceTypeOptions{}, SystemDisk: &v1alpha1.SystemDisk{CdcID: "c"},
		DataDisks: []v1alpha1.DataDisk{{Encrypt: ptr(true), DeleteWithInstance: ptr(false), KmsKeyID: "k", ThroughputPerformance: ptr(int64(1)), CdcID: "c", DiskSize: ptr(int64(10))}, {DiskSize: ptr(int64(10))}}, VirtualPrivateCloud: &v1alpha1.VirtualPrivateCloud{}, VirtualPrivateClouds: []v1alpha1.VirtualPrivateCloud{{}},
		InternetAccessible: &v1alpha1.InternetAccessible{}, InstanceName: "n", LoginSettings: &v1alpha1.LoginSettings{}, SecurityGroupIDs: []string{"s"},
		EnhancedService: &v1alpha1.EnhancedService{}, InstanceMarketOptions: &v1alpha1.InstanceMarketOptions{}, InstanceChargeType: "SPOTPAID",
	}
	task.OutputMappingConfigs = []v1alpha1.OutputMappingConfig{{}, {}}
	task.RedirectInfo = &v1alpha1.RedirectInfo{StdoutRedirectPath: "p", StdoutRedirectFileName: "n", StderrRedirectPath: "p", StderrRedirectFileName: "n"}
	task.Authentications = []v1alpha1.Authentication{{}, {}}
	got := Validator{}.Warnings(job)
	checkWarnings(t, got)
	if len(got) != MaxWarnings || got[MaxWarnings-1] != "3 more warnings are not shown" {
		t.Errorf("%d warnings, last %q", len(got), got[len(got)-1])
	}
}

// A machine type whose size the catalogue derives from its name is no mistake, but may be a slip.
func TestDerivedTypeWarning(t *testing.T) {
	offers, err := catalog.Parse([]byte("apiVersion: config.batchcompute.dev/v1alpha1\nkind: Catalog\nderiveInstanceTypes: true\n" +
		"defaultImage: busybox\ninstanceTypes: {S5.MEDIUM4: {cpu: 2, memory: 4Gi}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	v := Validator{Catalog: func() *catalog.Catalog { return offers }}
	job := request("a", "b", "c")
	for i, data := range []*v1alpha1.EnvData{{InstanceType: "S5.MEDIUM4"}, {InstanceType: "S12.LARGE8"}, {InstanceTypes: []string{"S5.MEDIUM4", "S12.LARGE8", "S12.LARGE16"}}} {
		job.Spec.Job.Tasks[i].ComputeEnv = &v1alpha1.AnonymousComputeEnv{EnvData: data}
	}
	want := []string{
		"spec.job.tasks[1].computeEnv.envData.instanceType " + derivedText,
		"spec.job.tasks[2].computeEnv.envData.instanceTypes[1] " + derivedText,
	}
	if problems := v.ValidateCreate(job); problems != nil {
		t.Errorf("refused: %v", problems)
	}
	got := v.Warnings(job)
	checkWarnings(t, got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	env, _ := readComputeEnv(t, "testdata/computeenvs/ok-smallest.yaml")
	env.Spec.EnvData = &v1alpha1.EnvData{InstanceTypes: []string{"S12.LARGE8"}}
	env.Spec.Kubernetes = &v1alpha1.KubernetesOptions{ImagePullSecrets: []v1alpha1.SecretRef{{Name: "s"}}}
	env.Spec.MountDataDisks = []v1alpha1.MountDataDisk{{LocalPath: "/data"}}
	want = []string{
		"spec.envData.instanceTypes[0] " + derivedText,
		"spec.mountDataDisks[0] has no data disk: it becomes a directory of the system disk",
		"spec.kubernetes.imagePullSecrets " + secretText,
	}
	if problems := v.ValidateComputeEnvCreate(env); problems != nil {
		t.Errorf("refused: %v", problems)
	}
	if diff := cmp.Diff(want, v.ComputeEnvWarnings(env)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := (Validator{}).ComputeEnvWarnings(env); len(got) != 2 {
		t.Errorf("nobody was asked: %v", got)
	}
	job.Spec.Job.Tasks[1].ComputeEnv.EnvData.InstanceType = "GN12.LARGE8" // may have GPUs
	if got := summary(v.ValidateCreate(job)); !slices.Equal(got, []string{"InvalidParameter.CvmParameters spec.job.tasks[1].computeEnv.envData.instanceType"}) {
		t.Errorf("problems %v", got)
	}
}

// SPOTPAID has an effect where the catalogue has something for it.
func TestSpotWarning(t *testing.T) {
	job := request("a")
	job.Spec.Job.Tasks[0].ComputeEnv.EnvData = &v1alpha1.EnvData{InstanceChargeType: "SPOTPAID"}
	want := []string{"spec.job.tasks[0].computeEnv.envData.instanceChargeType has no effect in this cluster: the operator's catalogue has no charge type SPOTPAID"}
	if diff := cmp.Diff(want, jobWarnings(job, &fake{})); diff != "" {
		t.Errorf("without it (-want +got):\n%s", diff)
	}
	if got := jobWarnings(job, &fake{spot: true}); got != nil {
		t.Errorf("with it: %v", got)
	}
	if got := (Validator{}).Warnings(job); got != nil {
		t.Errorf("nobody was asked: %v", got)
	}
}

func TestHoldsCredential(t *testing.T) {
	for text, want := range map[string]bool{
		"":                                                        false,
		"python train.py --epochs 3":                              false,
		"mysql --password=hunter22 db":                            true,
		"mysql --password hunter22 db":                            true,
		"mysql --password $PASSWORD db":                           false,
		"mysql --password=\"${PASSWORD}\" x":                      false,
		"mysql --password-file=/run/secret":                       false,
		"export PASSWORD='correct horse'":                         true,
		"export TOKEN=abc":                                        false, // too short to be one
		"count tokens in the secret garden":                       false,
		"train --tokens 100000":                                   false,
		"curl -H 'Authorization: Bearer eyJhbGciOiJIUzI1NiJ9' x":  true,
		"curl -H \"Authorization: Bearer $TOKEN\" x":              false,
		"curl https://user:hunter2@host/x":                        true,
		"curl https://user:$PW@host/x":                            false,
		"curl https://host/a@b:c":                                 false,
		"curl https://user@host/ http://a:b@c":                    true,
		"coscli -i AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE0":         true,
		"aws AKIAIOSFODNN7EXAMPLE":                                true,
		"AKIDEAS are good":                                        false,
		"cat <<E\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\nE":       true,
		`{"apiKey": "0123456789abcdef"}`:                          true,
		"secret_key : 0123456789abcdef":                           true,
		"password: ":                                              false,
		"password":                                                false,
		"password=$(cat /run/secret); secret=`x`; token=../t/f.x": false,
		"SecretId=AKID Authorization:":                            false,
	} {
		if got := holdsCredential(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestIsSecretName(t *testing.T) {
	for name, want := range map[string]bool{
		"DB_PASSWORD": true, "apiKey": true, "AWS_SECRET_ACCESS_KEY": true, "TOKEN": true,
		"DB_PASSWORD_FILE": false, "SECRET_NAME": false, "TOKEN_PATH": false, "SecretId": false, "SECRET_ID": false, "QUALITY": false,
	} {
		if got := isSecretName(name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}
