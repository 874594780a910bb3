// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil/cputime"
)

// typical is a request as people send it: n tasks in a row of fans, each with a
// machine, an image, variables and redirects.
func typical(n int) *v1alpha1.BatchJob {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint("task-", i)
	}
	job := request(names...)
	job.Spec.Job.JobName, job.Spec.ClientToken = "typical", "5f0d9f6e-typical-0001"
	for i := range job.Spec.Job.Tasks {
		t := &job.Spec.Job.Tasks[i]
		t.TaskInstanceNum, t.MaxRetryCount, t.Timeout = ptr(int64(2)), ptr(int64(1)), ptr(int64(3600))
		t.Application.Command = "python /app/train.py --shard $BATCH_TASK_INSTANCE_INDEX --of $BATCH_TASK_INSTANCE_NUM"
		t.Application.Docker = &v1alpha1.Docker{Image: "registry.example.test/vision/train:1.4"}
		t.ComputeEnv = &v1alpha1.AnonymousComputeEnv{EnvType: "MANAGED", EnvData: &v1alpha1.EnvData{InstanceType: "S5.LARGE8", ImageID: "img-0a1b2c3d"}}
		t.EnvVars = []v1alpha1.EnvVar{{Name: "QUALITY", Value: "high"}, {Name: "STAGE", Value: "1"}}
		const logs = "cos://studio-1250000000.cos.ap-guangzhou.myqcloud.com/logs/"
		t.RedirectInfo = &v1alpha1.RedirectInfo{StdoutRedirectPath: logs, StderrRedirectPath: logs}
		if i > 0 {
			job.Spec.Job.Dependences = append(job.Spec.Job.Dependences, v1alpha1.Dependence{StartTask: names[i/3], EndTask: names[i]})
		}
	}
	return job
}

// wide has n small tasks and the given number of dependences without a cycle.
func wide(n, dependences int) *v1alpha1.BatchJob {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("t%04d", i)
	}
	job := request(names...)
	r := rand.New(rand.NewPCG(1, 2))
	for range dependences {
		from, to := r.IntN(n-1), 0
		to = from + 1 + r.IntN(n-from-1)
		job.Spec.Job.Dependences = append(job.Spec.Job.Dependences, v1alpha1.Dependence{StartTask: names[from], EndTask: names[to]})
	}
	return job
}

// hostile are requests that are as expensive as we could make them.
var hostile = map[string]func() *v1alpha1.BatchJob{
	"5,000 tasks, 50,000 dependences": func() *v1alpha1.BatchJob { return wide(5000, 50_000) },
	"a chain of 5,000 tasks": func() *v1alpha1.BatchJob {
		job := wide(5000, 0)
		for i := range 4999 {
			job.Spec.Job.Dependences = append(job.Spec.Job.Dependences, v1alpha1.Dependence{StartTask: fmt.Sprintf("t%04d", i), EndTask: fmt.Sprintf("t%04d", i+1)})
		}
		return job
	},
	"a ring of 5,000 tasks": func() *v1alpha1.BatchJob {
		job := wide(5000, 0)
		for i := range 5000 {
			job.Spec.Job.Dependences = append(job.Spec.Job.Dependences, v1alpha1.Dependence{StartTask: fmt.Sprintf("t%04d", i), EndTask: fmt.Sprintf("t%04d", (i+1)%5000)})
		}
		return job
	},
	"a complete graph of 400 tasks": func() *v1alpha1.BatchJob {
		job := wide(400, 0)
		for i := range 400 {
			for j := range 400 {
				job.Spec.Job.Dependences = append(job.Spec.Job.Dependences, v1alpha1.Dependence{StartTask: fmt.Sprintf("t%04d", i), EndTask: fmt.Sprintf("t%04d", j)})
			}
		}
		return job
	},
	"layers, each after the one before, in a ring": func() *v1alpha1.BatchJob {
		job := wide(5000, 0)
		r := rand.New(rand.NewPCG(1, 2))
		for i := range 50_000 {
			from := i % 5000
			to := ((from/1000+1)%5)*1000 + r.IntN(1000)
			job.Spec.Job.Dependences = append(job.Spec.Job.Dependences, v1alpha1.Dependence{StartTask: fmt.Sprintf("t%04d", from), EndTask: fmt.Sprintf("t%04d", to)})
		}
		return job
	},
	"unknown names, all near": func() *v1alpha1.BatchJob {
		job := request()
		for i := range 5000 {
			job.Spec.Job.Tasks = append(job.Spec.Job.Tasks, v1alpha1.Task{TaskName: fmt.Sprintf("%s%04d", strings.Repeat("ab", 28), i)})
		}
		for i := range 50_000 {
			name := fmt.Sprintf("%s%05d", strings.Repeat("ab", 27), i)
			job.Spec.Job.Dependences = append(job.Spec.Job.Dependences, v1alpha1.Dependence{StartTask: name, EndTask: name})
		}
		return job
	},
	"a million instances in each of 5,000 tasks": func() *v1alpha1.BatchJob {
		job := wide(5000, 0)
		for i := range job.Spec.Job.Tasks {
			job.Spec.Job.Tasks[i].TaskInstanceNum = ptr(int64(1_000_000))
		}
		return job
	},
	"a mistake in every field of 5,000 tasks": func() *v1alpha1.BatchJob {
		job := wide(5000, 0)
		for i := range job.Spec.Job.Tasks {
			job.Spec.Job.Tasks[i] = v1alpha1.Task{
				TaskName: "\u202e!", EnvID: "x", ComputeEnv: &v1alpha1.AnonymousComputeEnv{EnvType: "x", EnvData: &v1alpha1.EnvData{ImageID: "\x00"}},
				MaxRetryCount: ptr(int64(-1)), EnvVars: []v1alpha1.EnvVar{{Name: "%00"}}, RedirectInfo: &v1alpha1.RedirectInfo{StdoutRedirectPath: "cos://u:p@h/../"},
			}
		}
		return job
	},
	"20,000 empty tasks": func() *v1alpha1.BatchJob {
		return &v1alpha1.BatchJob{Spec: v1alpha1.BatchJobSpec{Job: v1alpha1.Job{Tasks: make([]v1alpha1.Task, 20_000)}}}
	},
	"strings of 1 MiB":    func() *v1alpha1.BatchJob { return texts("x") },
	"slashes of 1 MiB":    func() *v1alpha1.BatchJob { return texts("/") },
	"schemes of 1 MiB":    func() *v1alpha1.BatchJob { return texts("://") },
	"escapes of 1 MiB":    func() *v1alpha1.BatchJob { return texts("\x00") },
	"percents of 1 MiB":   func() *v1alpha1.BatchJob { return texts("%25") },
	"parents of 1 MiB":    func() *v1alpha1.BatchJob { return texts("../") },
	"marks of 1 MiB":      func() *v1alpha1.BatchJob { return texts("\u202e") },
	"broken UTF-8, 1 MiB": func() *v1alpha1.BatchJob { return texts("\xff") },
	"secrets of 1 MiB":    func() *v1alpha1.BatchJob { return texts("password ") },
	"options of 1 MiB":    func() *v1alpha1.BatchJob { return texts("--token \t") },
	"keys of 1 MiB":       func() *v1alpha1.BatchJob { return texts("AKIDAKIA") },
	"5,000 environments that are none": func() *v1alpha1.BatchJob {
		job := wide(5000, 0)
		for i := range job.Spec.Job.Tasks {
			job.Spec.Job.Tasks[i].ComputeEnv, job.Spec.Job.Tasks[i].EnvID = nil, fmt.Sprint("env-", i)
		}
		return job
	},
	"50,000 machine types that are none": func() *v1alpha1.BatchJob {
		job := wide(5000, 0)
		for i := range job.Spec.Job.Tasks {
			data := &v1alpha1.EnvData{}
			for k := range 10 {
				data.InstanceTypes = append(data.InstanceTypes, fmt.Sprintf("S5.MEDIUM%d-%d", i, k))
			}
			job.Spec.Job.Tasks[i].ComputeEnv.EnvData = data
		}
		return job
	},
	"a megabyte of options for docker run": func() *v1alpha1.BatchJob {
		job := wide(250, 0)
		for i := range job.Spec.Job.Tasks {
			job.Spec.Job.Tasks[i].Application.Docker = &v1alpha1.Docker{Image: "a", DockerRunOption: strings.Repeat(`"`, 4096)}
		}
		return job
	},
	"200,000 labels, resources and annotations": func() *v1alpha1.BatchJob {
		job := request("a")
		k := &v1alpha1.KubernetesOptions{Labels: map[string]string{}, NodeSelector: map[string]string{}, Annotations: map[string]string{},
			Resources: &v1alpha1.ResourceRequirements{Requests: corev1.ResourceList{}}, Tolerations: make([]corev1.Toleration, 50_000)}
		for i := range 50_000 {
			name := fmt.Sprint("label-", i)
			k.Labels[name], k.NodeSelector[name], k.Annotations[name] = "!", "!", ""
			k.Resources.Requests[corev1.ResourceName(name)] = resource.MustParse("-1")
		}
		job.Spec.Job.Tasks[0].ComputeEnv.Kubernetes = k
		return job
	},
	"300,000 list items of nothing": func() *v1alpha1.BatchJob {
		job := request("a")
		job.Spec.Placement.HostIDs = make([]string, 100_000)
		job.Spec.Job.Tasks[0].ComputeEnv.EnvData = &v1alpha1.EnvData{InstanceTypes: make([]string, 100_000), Zones: make([]string, 100_000)}
		return job
	},
}

// texts fills the command and a path with a megabyte each, and every other kind of text
// with an eighth of one: more than the 3 MiB that an API server accepts.
func texts(unit string) *v1alpha1.BatchJob {
	long, s := strings.Repeat(unit, 1<<20/len(unit)), strings.Repeat(unit, 1<<17/len(unit))
	job := request(s)
	job.Spec.Placement = v1alpha1.Placement{Zone: s, HostIDs: []string{s}, HostIPs: []string{s}}
	job.Spec.ClientToken = s
	j := &job.Spec.Job
	j.JobName, j.JobDescription = s, s
	j.TaskExecutionDependOn, j.StateIfCreateCvmFailed = v1alpha1.TaskExecutionDependOn(s), v1alpha1.StateIfCreateCvmFailed(s)
	j.Tags = []v1alpha1.Tag{{Key: s, Value: s}}
	j.Notifications = []v1alpha1.Notification{{TopicName: s, EventConfigs: []v1alpha1.EventConfig{{EventName: s}}}}
	j.Dependences = []v1alpha1.Dependence{{StartTask: s + "x", EndTask: s}}
	t := &j.Tasks[0]
	t.Application = v1alpha1.Application{DeliveryForm: v1alpha1.DeliveryForm(s), Command: long, PackagePath: "cos://h/" + s, Docker: &v1alpha1.Docker{Image: s, Server: s}}
	t.ComputeEnv.EnvData = &v1alpha1.EnvData{ImageID: s, InstanceType: s, InstanceName: s}
	t.EnvVars = []v1alpha1.EnvVar{{Name: s, Value: s}}
	t.InputMappings = []v1alpha1.InputMapping{{SourcePath: "cos://" + s, DestinationPath: "/" + s}, {SourcePath: s, DestinationPath: `C:\` + s}}
	t.RedirectInfo = &v1alpha1.RedirectInfo{StdoutRedirectPath: "cos://h/" + long + "/", StdoutRedirectFileName: s}
	return job
}

// No request costs more than maxMemory, nor more of the processor than decoding it maxDecodings times:
// the API server has decoded it more than once before it asks.
func TestHostileRequestsStayCheap(t *testing.T) {
	const maxDecodings, maxMemory = 12, 100 << 20
	for name, build := range hostile {
		t.Run(name, func(t *testing.T) {
			job := build()
			text, err := json.Marshal(job)
			if err != nil {
				t.Fatal(err)
			}
			decode := func() {
				if err := json.Unmarshal(text, &v1alpha1.BatchJob{}); err != nil {
					t.Fatal(err)
				}
			}
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			problems := validators[1].ValidateCreate(job)
			warnings := validators[1].Warnings(job)
			runtime.ReadMemStats(&after)
			checkProblems(t, problems)
			checkWarnings(t, warnings)
			memory := after.TotalAlloc - before.TotalAlloc
			if memory > maxMemory {
				t.Errorf("%d bytes", memory)
			}
			created := cputime.Ratio(func() {
				validators[1].ValidateCreate(job)
				validators[1].Warnings(job)
			}, decode)
			other := job.DeepCopy()
			updated := cputime.Ratio(func() {
				Validator{}.ValidateUpdate(job, request("a"))
				Validator{}.ValidateUpdate(job, other)
			}, decode)
			t.Logf("create %.2f and update %.2f of decoding, %d KiB, %d problems, %d warnings", created, updated, memory>>10, len(problems), len(warnings))
			if max(created, updated) > maxDecodings {
				t.Errorf("create %.2f and update %.2f of decoding, want at most %d", created, updated, maxDecodings)
			}
		})
	}
}

func TestAllocationsOfATypicalRequest(t *testing.T) {
	job := typical(10)
	if problems := (Validator{}).ValidateCreate(job); problems != nil {
		t.Fatal(problems)
	}
	if got := testing.AllocsPerRun(100, func() { Validator{}.ValidateCreate(job) }); got >= 200 {
		t.Errorf("%v allocations, want fewer than 200", got)
	}
}

func BenchmarkValidateCreate(b *testing.B) {
	for name, job := range map[string]*v1alpha1.BatchJob{"tasks=1": typical(1), "tasks=10": typical(10), "tasks=100": typical(100)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Validator{}.ValidateCreate(job)
			}
		})
	}
}

func BenchmarkWarnings(b *testing.B) {
	job := typical(10)
	b.ReportAllocs()
	for b.Loop() {
		Validator{}.Warnings(job)
	}
}

// The time is linear in the dependences.
func BenchmarkDependences(b *testing.B) {
	for _, edges := range []int{1000, 10_000, 50_000, 100_000} {
		job := wide(5000, edges)
		b.Run(fmt.Sprintf("tasks=5000/dependences=%d", edges), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Validator{}.ValidateCreate(job)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(edges+5000), "ns/(task+dependence)")
		})
	}
}

func BenchmarkHostile(b *testing.B) {
	names := []string{}
	for name := range hostile {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		job := hostile[name]()
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Validator{}.ValidateCreate(job)
				Validator{}.Warnings(job)
			}
		})
	}
}
