// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package podspec_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/testutil"
	"batchcompute.dev/operator/internal/testutil/cputime"
)

var update = flag.Bool("update", false, "rewrite testdata/*.out.yaml")

// input is a testdata/*.in.yaml.
type input struct {
	Metadata struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Instance struct {
		Task    int `json:"task"`
		Index   int `json:"index"`
		Attempt int `json:"attempt"`
		Machine int `json:"machine"`
	} `json:"instance"`
	// ComputeEnv is what the tasks' envId names.
	ComputeEnv *v1alpha1.ComputeEnvSpec `json:"computeEnv"`
	Spec       v1alpha1.BatchJobSpec    `json:"spec"`
}

func TestGolden(t *testing.T) {
	eachInput(t, func(t *testing.T, name string, in input, job *v1alpha1.BatchJob) {
		compare(t, "testdata/"+name+".out.yaml", build(t, job, in.instance(), in.ComputeEnv))
	})
}

// TestWithoutData: a task without data has the Pod that it would have if there were no agent.
func TestWithoutData(t *testing.T) {
	defer func(a podspec.Agent) { cluster.Agent = a }(cluster.Agent)
	with, n := cluster.Agent, 0
	eachInput(t, func(t *testing.T, _ string, in input, job *v1alpha1.BatchJob) {
		if podspec.HasData(&job.Spec.Job.Tasks[in.Instance.Task], nil) || in.ComputeEnv != nil && len(in.ComputeEnv.InputMappings) > 0 {
			return
		}
		n++
		cluster.Agent = podspec.Agent{}
		want := build(t, job, in.instance(), in.ComputeEnv)
		cluster.Agent = with
		got := build(t, job, in.instance(), in.ComputeEnv)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-without an agent +with one):\n%s", diff)
		}
		if len(got.Spec.Containers) != 1 || len(got.Spec.InitContainers) != 0 {
			t.Errorf("the Pod has %d containers and %d init containers", len(got.Spec.Containers), len(got.Spec.InitContainers))
		}
	})
	if n < 20 {
		t.Errorf("%d inputs are without data", n)
	}
}

// instance is the instance of an input.
func (in *input) instance() resolve.Instance {
	return resolve.Instance{Task: in.Instance.Task, Index: in.Instance.Index, Attempt: in.Instance.Attempt, Machine: in.Instance.Machine}
}

// eachInput runs a test for each testdata/*.in.yaml, with its job.
func eachInput(t *testing.T, test func(t *testing.T, name string, in input, job *v1alpha1.BatchJob)) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("found %d inputs: %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".in.yaml")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var in input
			if err := yaml.UnmarshalStrict(text, &in); err != nil {
				t.Fatal(err)
			}
			job := testutil.Job(in.Metadata.Name).Obj()
			job.UID, job.Spec = types.UID("00000000-0000-4000-8000-000000000001"), in.Spec
			test(t, name, in, job)
		})
	}
}

// TestSamples builds, with the catalogue that the operator comes with, the Pod of the first
// instance of every task of config/samples, which may run where Pods must be restricted.
func TestSamples(t *testing.T) {
	shipped, err := os.ReadFile("../../config/manager/catalog.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if cluster.Catalog, err = catalog.Parse(shipped); err != nil {
		t.Fatal(err)
	}
	defer func() { cluster.Catalog = images }()
	files, err := filepath.Glob("../../config/samples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if filepath.Base(file) == "kustomization.yaml" {
			continue
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var pool *v1alpha1.ComputeEnvSpec
			template := &v1alpha1.TaskTemplate{} // what admission completes the tasks from
			for part := range strings.SplitSeq(string(text), "\n---\n") {
				var env v1alpha1.ComputeEnv
				if err := yaml.Unmarshal([]byte(part), &env); err != nil {
					t.Fatal(err)
				}
				if env.APIVersion != v1alpha1.GroupVersion.String() {
					continue // what the job needs
				}
				if env.Kind == "ComputeEnv" {
					if err := yaml.UnmarshalStrict([]byte(part), &env); err != nil {
						t.Fatal(err)
					}
					pool = &env.Spec
					continue
				}
				if env.Kind == "TaskTemplate" {
					if err := yaml.UnmarshalStrict([]byte(part), template); err != nil {
						t.Fatal(err)
					}
					continue
				}
				job := &v1alpha1.BatchJob{}
				if err := yaml.UnmarshalStrict([]byte(part), job); err != nil {
					t.Fatal(err)
				}
				for i := range job.Spec.Job.Tasks {
					if task := &job.Spec.Job.Tasks[i]; task.TaskTemplate != "" {
						*task = resolve.Complete(task, &template.Spec.TaskTemplateInfo)
					}
				}
				job.Namespace, job.UID = "default", "00000000-0000-4000-8000-000000000001"
				for i := range job.Spec.Job.Tasks {
					pod := build(t, job, resolve.Instance{Task: i}, pool)
					compare(t, filepath.Join("testdata/samples", job.Name+"."+pod.Labels[v1alpha1.LabelTaskName]+".yaml"), pod)
					wantRestricted(t, pod)
				}
			}
		})
	}
}

// compare compares a Pod with the file that it should be.
func compare(t *testing.T, golden string, pod *corev1.Pod) {
	t.Helper()
	got, err := yaml.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := errors.Join(os.MkdirAll(filepath.Dir(golden), 0o755), os.WriteFile(golden, got, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got), -update rewrites it:\n%s", golden, diff)
	}
}

var images = func() *catalog.Catalog {
	c, err := catalog.Parse([]byte(`
apiVersion: config.batchcompute.dev/v1alpha1
kind: Catalog
defaultImage: debian:13
images: {img-python: "python:3.13"}
instanceTypes:
  S5.MEDIUM4: {cpu: 2, memory: 4Gi, category: GENERAL_3}
  S5.LARGE8: {cpu: 4, memory: 8Gi, category: GENERAL_3}
  GPU.BIG: {cpu: 8, memory: 32Gi, resources: {nvidia.com/gpu: 2}, nodeLabels: {example.com/gpu: big}}
  GPU.SMALL: {cpu: 4, memory: 16Gi, resources: {nvidia.com/gpu: 1}, nodeLabels: {example.com/gpu: small}}
diskTypes: {CLOUD_SSD: {storageClassName: fast}}
chargeTypes: {SPOTPAID: {nodeLabels: {example.com/capacity: spot}, tolerations: [{key: example.com/spot, operator: Exists, effect: NoSchedule}]}}
priorityClasses: [{from: 50, to: 100, priorityClassName: batch-high}]
registryMirrors: {registry.example.com: mirror.example.com/cache}
stores:
- {match: "studio-*", endpoint: "https://s3.storage.svc:9000", bucket: films, prefix: moved/, region: eu-1, style: path, secretName: studio-keys}
- {match: "*.s3.example.com", identity: {endpoint: "https://sts.example.com", role: batch, audience: sts.example.com}}
fileSystems:
- {match: "10.1.*", csiDriver: nfs.csi.k8s.io}
`))
	if err != nil {
		panic(err)
	}
	return c
}()

// cluster has the nodes node-a and node-c under the addresses 10.0.0.1 and 10.0.0.2.
var cluster = podspec.Cluster{Catalog: images, Agent: podspec.Agent{Image: "agent:1", ImageVolumes: true}, Hosts: func(addresses []string) []string {
	var out []string
	for i, name := range []string{"node-a", "node-c"} {
		if slices.Contains(addresses, fmt.Sprint("10.0.0.", i+1)) {
			out = append(out, name)
		}
	}
	return out
}}

// envOf is where and on what a task runs; pool is what an envId names.
func envOf(job *v1alpha1.BatchJob, task *resolve.Task, pool *v1alpha1.ComputeEnvSpec) *resolve.Env {
	if task.EnvID == "" {
		return task.Env
	}
	env := &v1alpha1.ComputeEnv{Spec: *pool}
	env.Name, env.UID = task.EnvID, "00000000-0000-4000-8000-000000000002"
	return resolve.Named(env, job.Spec.Job.Tags)
}

func build(t testing.TB, job *v1alpha1.BatchJob, in resolve.Instance, pool ...*v1alpha1.ComputeEnvSpec) *corev1.Pod {
	t.Helper()
	spec, err := resolve.Resolve(job)
	if err != nil {
		t.Fatal(err)
	}
	pod, err := podspec.Build(job, spec, in, envOf(job, &spec.Tasks[in.Task], slices.Concat(pool, []*v1alpha1.ComputeEnvSpec{{}})[0]), cluster)
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

func TestImage(t *testing.T) {
	for name, tc := range map[string]struct {
		options []testutil.TaskOption
		want    string
	}{
		"default":                   {nil, "debian:13"},
		"in the catalogue":          {[]testutil.TaskOption{testutil.ImageID("img-python")}, "python:3.13"},
		"a reference itself":        {[]testutil.TaskOption{testutil.ImageID("other.example.com/a:1")}, "other.example.com/a:1"},
		"docker":                    {[]testutil.TaskOption{testutil.Image("busybox:1")}, "busybox:1"},
		"docker wins":               {[]testutil.TaskOption{testutil.ImageID("img-python"), testutil.Image("busybox:1")}, "busybox:1"},
		"docker without an image":   {[]testutil.TaskOption{testutil.ImageID("img-python"), testutil.Image("")}, "python:3.13"},
		"docker is no catalogue id": {[]testutil.TaskOption{testutil.Image("img-python")}, "img-python"},
		"no computeEnv":             {[]testutil.TaskOption{func(t *v1alpha1.Task) { t.ComputeEnv = nil }}, "debian:13"},
		"no envData":                {[]testutil.TaskOption{func(t *v1alpha1.Task) { t.ComputeEnv.EnvData = nil }}, "debian:13"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := build(t, testutil.Job("j").Task("a", tc.options...).Obj(), resolve.Instance{})
			if got := pod.Spec.Containers[0].Image; got != tc.want {
				t.Errorf("image is %q, want %q", got, tc.want)
			}
		})
	}
}

// TestContainerGetsTheTextAsWritten expands commands and variables as a kubelet does.
func TestContainerGetsTheTextAsWritten(t *testing.T) {
	check := func(t testing.TB, command, value string) {
		t.Helper()
		pod := build(t, testutil.Job("j").Task("a", testutil.Command(command), testutil.Env("X", value), testutil.Env("Y", value)).Obj(), resolve.Instance{})
		c := pod.Spec.Containers[0]
		known := map[string]string{}
		for _, v := range c.Env {
			known[v.Name] = expand(v.Value, known)
		}
		if got := expand(c.Command[2], known); got != command {
			t.Errorf("the shell gets %q, want %q", got, command)
		}
		for _, name := range []string{"X", "Y"} {
			if known[name] != value {
				t.Errorf("variable %s is %q, want %q", name, known[name], value)
			}
		}
		if c.Command[0] != "/bin/sh" || c.Command[1] != "-c" || len(c.Command) != 3 || len(c.Args) != 0 {
			t.Errorf("command is %q, %q", c.Command, c.Args)
		}
	}
	for _, text := range []string{
		"", "$", "$$", "$$$", "$(X)", "$$(X)", "$$$(X)", "$(X", "$()", "$(BATCH_TASK_NAME)", "$(date +%s)", "${X}", "$X", "a$", "$é", "for i in $(seq 3); do echo $i $$; done",
	} {
		check(t, text, text)
	}
	rapid.Check(t, func(r *rapid.T) {
		texts := rapid.StringMatching(`[$()XY a-]*`)
		check(t, texts.Draw(r, "command"), texts.Draw(r, "value"))
	})
}

// expand follows the API reference of Container.command and EnvVar.value: $(NAME) is
// replaced where the variable is known and else left, and $$ is one $.
func expand(text string, known map[string]string) string {
	var out strings.Builder
	for text != "" {
		rest, isDollar := strings.CutPrefix(text, "$")
		if !isDollar {
			out.WriteByte(text[0])
			text = text[1:]
			continue
		}
		name, after, closed := strings.Cut(strings.TrimPrefix(rest, "("), ")")
		switch value, ok := known[name]; {
		case strings.HasPrefix(rest, "$"):
			out.WriteByte('$')
			text = rest[1:]
		case strings.HasPrefix(rest, "(") && closed && ok:
			out.WriteString(value)
			text = after
		case strings.HasPrefix(rest, "(") && closed:
			out.WriteString("$(" + name + ")")
			text = after
		default:
			out.WriteByte('$')
			text = rest
		}
	}
	return out.String()
}

func TestExpand(t *testing.T) {
	known := map[string]string{"A": "1"}
	for text, want := range map[string]string{
		"$(A) $$(A) $(B) $$ $ $A $(A": "1 $(A) $(B) $ $ $A $(A", "$": "$", "$$$(A)": "$1",
	} {
		if got := expand(text, known); got != want {
			t.Errorf("expand(%q) is %q, want %q", text, got, want)
		}
	}
}

func TestSystemVariablesWin(t *testing.T) {
	job := testutil.Job("j").Task("a", testutil.Instances(4), testutil.Env("BATCH_JOB_ID", "forged"), testutil.Env("BATCH_TASK_INSTANCE_INDEX", "99")).Obj()
	pod := build(t, job, resolve.Instance{Index: 3})
	got := map[string]string{} // the last one of a name counts
	for _, v := range pod.Spec.Containers[0].Env {
		got[v.Name] = v.Value
	}
	want := map[string]string{
		"BATCH_JOB_ID": pod.Labels[v1alpha1.LabelJobID], "BATCH_TASK_NAME": "a", "BATCH_TASK_INSTANCE_NUM": "4", "BATCH_TASK_INSTANCE_INDEX": "3",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("variables (-want +got):\n%s", diff)
	}
}

func TestRestricted(t *testing.T) {
	pod := build(t, testutil.Job("j").Task("a").Obj(), resolve.Instance{})
	wantRestricted(t, pod)
	if *pod.Spec.AutomountServiceAccountToken || *pod.Spec.EnableServiceLinks || pod.Spec.RestartPolicy != corev1.RestartPolicyNever {
		t.Errorf("Pod is %+v", pod.Spec)
	}
}

// wantRestricted asks the code behind Pod Security admission.
func wantRestricted(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	judge, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	results := judge.EvaluatePod(api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}, &pod.ObjectMeta, &pod.Spec)
	if len(results) < 10 {
		t.Errorf("only %d checks were done", len(results))
	}
	for _, r := range results {
		if !r.Allowed {
			t.Errorf("%s is not restricted: %s: %s", pod.Name, r.ForbiddenReason, r.ForbiddenDetail)
		}
	}
}

// TestBornTracked: a Pod is never there without its finalizer, its label and its owner.
func TestBornTracked(t *testing.T) {
	job := testutil.Job("j").Task("a").Obj()
	pod := build(t, job, resolve.Instance{})
	if !slices.Contains(pod.Finalizers, v1alpha1.FinalizerTracking) || pod.Labels[v1alpha1.LabelTracked] != "true" || !metav1.IsControlledBy(pod, job) {
		t.Errorf("Pod is %+v", pod.ObjectMeta)
	}
	if owner := pod.OwnerReferences[0]; owner.APIVersion != "batchcompute.dev/v1alpha1" || owner.Kind != "BatchJob" || !*owner.BlockOwnerDeletion {
		t.Errorf("owner is %+v", owner)
	}
}

// TestBuildSharesNothing: a Pod may be changed without harm to the job or other Pods.
func TestBuildSharesNothing(t *testing.T) {
	job := testutil.Job("j").Task("a", testutil.Env("A", "1"), testutil.Zones("x", "y")).Obj()
	before := job.DeepCopy()
	pod := build(t, job, resolve.Instance{})
	text, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[0].MatchExpressions[0].Values[0] = "z"
	pod.Spec.Containers[0].Env[0].Value = "2"
	*pod.Spec.SecurityContext.RunAsUser = 0
	clear(pod.Labels)
	if diff := cmp.Diff(before, job); diff != "" {
		t.Errorf("the job changed with its Pod:\n%s", diff)
	}
	if again, _ := json.Marshal(build(t, job, resolve.Instance{})); string(again) != string(text) {
		t.Errorf("a second Pod differs:\n%s\n%s", text, again)
	}
}

// TestBuildErrors: what a request names may be gone from the cluster since it was let in.
func TestBuildErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		data            *v1alpha1.EnvData
		ips             []string
		reason, message string
	}{
		"type": {&v1alpha1.EnvData{InstanceType: "X.1"}, nil, v1alpha1.ReasonMachineUnknown, `the operator's catalogue has no machine type "X.1" any more`},
		"one of several types": {&v1alpha1.EnvData{InstanceTypes: []string{"S5.LARGE8", "X.1"}}, nil, v1alpha1.ReasonMachineUnknown,
			`the operator's catalogue has no machine type "X.1" any more`},
		"category": {&v1alpha1.EnvData{InstanceTypeOptions: &v1alpha1.InstanceTypeOptions{CPU: new(int64(5)), Memory: new(int64(1)), InstanceCategories: []string{"GENERAL_3"}}}, nil,
			v1alpha1.ReasonMachineUnknown, "the operator's catalogue has no machine type in GENERAL_3 any more with 5 cores and 1 GB"},
		"addresses": {nil, []string{"10.0.0.8", "10.0.0.9"}, v1alpha1.ReasonHostNotFound, "no node has the address 10.0.0.8 or 10.0.0.9"},
	} {
		t.Run(name, func(t *testing.T) {
			job := testutil.Job("j").HostIPs(tc.ips...).Task("a", func(t *v1alpha1.Task) { t.ComputeEnv.EnvData = tc.data }).Obj()
			spec, err := resolve.Resolve(job)
			if err != nil {
				t.Fatal(err)
			}
			pod, err := podspec.Build(job, spec, resolve.Instance{}, spec.Tasks[0].Env, cluster)
			var e *podspec.Error
			if pod != nil || !errors.As(err, &e) || e.Reason != tc.reason || e.Message != tc.message {
				t.Errorf("Build gave %v, %#v; want %s: %s", pod, err, tc.reason, tc.message)
			}
		})
	}
}

// maxBuild is how many times the processor time of encoding a Pod, which each create does, building
// one may take.
const maxBuild = 3

// TestBuildIsFast measures as BenchmarkBuild does.
func TestBuildIsFast(t *testing.T) {
	for name, job := range benchmarked() {
		build, i := builds(t, job), 0
		spec, err := resolve.Resolve(job)
		if err != nil {
			t.Fatal(err)
		}
		pod, err := podspec.Build(job, spec, resolve.Instance{}, spec.Tasks[0].Env, cluster)
		if err != nil {
			t.Fatal(err)
		}
		ratio := cputime.Ratio(func() {
			build(i)
			i++
		}, func() {
			if _, err := json.Marshal(pod); err != nil {
				t.Fatal(err)
			}
		})
		t.Logf("%s: %.2f of encoding it", name, ratio)
		if ratio > maxBuild {
			t.Errorf("building the Pod that is %s takes %.2f times as long as encoding it, want at most %d", name, ratio, maxBuild)
		}
	}
}

// BenchmarkBuild resolves a task to a Pod.
func BenchmarkBuild(b *testing.B) {
	for name, job := range benchmarked() {
		b.Run(name, func(b *testing.B) {
			build := builds(b, job)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				build(i)
			}
		})
	}
}

// builds returns what builds the Pod of an instance of a job.
func builds(t testing.TB, job *v1alpha1.BatchJob) func(index int) {
	t.Helper()
	spec, err := resolve.Resolve(job)
	if err != nil {
		t.Fatal(err)
	}
	return func(i int) {
		if _, err := podspec.Build(job, spec, resolve.Instance{Index: i % spec.Tasks[0].InstanceNum}, spec.Tasks[0].Env, cluster); err != nil {
			t.Fatal(err)
		}
	}
}

// benchmarked are the jobs whose Pods are measured: a plain one, and one that wishes for
// everything.
func benchmarked() map[string]*v1alpha1.BatchJob {
	plain := testutil.Job("j").Task("a", testutil.Instances(100_000), testutil.Command(strings.Repeat("echo $(date); ", 100)), testutil.Env("A", "1"), testutil.Env("B", "$2")).Obj()
	rich := plain.DeepCopy()
	rich.Spec.Placement.HostIPs = []string{"10.0.0.1", "10.0.0.2"}
	rich.Spec.Job.Tags = []v1alpha1.Tag{{Key: "a", Value: "1"}, {Key: "b", Value: "2"}, {Key: "c", Value: "3"}}
	rich.Spec.Job.Tasks[0].Application.Docker = &v1alpha1.Docker{
		Image: "team/app:1", Server: "registry.example.com", DockerRunOption: "-u 1000 -w /work --shm-size 1g", PasswordSecretRef: &v1alpha1.SecretRef{Name: "s"},
	}
	rich.Spec.Job.Tasks[0].ComputeEnv = &v1alpha1.AnonymousComputeEnv{
		EnvData: &v1alpha1.EnvData{
			InstanceTypes: []string{"GPU.BIG", "GPU.SMALL", "S5.LARGE8", "S5.MEDIUM4"}, InstanceChargeType: "SPOTPAID",
			SystemDisk: &v1alpha1.SystemDisk{DiskSize: new(int64(50))}, DataDisks: []v1alpha1.DataDisk{{DiskSize: new(int64(10))}, {DiskSize: new(int64(20)), DiskType: "CLOUD_SSD"}},
		},
		MountDataDisks: []v1alpha1.MountDataDisk{{LocalPath: "/a"}, {LocalPath: "/b"}},
		Kubernetes: &v1alpha1.KubernetesOptions{
			Tolerations: []corev1.Toleration{{Key: "a"}}, Labels: map[string]string{"kueue.x-k8s.io/queue-name": "users"},
			Resources: &v1alpha1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}},
		},
	}
	return map[string]*v1alpha1.BatchJob{"plain": plain, "rich": rich}
}
