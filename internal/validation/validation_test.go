// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/errcode"
)

func ptr[T any](v T) *T { return &v }

// request is the smallest BatchJob that is accepted, with one task for each name.
func request(names ...string) *v1alpha1.BatchJob {
	job := &v1alpha1.BatchJob{}
	job.Spec.Placement.Zone = "ap-guangzhou-2"
	for _, name := range names {
		job.Spec.Job.Tasks = append(job.Spec.Job.Tasks, v1alpha1.Task{
			TaskName:    name,
			Application: v1alpha1.Application{DeliveryForm: v1alpha1.DeliveryFormLocal, Command: "true"},
			ComputeEnv:  &v1alpha1.AnonymousComputeEnv{},
		})
	}
	return job
}

// summary writes problems as "CODE path".
func summary(problems []Problem) []string {
	var s []string
	for _, p := range problems {
		s = append(s, string(p.Code)+" "+p.Field.String())
	}
	return s
}

// readRequest reads a file of testdata/requests: a manifest, and in the comments
// before it the problems that it has, or "accepted".
func readRequest(t *testing.T, file string) (*v1alpha1.BatchJob, []string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		comment, ok := strings.CutPrefix(lines.Text(), "# ")
		if !ok {
			break
		}
		if comment != "accepted" {
			want = append(want, comment)
		}
	}
	job := &v1alpha1.BatchJob{}
	if err := yaml.UnmarshalStrict(data, job); err != nil {
		t.Fatal(err)
	}
	return job, want
}

// Codes that no request gets from its content alone: they come from the cluster, from
// a failure, or from a decoder.
var notFromValidation = []errcode.Code{
	errcode.InternalError, errcode.CallCvm, errcode.JobQuota, errcode.UserNotAllowedToUseBatch, errcode.UnavailableZone,
	errcode.InvalidParameter, errcode.UnknownParameter, errcode.UnauthorizedOperation,
}

// Every request has exactly the problems that its file says, and every code of the
// table that validation can answer with has a request that provokes it first.
func TestRequests(t *testing.T) {
	files, err := filepath.Glob("testdata/requests/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no requests: %v", err)
	}
	provoked := map[errcode.Code][]string{}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			job, want := readRequest(t, file)
			problems := Validator{Envs: oneEnv}.ValidateCreate(job)
			if diff := cmp.Diff(want, summary(problems)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if len(problems) > 0 {
				provoked[problems[0].Code] = append(provoked[problems[0].Code], name)
			}
			for _, p := range problems {
				t.Log(p.Error())
			}
		})
	}
	for _, e := range errcode.Table() {
		switch names := provoked[e.Code]; {
		case e.Kind != "":
			continue
		case slices.Contains(notFromValidation, e.Code):
			if len(names) > 0 {
				t.Errorf("%s is said not to come from validation, but %v provoke it", e.Code, names)
			}
		case len(names) == 0:
			t.Errorf("no request provokes %s", e.Code)
		default:
			t.Logf("%-55s %s", e.Code, strings.Join(names, ", "))
		}
		delete(provoked, e.Code)
	}
	for code := range provoked {
		t.Errorf("%s is not in the table", code)
	}
}

func TestRules(t *testing.T) {
	const (
		task = "spec.job.tasks[0]"
		data = task + ".computeEnv.envData"
	)
	env := func(edit func(e *v1alpha1.EnvData)) func(*v1alpha1.BatchJob) {
		return func(j *v1alpha1.BatchJob) {
			j.Spec.Job.Tasks[0].ComputeEnv.EnvData = &v1alpha1.EnvData{}
			edit(j.Spec.Job.Tasks[0].ComputeEnv.EnvData)
		}
	}
	app := func(edit func(a *v1alpha1.Application)) func(*v1alpha1.BatchJob) {
		return func(j *v1alpha1.BatchJob) { edit(&j.Spec.Job.Tasks[0].Application) }
	}
	first := func(edit func(t *v1alpha1.Task)) func(*v1alpha1.BatchJob) {
		return func(j *v1alpha1.BatchJob) { edit(&j.Spec.Job.Tasks[0]) }
	}
	for name, tc := range map[string]struct {
		edit func(*v1alpha1.BatchJob)
		want []string // "CODE path: a part of the detail"
	}{
		"zone is a label value": {
			func(j *v1alpha1.BatchJob) { j.Spec.Placement.Zone = "zone 1" },
			[]string{"InvalidParameterValue spec.placement.zone: beginning and ending"},
		},
		"zone in one task of two is not enough": {
			func(j *v1alpha1.BatchJob) {
				j.Spec = request("a", "b").Spec
				j.Spec.Placement.Zone = ""
				j.Spec.Job.Tasks[0].ComputeEnv.EnvData = &v1alpha1.EnvData{Zones: []string{"z"}}
			},
			[]string{"MissingParameter spec.placement.zone: unless every task gives"},
		},
		"hosts": {
			func(j *v1alpha1.BatchJob) {
				j.Spec.Placement.HostIDs = []string{"host-1", "-x"}
				j.Spec.Placement.HostIPs = []string{"10.0.0.1", "fe80::1%eth0", "::1", "10.0.0"}
			},
			[]string{
				"InvalidParameterValue spec.placement.hostIds[1]: got \"-x\"",
				"InvalidParameterValue spec.placement.hostIps[1]: must be an IP address",
				"InvalidParameterValue spec.placement.hostIps[3]: got \"10.0.0\"",
			},
		},
		"too many hosts": {
			func(j *v1alpha1.BatchJob) {
				j.Spec.Placement.HostIDs, j.Spec.Placement.HostIPs = slices.Repeat([]string{"h"}, 101), slices.Repeat([]string{"::1"}, 100)
			},
			[]string{"InvalidParameterValue.LimitExceeded spec.placement.hostIds: at most 100 hosts, got 101"},
		},
		"envId": {
			func(j *v1alpha1.BatchJob) {
				j.Spec = request("a", "b", "c", "d", "e").Spec
				for i, id := range []string{"pool", "env-0a1b2c3d", "a_b", strings.Repeat("x", 64), "a.b"} {
					j.Spec.Job.Tasks[i].ComputeEnv, j.Spec.Job.Tasks[i].EnvID = nil, id
				}
			},
			[]string{
				"InvalidParameter.EnvIdMalformed spec.job.tasks[2].envId: the name of a ComputeEnv, or its status.envId",
				"InvalidParameter.EnvIdMalformed spec.job.tasks[3].envId: at most 63",
			},
		},
		"all GPUs of no machine type": {
			app(func(a *v1alpha1.Application) {
				a.Docker = &v1alpha1.Docker{Image: "a", DockerRunOption: "--gpus all"}
			}),
			[]string{"InvalidParameterValue " + task + ".application.docker.dockerRunOption: a number after --gpus: all works only with instanceType or instanceTypes"},
		},
		"no secret in an answer about docker's options": {
			app(func(a *v1alpha1.Application) {
				a.Docker = &v1alpha1.Docker{Image: "a", DockerRunOption: "-e BATCH_A=hunter22"}
			}),
			[]string{"InvalidParameterValue " + task + ".application.docker.dockerRunOption: begins with BATCH_, which is reserved"},
		},
		"client token": {
			func(j *v1alpha1.BatchJob) { j.Spec.ClientToken = "token\x00" },
			[]string{`InvalidParameterValue spec.clientToken: printable ASCII characters, got "token\x00"`},
		},
		"client token of other letters": {
			func(j *v1alpha1.BatchJob) { j.Spec.ClientToken = "令牌" },
			[]string{"InvalidParameterValue spec.clientToken: got \"令牌\""},
		},
		"tags": {
			func(j *v1alpha1.BatchJob) {
				j.Spec.Job.Tags = []v1alpha1.Tag{
					{Key: ""}, {Key: "a"}, {Key: "a"}, {Key: "project-x"},
					{Key: strings.Repeat("键", 128)}, {Key: strings.Repeat("键", 127), Value: strings.Repeat("值", 256)},
				}
			},
			[]string{
				"MissingParameter spec.job.tags[0].key: must be given",
				"InvalidParameterValue spec.job.tags[2].key: as in tags[1]",
				"InvalidParameterValue spec.job.tags[3].key: must not begin with qcs: or project",
				"InvalidParameterValue spec.job.tags[4].key: at most 127 characters",
				"InvalidParameterValue spec.job.tags[5].value: at most 255 characters",
			},
		},
		"tags with control characters": {
			func(j *v1alpha1.BatchJob) {
				j.Spec.Job.Tags = []v1alpha1.Tag{{Key: "a\nb"}, {Key: "c", Value: "d\x07"}}
			},
			[]string{
				`InvalidParameterValue spec.job.tags[0].key: must not have control characters, got "a\nb"`,
				`InvalidParameterValue spec.job.tags[1].value: must not have control characters, got "d\a"`,
			},
		},
		"notifications": {
			func(j *v1alpha1.BatchJob) {
				j.Spec.Job.Notifications = []v1alpha1.Notification{
					{},
					{TopicName: "t_", EventConfigs: []v1alpha1.EventConfig{
						{}, {EventName: "JobFailed"}, {EventName: "JOB_DONE"}, {EventName: "COMPUTE_NODE_FAILED"},
						{EventName: "TASK_FAILED", EventVars: []v1alpha1.EventVar{{Name: "a"}, {Value: "b"}}},
					}},
				}
			},
			[]string{
				"MissingParameter spec.job.notifications[0].topicName: must be given",
				"MissingParameter spec.job.notifications[0].eventConfigs: at least one event",
				"InvalidParameter.NotificationTopicName spec.job.notifications[1].topicName: letters, digits and -",
				"MissingParameter spec.job.notifications[1].eventConfigs[0].eventName: must be given",
				"InvalidParameterValue spec.job.notifications[1].eventConfigs[1].eventName: got \"JobFailed\"",
				"InvalidParameterValue spec.job.notifications[1].eventConfigs[2].eventName: JOB_, TASK_ or TASK_INSTANCE_",
				"InvalidParameterValue spec.job.notifications[1].eventConfigs[3].eventName: COMPUTE_NODE_",
				"MissingParameter spec.job.notifications[1].eventConfigs[4].eventVars[1].name: must be given",
			},
		},
		"task names begin with a letter or digit": {
			func(j *v1alpha1.BatchJob) { j.Spec.Job.Tasks[0].TaskName = "_a" },
			[]string{"InvalidParameter.TaskName " + task + ".taskName: beginning with a letter or a digit"},
		},
		"task names of other letters are counted in characters": {
			func(j *v1alpha1.BatchJob) { j.Spec.Job.Tasks[0].TaskName = strings.Repeat("任", 60) },
			[]string{"InvalidParameter.TaskName " + task + ".taskName: must be letters"},
		},
		"the same bad name twice": {
			func(j *v1alpha1.BatchJob) { j.Spec = request("a!", "a!").Spec },
			[]string{
				"InvalidParameter.TaskName spec.job.tasks[0].taskName: must be letters",
				"InvalidParameter.TaskName spec.job.tasks[1].taskName: must be letters",
				"InvalidParameter.TaskName spec.job.tasks[1].taskName: as in tasks[0]",
			},
		},
		"instances that would overflow": {
			func(j *v1alpha1.BatchJob) {
				j.Spec = request("a", "b", "c").Spec
				for i := range j.Spec.Job.Tasks {
					j.Spec.Job.Tasks[i].TaskInstanceNum = ptr(int64(1<<63 - 1))
				}
			},
			[]string{"InvalidParameterValue.TaskInstanceNum spec.job.tasks[0].taskInstanceNum: at most 100000 over all tasks"},
		},
		"the task with the most is blamed for too many instances": {
			func(j *v1alpha1.BatchJob) {
				names := strings.Split("abcdefghij", "")
				j.Spec = request(names...).Spec
				for i := range names {
					j.Spec.Job.Tasks[i].TaskInstanceNum = ptr(int64(10000))
				}
				j.Spec.Job.Tasks[0].TaskInstanceNum = ptr(int64(10001))
			},
			[]string{"InvalidParameterValue.TaskInstanceNum spec.job.tasks[0].taskInstanceNum: got 100001, 10001 of them in this task"},
		},
		"the task that passes the limit has no number": {
			func(j *v1alpha1.BatchJob) {
				j.Spec = request("a", "b").Spec
				j.Spec.Job.Tasks[0].TaskInstanceNum = ptr(int64(100000))
			},
			[]string{"InvalidParameterValue.TaskInstanceNum spec.job.tasks[0].taskInstanceNum: got 100001, 100000 of them in this task"},
		},
		"a blank command": {
			app(func(a *v1alpha1.Application) { a.Command = " \n\t" }),
			[]string{"InvalidParameterValue " + task + ".application.command: must not be blank"},
		},
		"command and commands": {
			app(func(a *v1alpha1.Application) { a.Commands = []v1alpha1.CommandLine{{Command: "a"}, {}} }),
			[]string{
				"InvalidParameter.InvalidParameterCombination " + task + ".application.commands: must not be given together with command",
				"MissingParameter " + task + ".application.commands[1].command: must be given",
				"UnsupportedOperation " + task + ".application.commands: must not be given",
			},
		},
		"pulls": {
			app(func(a *v1alpha1.Application) {
				a.Docker = &v1alpha1.Docker{Image: "a", MaxRetryCount: ptr(int64(11)), DelayOnRetry: ptr(int64(0))}
			}),
			[]string{
				"InvalidParameterValue.MaxRetryCount " + task + ".application.docker.maxRetryCount: from 0 to 10, got 11",
				"InvalidParameterValue " + task + ".application.docker.delayOnRetry: from 1 to 360, got 0",
			},
		},
		"a name with control characters": {
			func(j *v1alpha1.BatchJob) {
				j.Spec.Job.JobName, j.Spec.Job.JobDescription = "a\nb", "several\r\n\tlines \x1b[2J"
			},
			[]string{
				`InvalidParameterValue spec.job.jobName: must not have line ends or other control characters, got "a\nb"`,
				`InvalidParameterValue spec.job.jobDescription: got "several\r\n\tlines \x1b[2J"`,
			},
		},
		"a description of several lines": {func(j *v1alpha1.BatchJob) { j.Spec.Job.JobDescription = "a\r\n\tb" }, nil},
		"a token of spaces": {
			func(j *v1alpha1.BatchJob) { j.Spec.ClientToken = "  " },
			[]string{"InvalidParameterValue spec.clientToken: must not be only spaces"},
		},
		"a host label of 64 characters": {
			app(func(a *v1alpha1.Application) {
				a.Docker = &v1alpha1.Docker{Image: "a", Server: strings.Repeat("h", 64) + ".example"}
			}),
			[]string{"InvalidParameterValue " + task + ".application.docker.server: must be a host name"},
		},
		"empty items": {
			env(func(e *v1alpha1.EnvData) {
				e.SecurityGroupIDs, e.LoginSettings = []string{""}, &v1alpha1.LoginSettings{KeyIDs: []string{""}}
			}),
			[]string{
				"InvalidParameter.CvmParameters " + data + ".loginSettings.keyIds[0]: must be 1-63 letters",
				"InvalidParameter.CvmParameters " + data + ".securityGroupIds[0]: must be 1-63 letters",
			},
		},
		"keepImageLogin as the samples write it": {
			env(func(e *v1alpha1.EnvData) { e.LoginSettings = &v1alpha1.LoginSettings{KeepImageLogin: "True"} }), nil,
		},
		"keepImageLogin and a key": {
			env(func(e *v1alpha1.EnvData) {
				e.LoginSettings = &v1alpha1.LoginSettings{KeepImageLogin: "true", KeyIDs: []string{"skey-1"}}
			}),
			[]string{"InvalidParameter.CvmParameters " + data + ".loginSettings: must have at most one of"},
		},
		"mounts without disks": {
			first(func(t *v1alpha1.Task) {
				t.ComputeEnv.MountDataDisks = []v1alpha1.MountDataDisk{{LocalPath: "/data"}, {LocalPath: "/more"}}
			}), nil,
		},
		"a drive as a page writes it": {
			first(func(t *v1alpha1.Task) { t.ComputeEnv.MountDataDisks = []v1alpha1.MountDataDisk{{LocalPath: "J://"}} }),
			[]string{"UnsupportedOperation " + task + ".computeEnv.mountDataDisks[0].localPath: must be a path of Linux"},
		},
		"resource packs": {
			func(j *v1alpha1.BatchJob) { j.Spec.Placement.DedicatedResourcePackIDs = []string{"rpp-7eumgm3l", ""} },
			[]string{
				"MissingParameter spec.placement.dedicatedResourcePackTenancy: must be given",
				"InvalidParameterValue spec.placement.dedicatedResourcePackIds[1]: must be 1-63 letters",
			},
		},
		"enumerations of later versions": {
			func(j *v1alpha1.BatchJob) {
				j.Spec.Placement.DedicatedResourcePackTenancy, j.Spec.Job.NotificationTarget = "x", "KAFKA"
				t := &j.Spec.Job.Tasks[0]
				t.InputMappings = []v1alpha1.InputMapping{{SourcePath: "cos://h/", DestinationPath: "/a", MountType: "s3fs"}}
				t.OutputMappings = []v1alpha1.OutputMapping{{SourcePath: "/a", DestinationPath: "cos://h/", OutputMappingOption: &v1alpha1.OutputMappingOption{Workspace: "x"}}}
				t.ComputeEnv.EnvData = &v1alpha1.EnvData{
					SystemDisk:         &v1alpha1.SystemDisk{DiskName: strings.Repeat("x", 129)},
					InternetAccessible: &v1alpha1.InternetAccessible{InternetServiceProvider: "x", IPv4AddressType: "AntiDDoSEIP", IPv6AddressType: "x"},
				}
			},
			[]string{
				"InvalidParameterValue spec.placement.dedicatedResourcePackTenancy: must be ResourcePool",
				"InvalidParameter.CvmParameters " + data + ".systemDisk.diskName: at most 128 characters",
				"InvalidParameter.CvmParameters " + data + ".internetAccessible.internetServiceProvider: BGP, CMCC, CTCC or CUCC",
				"InvalidParameter.CvmParameters " + data + ".internetAccessible.ipv6AddressType: EIPv6 or HighQualityEIPv6",
				"MissingParameter " + data + ".internetAccessible.antiDDoSPackageId: must be given when ipv4AddressType is AntiDDoSEIP",
				"InvalidParameterValue " + task + ".inputMappings[0].mountType: COSFS or GooseFS-Lite",
				"InvalidParameterValue " + task + ".outputMappings[0].outputMappingOption.workspace: BATCH_WORKSPACE or GLOBAL_WORKSPACE",
				"InvalidParameterValue spec.job.notificationTarget: CMQ or TDMQ_CMQ",
			},
		},
		"command too long": {
			app(func(a *v1alpha1.Application) { a.Command = strings.Repeat("x", 16<<10+1) }),
			[]string{"InvalidParameterValue " + task + ".application.command: at most 16384 bytes, got 16385"},
		},
		"command of the longest kind": {app(func(a *v1alpha1.Application) { a.Command = strings.Repeat("x", 16<<10) }), nil},
		"command with NUL": {
			app(func(a *v1alpha1.Application) { a.Command = "echo \x00" }),
			[]string{"InvalidParameterValue " + task + ".application.command: NUL"},
		},
		"package path is required for a package": {
			app(func(a *v1alpha1.Application) { a.DeliveryForm = "PACKAGE" }),
			[]string{
				"MissingParameter " + task + ".application.packagePath: when deliveryForm is PACKAGE",
			},
		},
		"package path is checked though it is not used": {
			app(func(a *v1alpha1.Application) { a.PackagePath = "ftp://x/p.tgz" }),
			[]string{"InvalidParameterValue.RemoteStorageSchemeType " + task + ".application.packagePath: cos://, http:// or https://"},
		},
		"docker": {
			app(func(a *v1alpha1.Application) {
				a.Docker = &v1alpha1.Docker{Server: "https://u:secret@r.example", PasswordSecretRef: &v1alpha1.SecretRef{}}
			}),
			[]string{
				"MissingParameter " + task + ".application.docker.image: must be given",
				"InvalidParameterValue " + task + `.application.docker.server: got "https://***@r.example"`,
				"MissingParameter " + task + ".application.docker.passwordSecretRef.name: must be given",
			},
		},
		"docker image": {
			app(func(a *v1alpha1.Application) {
				a.Docker = &v1alpha1.Docker{Image: "My App", Server: "r.example:5000", PasswordSecretRef: &v1alpha1.SecretRef{Name: "A"}}
			}),
			[]string{
				"InvalidParameterValue " + task + `.application.docker.image: got "My App"`,
				"InvalidParameterValue " + task + ".application.docker.passwordSecretRef.name: name of a Secret",
			},
		},
		"variables": {
			first(func(t *v1alpha1.Task) {
				t.EnvVars = []v1alpha1.EnvVar{
					{Name: "A_1", Value: ""}, {Name: "_"}, {}, {Name: "1A"}, {Name: "A-B"}, {Name: "BATCH_X"}, {Name: "batch_x"},
					{Name: "N", Value: "\x00secret"}, {Name: "N", Value: strings.Repeat("x", 128<<10)},
				}
			}),
			[]string{
				"MissingParameter " + task + ".envVars[2].name: must be given",
				"InvalidParameterValue " + task + ".envVars[3].name: not beginning with a digit",
				"InvalidParameterValue " + task + `.envVars[4].name: got "A-B"`,
				"InvalidParameterValue " + task + ".envVars[5].name: must not begin with BATCH_",
				"InvalidParameterValue " + task + ".envVars[7].value: must not have a NUL character",
				"InvalidParameterValue " + task + ".envVars[8].value: together with its name, got 131074",
			},
		},
		"numbers over their limits": {
			first(func(t *v1alpha1.Task) {
				t.Timeout, t.MaxConcurrentNum = ptr(int64(1<<31)), ptr(int64(200_001))
			}),
			[]string{
				"InvalidParameterValue " + task + ".timeout: from 0 to 2147483647, got 2147483648",
				"InvalidParameterValue " + task + ".maxConcurrentNum: from 0 to 200000, got 200001",
			},
		},
		"zeros": {
			first(func(t *v1alpha1.Task) {
				t.Timeout, t.MaxConcurrentNum, t.MaxRetryCount, t.ResourceMaxRetryCount = ptr(int64(0)), ptr(int64(0)), ptr(int64(0)), ptr(int64(0))
			}),
			nil,
		},
		"machine types": {
			env(func(e *v1alpha1.EnvData) {
				e.InstanceTypes = []string{"", "a b", "A.1", "3", "4", "5", "6", "7", "8", "9", "10", strings.Repeat("x", 64)}
			}),
			[]string{
				"InvalidParameterValue.ComputeEnv " + data + ".instanceTypes: at most 10 machine types, got 12",
				"InvalidParameter.CvmParameters " + data + `.instanceTypes[0]: got ""`,
				"InvalidParameter.CvmParameters " + data + `.instanceTypes[1]: got "a b"`,
				"InvalidParameter.CvmParameters " + data + ".instanceTypes[11]: such as S5.MEDIUM4",
			},
		},
		"machine type": {
			env(func(e *v1alpha1.EnvData) { e.InstanceType = "S5\n" }),
			[]string{"InvalidParameter.CvmParameters " + data + `.instanceType: got "S5\n"`},
		},
		"machine options are required": {
			env(func(e *v1alpha1.EnvData) { e.InstanceTypeOptions = &v1alpha1.InstanceTypeOptions{} }),
			[]string{
				"MissingParameter " + data + ".instanceTypeOptions.cpu: must be given",
				"MissingParameter " + data + ".instanceTypeOptions.memory: must be given",
			},
		},
		"machine options": {
			env(func(e *v1alpha1.EnvData) {
				e.InstanceTypeOptions = &v1alpha1.InstanceTypeOptions{CPU: ptr(int64(0)), Memory: ptr(int64(-1)), InstanceCategories: []string{"ALL", "GPU"}}
			}),
			[]string{
				"InvalidParameter.CvmParameters " + data + ".instanceTypeOptions.cpu: from 1 to 100000, got 0",
				"InvalidParameterValue.Negative " + data + ".instanceTypeOptions.memory: got -1",
				"InvalidParameter.CvmParameters " + data + ".instanceTypeOptions.instanceCategories[1]: COMPUTE_2 or COMPUTE_3",
			},
		},
		"image that is neither": {
			env(func(e *v1alpha1.EnvData) { e.ImageID = "IMG 1" }),
			[]string{"InvalidParameter.CvmParameters " + data + `.imageId: got "IMG 1"`},
		},
		"image with a tag begins like an identifier": {env(func(e *v1alpha1.EnvData) { e.ImageID = "img-tools:1" }), nil},
		"system disk": {
			env(func(e *v1alpha1.EnvData) {
				e.SystemDisk = &v1alpha1.SystemDisk{DiskType: "LOCAL_NVME", DiskSize: ptr(int64(0)), DiskID: "disk-1"}
			}),
			[]string{
				"InvalidParameter.CvmParameters " + data + ".systemDisk.diskType: CLOUD_HSSD or CLOUD_TSSD",
				"InvalidParameter.CvmParameters " + data + ".systemDisk.diskSize: from 1 to 1000000, got 0",
				"InvalidParameter.CvmParameters " + data + ".systemDisk.diskId: not accepted as input",
			},
		},
		"data disks": {
			env(func(e *v1alpha1.EnvData) {
				e.DataDisks = []v1alpha1.DataDisk{
					{}, {DiskSize: ptr(int64(-10))}, {DiskSize: ptr(int64(15)), DiskType: "X", DiskID: "d", ThroughputPerformance: ptr(int64(-1))},
					{DiskSize: ptr(int64(0))}, {DiskSize: ptr(int64(1_000_010))},
				}
			}),
			[]string{
				"MissingParameter " + data + ".dataDisks[0].diskSize: must be given",
				"InvalidParameterValue.Negative " + data + ".dataDisks[1].diskSize: got -10",
				"InvalidParameter.CvmParameters " + data + ".dataDisks[2].diskSize: multiple of 10, at most 1000000, got 15",
				"InvalidParameter.CvmParameters " + data + ".dataDisks[2].diskType: got \"X\"",
				"InvalidParameter.CvmParameters " + data + ".dataDisks[2].diskId: must not be given",
				"InvalidParameterValue.Negative " + data + ".dataDisks[2].throughputPerformance: got -1",
				"InvalidParameter.CvmParameters " + data + ".dataDisks[4].diskSize: got 1000010",
			},
		},
		"zones": {
			env(func(e *v1alpha1.EnvData) { e.Zones = []string{"z", ""} }),
			[]string{"InvalidParameter.CvmParameters " + data + ".zones[1]: must be 1-63"},
		},
		"networks": {
			env(func(e *v1alpha1.EnvData) {
				e.VirtualPrivateCloud = &v1alpha1.VirtualPrivateCloud{VpcID: "DEFAULT", SubnetID: "subnet-1", PrivateIPAddresses: []string{"x"}, IPv6AddressCount: ptr(int64(-1))}
				e.VirtualPrivateClouds = []v1alpha1.VirtualPrivateCloud{{VpcID: "vpc-", SubnetID: "net-1"}, {}, {VpcID: "vpc-1", SubnetID: "subnet-a.b"}}
			}),
			[]string{
				"InvalidParameter.InvalidParameterCombination " + data + ": at most one of zones",
				"InvalidParameter.CvmParameters " + data + ".virtualPrivateCloud: DEFAULT for both",
				"InvalidParameter.CvmParameters " + data + ".virtualPrivateCloud.privateIpAddresses[0]: an IP address",
				"InvalidParameterValue.Negative " + data + ".virtualPrivateCloud.ipv6AddressCount: got -1",
				"InvalidParameter.CvmParameters " + data + ".virtualPrivateClouds[0].vpcId: vpc- and letters or digits",
				"InvalidParameter.CvmParameters " + data + ".virtualPrivateClouds[0].subnetId: got \"net-1\"",
				"MissingParameter " + data + ".virtualPrivateClouds[1].vpcId: must be given",
				"MissingParameter " + data + ".virtualPrivateClouds[1].subnetId: must be given",
				"InvalidParameter.CvmParameters " + data + ".virtualPrivateClouds[2].subnetId: got \"subnet-a.b\"",
			},
		},
		"internet and name": {
			env(func(e *v1alpha1.EnvData) {
				e.InternetAccessible = &v1alpha1.InternetAccessible{InternetChargeType: "FREE", PublicIPAssigned: ptr(true), InternetMaxBandwidthOut: ptr(int64(0))}
				e.InstanceName = strings.Repeat("é", 31)
			}),
			[]string{
				"InvalidParameter.CvmParameters " + data + ".internetAccessible.internetChargeType: BANDWIDTH_POSTPAID_BY_HOUR or BANDWIDTH_PACKAGE",
				"InvalidParameter.CvmParameters " + data + ".internetAccessible.publicIpAssigned: without internetMaxBandwidthOut",
				"InvalidParameter.CvmParameters " + data + ".instanceName: at most 60 bytes",
			},
		},
		"internet as it should be": {
			env(func(e *v1alpha1.EnvData) {
				e.InternetAccessible = &v1alpha1.InternetAccessible{InternetChargeType: "BANDWIDTH_PREPAID", PublicIPAssigned: ptr(true), InternetMaxBandwidthOut: ptr(int64(1))}
			}), nil,
		},
		"login": {
			func(j *v1alpha1.BatchJob) {
				j.Spec.Job.Tasks[0].ComputeEnv = &v1alpha1.AnonymousComputeEnv{
					EnvData: &v1alpha1.EnvData{
						LoginSettings:    &v1alpha1.LoginSettings{KeyIDs: []string{"k"}, KeepImageLogin: "yes", PasswordSecretRef: &v1alpha1.SecretRef{Name: "p"}},
						SecurityGroupIDs: []string{"sg-1", "sg-2"},
					},
					AgentRunningMode: &v1alpha1.AgentRunningMode{Scene: "LINUX"},
				}
			},
			[]string{
				"InvalidParameter.CvmParameters " + data + ".loginSettings: at most one of passwordSecretRef, keyIds and keepImageLogin",
				"InvalidParameter.CvmParameters " + data + ".loginSettings.keyIds: must not be given for a Windows machine",
				"InvalidParameter.CvmParameters " + data + ".loginSettings.keepImageLogin: TRUE or FALSE",
				"InvalidParameter.CvmParameters " + data + ".securityGroupIds: at most 1 security group, got 2",
				"InvalidParameterValue.ComputeEnv " + task + ".computeEnv.agentRunningMode.user: must be given",
				"InvalidParameterValue.ComputeEnv " + task + ".computeEnv.agentRunningMode.session: must be given",
				"InvalidParameterValue.ComputeEnv " + task + ".computeEnv.agentRunningMode.scene: must be WINDOWS, got \"LINUX\"",
			},
		},
		"two keys": {
			env(func(e *v1alpha1.EnvData) {
				e.LoginSettings = &v1alpha1.LoginSettings{KeyIDs: []string{"k", "l"}, KeepImageLogin: "FALSE"}
			}),
			[]string{"InvalidParameter.CvmParameters " + data + ".loginSettings.keyIds: at most 1 key, got 2"},
		},
		"charge": {
			env(func(e *v1alpha1.EnvData) {
				e.InstanceChargeType = "PREPAID"
				e.InstanceMarketOptions = &v1alpha1.InstanceMarketOptions{MarketType: "bid"}
			}),
			[]string{
				"InvalidParameter.CvmParameters " + data + ".instanceChargeType: POSTPAID_BY_HOUR or SPOTPAID",
				"MissingParameter " + data + ".instanceMarketOptions.spotOptions: must be given",
				"InvalidParameter.CvmParameters " + data + ".instanceMarketOptions.marketType: must be spot",
			},
		},
		"spot price": {
			env(func(e *v1alpha1.EnvData) {
				e.InstanceMarketOptions = &v1alpha1.InstanceMarketOptions{SpotOptions: &v1alpha1.SpotOptions{MaxPrice: "1.", SpotInstanceType: "forever"}}
			}),
			[]string{
				"InvalidParameter.CvmParameters " + data + ".instanceMarketOptions.spotOptions.maxPrice: decimal number",
				"InvalidParameter.CvmParameters " + data + ".instanceMarketOptions.spotOptions.spotInstanceType: must be one-time",
			},
		},
		"spot price is required": {
			env(func(e *v1alpha1.EnvData) {
				e.InstanceMarketOptions = &v1alpha1.InstanceMarketOptions{SpotOptions: &v1alpha1.SpotOptions{}}
			}),
			[]string{"MissingParameter " + data + ".instanceMarketOptions.spotOptions.maxPrice: must be given"},
		},
		"mounts": {
			first(func(t *v1alpha1.Task) {
				t.ComputeEnv.EnvData = &v1alpha1.EnvData{DataDisks: slices.Repeat([]v1alpha1.DataDisk{{DiskSize: ptr(int64(10))}}, 7)}
				t.ComputeEnv.MountDataDisks = []v1alpha1.MountDataDisk{
					{}, {LocalPath: "/a", FileSystemType: "NTFS"}, {LocalPath: "H:", FileSystemType: "EXT3"}, {LocalPath: "a", FileSystemType: "ZFS"},
					{LocalPath: "/a/", FileSystemType: "EXT4"}, {LocalPath: `h:\`, FileSystemType: "NTFS"},
				}
			}),
			[]string{
				"MissingParameter " + task + ".computeEnv.mountDataDisks[0].localPath: must be given",
				"InvalidParameterValue.ComputeEnv " + task + ".computeEnv.mountDataDisks[1].fileSystemType: EXT3 or EXT4",
				"UnsupportedOperation " + task + ".computeEnv.mountDataDisks[2].localPath: must be a path of Linux",
				"InvalidParameterValue.ComputeEnv " + task + ".computeEnv.mountDataDisks[2].fileSystemType: must be NTFS",
				"InvalidParameterValue.LocalPath " + task + ".computeEnv.mountDataDisks[3].localPath: absolute path",
				"InvalidParameterValue.ComputeEnv " + task + ".computeEnv.mountDataDisks[3].fileSystemType: EXT3, EXT4 or NTFS",
				"InvalidParameterValue.LocalPath " + task + ".computeEnv.mountDataDisks[4].localPath: used once",
				"InvalidParameterValue.LocalPath " + task + ".computeEnv.mountDataDisks[5].localPath: used once",
			},
		},
		"mounts of two tasks may be the same": {
			func(j *v1alpha1.BatchJob) {
				j.Spec = request("a", "b").Spec
				for i := range j.Spec.Job.Tasks {
					env := j.Spec.Job.Tasks[i].ComputeEnv
					env.EnvData = &v1alpha1.EnvData{DataDisks: []v1alpha1.DataDisk{{DiskSize: ptr(int64(10))}}}
					env.MountDataDisks = []v1alpha1.MountDataDisk{{LocalPath: "/data"}}
				}
			}, nil,
		},
		"mappings": {
			first(func(t *v1alpha1.Task) {
				t.InputMappings = []v1alpha1.InputMapping{{}, {SourcePath: "cos://b/in/", DestinationPath: `D:\in`}}
				t.OutputMappings = []v1alpha1.OutputMapping{{}, {SourcePath: "out", DestinationPath: "cos://b/out"}}
				t.OutputMappingConfigs = []v1alpha1.OutputMappingConfig{{}, {Scene: "S3", WorkerNum: ptr(int64(-1)), WorkerPartSize: ptr(int64(0))}}
			}),
			[]string{
				"MissingParameter " + task + ".inputMappings[0].sourcePath: must be given",
				"MissingParameter " + task + ".inputMappings[0].destinationPath: must be given",
				"UnsupportedOperation " + task + ".inputMappings[1].destinationPath: has no Windows machines",
				"InvalidParameterValue.RemoteStorageSchemeType " + task + ".inputMappings[1].sourcePath: cfs:// or nfs:// for a destinationPath of Windows, got",
				"MissingParameter " + task + ".outputMappings[0].sourcePath: must be given",
				"MissingParameter " + task + ".outputMappings[0].destinationPath: must be given",
				"InvalidParameterValue.LocalPath " + task + ".outputMappings[1].sourcePath: absolute path",
				"InvalidParameterValue.RemoteStoragePath " + task + ".outputMappings[1].destinationPath: end with /",
				"MissingParameter " + task + ".outputMappingConfigs[0].scene: must be given",
				"MissingParameter " + task + ".outputMappingConfigs[0].workerNum: must be given",
				"MissingParameter " + task + ".outputMappingConfigs[0].workerPartSize: must be given",
				"InvalidParameterValue " + task + ".outputMappingConfigs[1].scene: must be COS",
				"InvalidParameterValue.Negative " + task + ".outputMappingConfigs[1].workerNum: got -1",
			},
		},
		"local paths of Windows, of the system and of the operator": {
			first(func(t *v1alpha1.Task) {
				t.InputMappings = []v1alpha1.InputMapping{
					{SourcePath: "nfs://h/", DestinationPath: `D:\in`}, {SourcePath: "nfs://h/", DestinationPath: "/.batchcompute/in"}, {SourcePath: "nfs://h/", DestinationPath: "/in:ro"},
				}
				t.OutputMappings = []v1alpha1.OutputMapping{{SourcePath: `D:\out`, DestinationPath: "cos://b/"}, {SourcePath: "/proc/1/", DestinationPath: "cos://b/"}}
				t.RedirectLocalInfo = &v1alpha1.RedirectLocalInfo{StdoutLocalPath: "H:", StderrLocalPath: "/.batchcompute"}
			}),
			[]string{
				"UnsupportedOperation " + task + ".inputMappings[0].destinationPath: must be a path of Linux",
				"InvalidParameterValue.LocalPath " + task + ".inputMappings[1].destinationPath: /proc or /.batchcompute",
				"InvalidParameterValue.LocalPath " + task + ".inputMappings[2].destinationPath: must not have a :",
				"UnsupportedOperation " + task + ".outputMappings[0].sourcePath: must be a path of Linux",
				"InvalidParameterValue.LocalPath " + task + ".outputMappings[1].sourcePath: /proc or /.batchcompute",
				"UnsupportedOperation " + task + ".redirectLocalInfo.stdoutLocalPath: must be a path of Linux",
				"InvalidParameterValue.LocalPath " + task + ".redirectLocalInfo.stderrLocalPath: /proc or /.batchcompute",
			},
		},
		"too many mappings": {
			first(func(t *v1alpha1.Task) {
				for i := range 101 {
					t.InputMappings = append(t.InputMappings, v1alpha1.InputMapping{SourcePath: "nfs://h/", DestinationPath: fmt.Sprint("/", i)})
					t.OutputMappings = append(t.OutputMappings, v1alpha1.OutputMapping{SourcePath: "/o", DestinationPath: "cos://b/"})
				}
			}),
			[]string{
				"InvalidParameterValue.LimitExceeded " + task + ".inputMappings: at most 100 mappings, got 101",
				"InvalidParameterValue.LimitExceeded " + task + ".outputMappings: at most 100 mappings, got 101",
			},
		},
		"log names": {
			first(func(t *v1alpha1.Task) {
				t.RedirectInfo = &v1alpha1.RedirectInfo{StdoutRedirectFileName: "${HOME}.log", StderrRedirectFileName: "a/b"}
				t.RedirectLocalInfo = &v1alpha1.RedirectLocalInfo{
					StderrLocalPath: "/", StdoutLocalFileName: strings.Repeat("x", 256), StderrLocalFileName: "a\u202eb",
				}
			}),
			[]string{
				"InvalidParameterValue " + task + ".redirectInfo.stdoutRedirectFileName: no placeholders but ${BATCH_JOB_ID}",
				"InvalidParameterValue " + task + ".redirectInfo.stderrRedirectFileName: without a directory",
				"InvalidParameterValue.LocalPath " + task + ".redirectLocalInfo.stderrLocalPath: root directory",
				"InvalidParameterValue " + task + ".redirectLocalInfo.stdoutLocalFileName: at most 255 bytes",
				"InvalidParameterValue " + task + `.redirectLocalInfo.stderrLocalFileName: got "a\u202eb"`,
			},
		},
		"keys": {
			first(func(t *v1alpha1.Task) {
				t.Authentications = []v1alpha1.Authentication{
					{}, {Scene: "S3", SecretID: "x", SecretKeySecretRef: &v1alpha1.SecretRef{Name: "a_b"}},
				}
			}),
			[]string{
				"MissingParameter " + task + ".authentications[0].scene: must be given",
				"MissingParameter " + task + ".authentications[0].secretId: must be given",
				"MissingParameter " + task + ".authentications[0].secretKeySecretRef: kubectl create secret generic cos-key --from-file=secretKey=FILE in the job's namespace makes the Secret for secretKeySecretRef: {name: cos-key}",
				"InvalidParameterValue " + task + ".authentications[1].scene: must be COS",
				"InvalidParameterValue " + task + ".authentications[1].secretKeySecretRef.name: name of a Secret",
			},
		},
		"dependences without names": {
			func(j *v1alpha1.BatchJob) { j.Spec.Job.Dependences = []v1alpha1.Dependence{{}} },
			[]string{
				"MissingParameter spec.job.dependences[0].startTask: must be given",
				"MissingParameter spec.job.dependences[0].endTask: must be given",
			},
		},
		"a task without a name cannot be meant": {
			func(j *v1alpha1.BatchJob) {
				j.Spec = request("a", "").Spec
				j.Spec.Job.Dependences = []v1alpha1.Dependence{{StartTask: "task", EndTask: "tusk"}}
			},
			[]string{
				"InvalidParameter.TaskName spec.job.tasks[1].taskName: must be given",
				`InvalidParameterValue.DependenceNotFoundTaskName spec.job.dependences[0].startTask: got "task"`,
				`InvalidParameterValue.DependenceNotFoundTaskName spec.job.dependences[0].endTask: got "tusk"`,
			},
		},
		"suggestions": {
			func(j *v1alpha1.BatchJob) {
				j.Spec = request("fetch", "split-1", "split-2", "merge").Spec
				j.Spec.Job.Dependences = []v1alpha1.Dependence{{StartTask: "Fetch", EndTask: "splti-2"}, {StartTask: "x", EndTask: "far away"}}
			},
			[]string{
				`InvalidParameterValue.DependenceNotFoundTaskName spec.job.dependences[0].startTask: got "Fetch"; did you mean "fetch"?`,
				`InvalidParameterValue.DependenceNotFoundTaskName spec.job.dependences[0].endTask: got "splti-2"; did you mean "split-2"?`,
				`InvalidParameterValue.DependenceNotFoundTaskName spec.job.dependences[1].startTask: got "x"`,
				`InvalidParameterValue.DependenceNotFoundTaskName spec.job.dependences[1].endTask: got "far away"`,
			},
		},
		"the shortest cycle": {
			func(j *v1alpha1.BatchJob) {
				j.Spec = request("d", "c", "b", "a").Spec
				for _, e := range []string{"da", "ab", "bc", "cd", "bd"} {
					j.Spec.Job.Dependences = append(j.Spec.Job.Dependences, v1alpha1.Dependence{StartTask: e[:1], EndTask: e[1:]})
				}
			},
			[]string{"InvalidParameterValue.DependenceUnfeasible spec.job.dependences: got d -> a -> b -> d"},
		},
		"a cycle of names that are none": {
			func(j *v1alpha1.BatchJob) {
				j.Spec = request("a b").Spec
				j.Spec.Job.Dependences = []v1alpha1.Dependence{{StartTask: "a b", EndTask: "a b"}}
			},
			[]string{
				"InvalidParameter.TaskName " + task + ".taskName: must be letters",
				`InvalidParameterValue.DependenceUnfeasible spec.job.dependences: got "a b" -> "a b"`,
			},
		},
		"a long cycle": {
			func(j *v1alpha1.BatchJob) {
				var names []string
				for i := range 100 {
					names = append(names, fmt.Sprintf("task-%02d", i))
				}
				j.Spec = request(names...).Spec
				for i := range 100 {
					j.Spec.Job.Dependences = append(j.Spec.Job.Dependences, v1alpha1.Dependence{StartTask: names[i], EndTask: names[(i+1)%100]})
				}
			},
			[]string{"InvalidParameterValue.DependenceUnfeasible spec.job.dependences: -> task-16 -> (83 more) -> task-00"},
		},
		"too many tasks are not searched for cycles": {
			func(j *v1alpha1.BatchJob) {
				names := make([]string, 5001)
				for i := range names {
					names[i] = fmt.Sprint("t", i)
				}
				j.Spec = request(names...).Spec
				j.Spec.Job.Dependences = []v1alpha1.Dependence{{StartTask: "t0", EndTask: "t0"}}
			},
			[]string{"InvalidParameterValue.LimitExceeded spec.job.tasks: at most 5000 tasks, got 5001"},
		},
		"too large a spec": {
			func(j *v1alpha1.BatchJob) { j.Spec.Job.JobDescription = strings.Repeat("x", 1<<20) },
			[]string{
				"InvalidParameterValue.LimitExceeded spec: at most 1048576 bytes as JSON, got 1048",
				"InvalidParameter.JobDescriptionTooLong spec.job.jobDescription: at most 200 characters",
			},
		},
		"too large a status": {
			func(j *v1alpha1.BatchJob) {
				j.Spec = request("a").Spec
				j.Spec.Job.Tasks[0].TaskInstanceNum = ptr(int64(100_000))
				for i := range 9 {
					j.Spec.Job.Tasks[0].EnvVars = append(j.Spec.Job.Tasks[0].EnvVars,
						v1alpha1.EnvVar{Name: fmt.Sprint("V", i), Value: strings.Repeat("x", 100_000)})
				}
			},
			[]string{"InvalidParameterValue.LimitExceeded spec: together with its largest possible status"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			job := request("a")
			tc.edit(job)
			before := job.DeepCopy()
			problems := Validator{}.ValidateCreate(job)
			checkProblems(t, problems)
			var wantSummary []string
			for i, want := range tc.want {
				codeAndPath, detail, _ := strings.Cut(want, ": ")
				wantSummary = append(wantSummary, codeAndPath)
				if i < len(problems) && !strings.Contains(problems[i].Detail, detail) {
					t.Errorf("detail of %s is %q, want %q in it", codeAndPath, problems[i].Detail, detail)
				}
			}
			if diff := cmp.Diff(wantSummary, summary(problems)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, job); diff != "" {
				t.Errorf("the job was changed (-before +after):\n%s", diff)
			}
		})
	}
}

// checkProblems holds what is promised of every answer.
func checkProblems(t interface {
	Helper()
	Errorf(string, ...any)
}, problems []Problem) {
	t.Helper()
	if len(problems) > MaxProblems {
		t.Errorf("%d problems", len(problems))
	}
	for _, p := range problems {
		if len(p.Detail) > MaxDetail || p.Detail == "" || !utf8.ValidString(p.Detail) {
			t.Errorf("detail of %d bytes: %q", len(p.Detail), p.Detail)
		}
		if strings.ContainsFunc(p.Detail, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("detail has characters that do not print: %q", p.Detail)
		}
		if !strings.HasPrefix(p.Field.String(), "spec") {
			t.Errorf("field is %s", p.Field)
		}
	}
}

// fake is a catalogue.
type fake struct {
	images map[string]string
	types  []catalog.InstanceType
	spot   bool
	policy catalog.Policy
}

func (*fake) FileSystem(string) catalog.FileSystem { return catalog.FileSystem{} }

func (*fake) KnowsHost(string) bool { return true }

func (*fake) Store(string) (s catalog.Store, ok bool) { return s, true }

func (f *fake) Notifications() *catalog.Notifications { return nil }

func (f *fake) Policy() *catalog.Policy { return &f.policy }

func (f *fake) Image(id string) (string, bool) { ref, ok := f.images[id]; return ref, ok }

func (f *fake) InstanceType(name string) *catalog.InstanceType {
	if i := slices.Index(f.InstanceTypeNames(), name); i >= 0 {
		return &f.types[i]
	}
	return nil
}

func (f *fake) InstanceTypeNames() []string {
	var names []string
	for _, t := range f.types {
		names = append(names, t.Name)
	}
	return names
}

func (f *fake) Smallest(cpu, memory int64, categories []string) *catalog.InstanceType {
	for i, t := range f.types {
		if slices.Contains(categories, t.Category) && t.Resources.Cpu().Value() >= cpu && t.Resources.Memory().Value() >= memory<<30 {
			return &f.types[i]
		}
	}
	return nil
}

func (f *fake) ChargeType(name string) (catalog.ChargeType, bool) {
	return catalog.ChargeType{}, f.spot && name == "SPOTPAID"
}

// machines has an image, two machine types, and one with a GPU.
var machines = &fake{
	images: map[string]string{"img-bd78fy2t": "busybox:1.37", "Ubuntu 24": "ubuntu:24.04"},
	types: []catalog.InstanceType{
		{Name: "S5.MEDIUM4", Category: "GENERAL_3", Resources: resources("cpu=2 memory=4Gi")},
		{Name: "C3.LARGE8", Category: "COMPUTE", Resources: resources("cpu=4 memory=8Gi")},
		{Name: "GN7.LARGE20", Resources: resources("cpu=4 memory=20Gi nvidia.com/gpu=1")},
	},
}

// resources reads amounts, as in "cpu=2 memory=4Gi".
func resources(text string) corev1.ResourceList {
	list := corev1.ResourceList{}
	for _, f := range strings.Fields(text) {
		name, amount, _ := strings.Cut(f, "=")
		list[corev1.ResourceName(name)] = resource.MustParse(amount)
	}
	return list
}

// validate is ValidateCreate with a catalogue that is no file.
func (v Validator) validate(o *fake, job *v1alpha1.BatchJob) []Problem {
	c := v.checker(submitJob)
	if o != nil {
		c.offers = o
	}
	c.checkBatchJob(job)
	return c.result()
}

func TestImages(t *testing.T) {
	images := machines
	for name, tc := range map[string]struct {
		images *fake
		id     string
		wantOK bool
	}{
		"in the catalogue":                    {images, "img-bd78fy2t", true},
		"not in the catalogue":                {images, "img-0a1b2c3d", false},
		"catalogue has names of its own":      {images, "Ubuntu 24", true},
		"container image":                     {images, "registry.example/a/b:1", true},
		"container image that begins with it": {images, "img-x/y", true},
		"neither":                             {images, "a:b:c", false},
		"no catalogue":                        {nil, "img-0a1b2c3d", true},
		"no catalogue, bad form":              {nil, "img-a_b", false},
		"nothing":                             {images, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			job := request("a")
			job.Spec.Job.Tasks[0].ComputeEnv.EnvData = &v1alpha1.EnvData{ImageID: tc.id}
			problems := Validator{}.validate(tc.images, job)
			if got := len(problems) == 0; got != tc.wantOK {
				t.Errorf("accepted: %v, want %v: %v", got, tc.wantOK, problems)
			}
			for _, p := range problems {
				if p.Code != errcode.CvmParameters {
					t.Errorf("code %s", p.Code)
				}
			}
		})
	}
}

// What the catalogue and the nodes have, and what the namespace has.
func TestInACluster(t *testing.T) {
	const data = "spec.job.tasks[0].computeEnv.envData"
	env := func(edit func(e *v1alpha1.EnvData)) func(*v1alpha1.Task) {
		return func(t *v1alpha1.Task) {
			t.ComputeEnv.EnvData = &v1alpha1.EnvData{}
			edit(t.ComputeEnv.EnvData)
		}
	}
	size := func(cpu, memory int64, categories ...string) func(*v1alpha1.Task) {
		return env(func(e *v1alpha1.EnvData) {
			e.InstanceTypeOptions = &v1alpha1.InstanceTypeOptions{CPU: &cpu, Memory: &memory, InstanceCategories: categories}
		})
	}
	gpus := func(types ...string) func(*v1alpha1.Task) {
		return func(t *v1alpha1.Task) {
			t.ComputeEnv.EnvData = &v1alpha1.EnvData{InstanceTypes: types}
			t.Application.Docker = &v1alpha1.Docker{Image: "a", DockerRunOption: "--gpus all"}
		}
	}
	id := func(id string) func(*v1alpha1.Task) {
		return func(t *v1alpha1.Task) { t.ComputeEnv, t.EnvID = nil, id }
	}
	v := Validator{Envs: oneEnv, Zones: func() []string { return []string{"ap-guangzhou-2", "z-1"} }}
	for name, tc := range map[string]struct {
		edit func(*v1alpha1.Task)
		want []string
	}{
		"machine type":             {env(func(e *v1alpha1.EnvData) { e.InstanceType = "S5.MEDIUM4" }), nil},
		"machine types":            {env(func(e *v1alpha1.EnvData) { e.InstanceTypes = []string{"C3.LARGE8", "S5.MEDIUM4"} }), nil},
		"machine type that is not": {env(func(e *v1alpha1.EnvData) { e.InstanceType = "X1" }), []string{`InvalidParameter.CvmParameters: ` + data + `.instanceType: must be a machine type of the operator's catalogue, got "X1"`}},
		"machine types, one of which is not": {
			env(func(e *v1alpha1.EnvData) { e.InstanceTypes = []string{"C3.LARGE8", "S5.MEDIUM5"} }),
			[]string{`InvalidParameter.CvmParameters: ` + data + `.instanceTypes[1]: must be a machine type of the operator's catalogue, got "S5.MEDIUM5"; did you mean "S5.MEDIUM4"?`},
		},
		"a size":                   {size(1000, 1000), nil},
		"a size of all categories": {size(1000, 1000, "COMPUTE", "ALL"), nil},
		"a size of a category":     {size(2, 4, "GENERAL_3"), nil},
		"a size that no category has": {
			size(3, 4, "GENERAL_3", "GENERAL_2", "GENERAL_3"),
			[]string{`InvalidParameter.CvmParameters: ` + data + `.instanceTypeOptions: must fit a machine type of the catalogue in GENERAL_2 or GENERAL_3, got 3 cores and 4 GB`},
		},
		"zones": {env(func(e *v1alpha1.EnvData) { e.Zones = []string{"z-1"} }), nil},
		"zone that is not": {
			env(func(e *v1alpha1.EnvData) { e.Zones = []string{"z-1", "z-2", "-"} }),
			[]string{
				`InvalidParameterValue.UnavailableZone: ` + data + `.zones[1]: must be a zone of this cluster: no node is in zone "z-2"; zones here: ap-guangzhou-2, z-1`,
				`InvalidParameter.CvmParameters: ` + data + `.zones[2]: must be 1-63 letters, digits, -, _ and ., beginning and ending with a letter or a digit, got "-"`,
			},
		},
		"all GPUs":              {gpus("GN7.LARGE20"), nil},
		"all GPUs of a few":     {gpus("GN7.LARGE20", "S5.MEDIUM4"), []string{`InvalidParameterValue: spec.job.tasks[0].application.docker.dockerRunOption: must have a number after --gpus: all works only with instanceType or instanceTypes that all have nvidia.com/gpu`}},
		"envId":                 {id("pool"), nil},
		"envId that is nothing": {id("env-0a1b2c3d"), []string{`ResourceNotFound.ComputeEnv: spec.job.tasks[0].envId: must be the name or the status.envId of a ComputeEnv of the namespace, got "env-0a1b2c3d"`}},
		"envId that goes":       {id("old"), []string{`ResourceNotFound.ComputeEnv: spec.job.tasks[0].envId: must name a ComputeEnv that is not being deleted, got "old"`}},
	} {
		t.Run(name, func(t *testing.T) {
			job := request("a")
			tc.edit(&job.Spec.Job.Tasks[0])
			problems := v.validate(machines, job)
			checkProblems(t, problems)
			var got []string
			for _, p := range problems {
				got = append(got, p.Error())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestZonesInAnAnswer(t *testing.T) {
	for want, zones := range map[string][]string{
		`no node is in zone "ap-guangzhou-2"; no node here has a zone`:                                       {},
		`no node is in zone "ap-guangzhou-2"; zones here: z0, z1, z2, z3, z4, z5, z6, z7, z8, z9 and 1 more`: {"z0", "z1", "z2", "z3", "z4", "z5", "z6", "z7", "z8", "z9", "za"},
	} {
		problems := Validator{Zones: func() []string { return zones }}.ValidateCreate(request("a"))
		if len(problems) != 1 || problems[0].Detail != "must be a zone of this cluster: "+want {
			t.Errorf("%v, want %s", problems, want)
		}
	}
}

// The catalogue may be another at any time; one answer is about one.
func TestCatalogIsAskedOnce(t *testing.T) {
	asked := 0
	v := Validator{Catalog: func() *catalog.Catalog { asked++; return catalog.Default() }, Zones: func() []string { asked++; return nil }}
	v.ValidateCreate(typical(10))
	if asked != 2 {
		t.Errorf("asked %d times, want once each", asked)
	}
	if got := (Validator{Catalog: func() *catalog.Catalog { return nil }}).ValidateCreate(typical(1)); got != nil {
		t.Errorf("no catalogue yet: %v", got)
	}
}

func TestProblemsAreBounded(t *testing.T) {
	for bad, wantLen := range map[int]int{49: 49, 50: 50, 51: 50, 3000: 50} {
		job := request("a")
		for range bad {
			job.Spec.Job.Dependences = append(job.Spec.Job.Dependences, v1alpha1.Dependence{StartTask: "a", EndTask: "nope"})
		}
		problems := Validator{}.ValidateCreate(job)
		checkProblems(t, problems)
		if len(problems) != wantLen {
			t.Fatalf("%d problems for %d mistakes, want %d", len(problems), bad, wantLen)
		}
		last := problems[wantLen-1].Detail
		want := "must name a task of this job"
		if bad > MaxProblems {
			want = fmt.Sprintf("this and %d more problems are not shown", bad-MaxProblems)
		}
		if !strings.Contains(last, want) {
			t.Errorf("%d mistakes: last detail is %q, want %q", bad, last, want)
		}
	}
}

func TestProblemError(t *testing.T) {
	job := request("bad name!")
	got := Validator{}.ValidateCreate(job)[0].Error()
	want := `InvalidParameter.TaskName: spec.job.tasks[0].taskName: must be letters, digits, - and _, beginning with a letter or a digit, got "bad name!"`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestQuote(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"plain":        {"abc", `"abc"`},
		"empty":        {"", `""`},
		"quotes":       {`a"b\`, `"a\"b\\"`},
		"control":      {"a\nb\x00\x1b[31m", `"a\nb\x00\x1b[31m"`},
		"bidi":         {"a\u202eb\u2066", `"a\u202eb\u2066"`},
		"broken UTF-8": {"a\xffb", `"a\xffb"`},
		"letters":      {"名前é", `"名前é"`},
		"long":         {strings.Repeat("x", 1<<20), `"` + strings.Repeat("x", 79) + `…"`},
		"long letters": {strings.Repeat("名", 40), `"` + strings.Repeat("名", 26) + `…"`},
		"long escapes": {strings.Repeat("\x00", 100), `"` + strings.Repeat(`\x00`, 19) + `…"`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Quote(tc.in); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestNearest(t *testing.T) {
	for name, tc := range map[string]struct {
		known  []string
		budget int
		want   string
	}{
		"insertion":       {[]string{"merg", "other"}, 1000, "merg"},
		"exchange":        {[]string{"mrege"}, 1000, "mrege"},
		"letters' case":   {[]string{"Merge", "merge"}, 1000, "Merge"},
		"the nearest":     {[]string{"marge2", "merge2"}, 1000, "merge2"},
		"none near":       {[]string{"split", "merges-all", "xxxxx"}, 1000, ""},
		"too long":        {[]string{strings.Repeat("m", 65)}, 1000, ""},
		"budget is spent": {[]string{"merg"}, 0, ""},
		"nothing known":   {nil, 1000, ""},
	} {
		t.Run(name, func(t *testing.T) {
			n := nearest{known: tc.known, budget: tc.budget}
			if got := n.to("merge"); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	if got := Nearest(strings.Repeat("m", 66), []string{strings.Repeat("m", 65)}); got != "" {
		t.Errorf("a long name has a suggestion: %q", got)
	}
}

func TestValidateUpdate(t *testing.T) {
	base := func() *v1alpha1.BatchJob {
		job := request("a", "b")
		task := &job.Spec.Job.Tasks[0]
		task.TaskInstanceNum, task.RestartComputeNode = ptr(int64(3)), ptr(false)
		task.EnvVars = []v1alpha1.EnvVar{{Name: "A", Value: "secret"}}
		task.ComputeEnv.EnvData = &v1alpha1.EnvData{InstanceTypes: []string{"x", "y"}}
		return job
	}
	for name, tc := range map[string]struct {
		edit func(*v1alpha1.BatchJob)
		want []string
	}{
		"nothing":           {func(j *v1alpha1.BatchJob) {}, nil},
		"metadata":          {func(j *v1alpha1.BatchJob) { j.Labels = map[string]string{"a": "b"} }, nil},
		"status":            {func(j *v1alpha1.BatchJob) { j.Status.State = v1alpha1.JobFailed }, nil},
		"empty list or nil": {func(j *v1alpha1.BatchJob) { j.Spec.Job.Dependences = []v1alpha1.Dependence{} }, nil},
		"text": {
			func(j *v1alpha1.BatchJob) { j.Spec.Job.Tasks[1].Application.Command = "false" },
			[]string{"spec.job.tasks[1].application.command: must not change after the job was submitted; submit another BatchJob"},
		},
		"a variable's value is not repeated": {
			func(j *v1alpha1.BatchJob) { j.Spec.Job.Tasks[0].EnvVars[0].Value = "other" },
			[]string{"spec.job.tasks[0].envVars[0].value: must not change after the job was submitted; submit another BatchJob"},
		},
		"number": {
			func(j *v1alpha1.BatchJob) { j.Spec.Job.Tasks[0].TaskInstanceNum = ptr(int64(5)) },
			[]string{"spec.job.tasks[0].taskInstanceNum: must not change after the job was submitted, was 3, got 5; submit another BatchJob"},
		},
		"switch": {
			func(j *v1alpha1.BatchJob) { j.Spec.Job.Tasks[0].RestartComputeNode = ptr(true) },
			[]string{"spec.job.tasks[0].restartComputeNode: must not change after the job was submitted, was false, got true; submit another BatchJob"},
		},
		"given and absent": {
			func(j *v1alpha1.BatchJob) {
				j.Spec.Job.Tasks[0].TaskInstanceNum, j.Spec.Job.Tasks[1].ComputeEnv = nil, nil
			},
			[]string{
				"spec.job.tasks[0].taskInstanceNum: must not change after the job was submitted; submit another BatchJob",
				"spec.job.tasks[1].computeEnv: must not change after the job was submitted; submit another BatchJob",
			},
		},
		"item of a list of texts": {
			func(j *v1alpha1.BatchJob) { j.Spec.Job.Tasks[0].ComputeEnv.EnvData.InstanceTypes[1] = "z" },
			[]string{"spec.job.tasks[0].computeEnv.envData.instanceTypes[1]: must not change after the job was submitted; submit another BatchJob"},
		},
		"length of a list": {
			func(j *v1alpha1.BatchJob) { j.Spec.Job.Tasks = append(j.Spec.Job.Tasks, v1alpha1.Task{}) },
			[]string{"spec.job.tasks: must not change after the job was submitted, had 2 items, got 3; submit another BatchJob"},
		},
		"several, in order": {
			func(j *v1alpha1.BatchJob) {
				j.Spec.ClientToken, j.Spec.Job.JobName, j.Spec.Placement.Zone = "t", "n", "z"
			},
			[]string{
				"spec.placement.zone: must not change after the job was submitted; submit another BatchJob",
				"spec.job.jobName: must not change after the job was submitted; submit another BatchJob",
				"spec.clientToken: must not change after the job was submitted; submit another BatchJob",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			job := base()
			tc.edit(job)
			var got []string
			for _, p := range (Validator{}).ValidateUpdate(base(), job) {
				if p.Code != errcode.UnsupportedOperation {
					t.Errorf("code %s", p.Code)
				}
				got = append(got, p.Field.String()+": "+p.Detail)
			}
			if diff := cmp.Diff(tc.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
