// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil"
)

// options gives a task what its Pods have of kubernetes.
func options(k v1alpha1.KubernetesOptions) testutil.TaskOption {
	return func(t *v1alpha1.Task) { t.ComputeEnv.Kubernetes = &k }
}

// someVolumes are volumes of objects that the operator does not read.
var someVolumes = options(v1alpha1.KubernetesOptions{Volumes: []v1alpha1.Volume{
	{Name: "a", PersistentVolumeClaim: &v1alpha1.ClaimVolume{ClaimName: "results"}},
	{Name: "b", Secret: &v1alpha1.SecretVolume{SecretName: "keys"}},
	{Name: "c", ConfigMap: &v1alpha1.ConfigMapVolume{Name: "settings", Optional: true}},
	{Name: "d", Projected: &v1alpha1.ProjectedVolume{Sources: []v1alpha1.VolumeProjection{
		{Secret: &v1alpha1.NamedKeys{Name: "keys", Optional: true}}, {ConfigMap: &v1alpha1.NamedKeys{Name: "more"}},
	}}},
}})

func init() {
	troubles["a Secret, a ConfigMap or an image of a volume does not exist, or a volume cannot be mounted"] = []trouble{{
		options: []testutil.TaskOption{someVolumes},
		begin: func(w *world) {
			w.bind("a/0").do("a/0", func(pod *corev1.Pod) { pod.Status.Conditions[0].LastTransitionTime.Time = w.now }).wait(slowStart)
		},
		end:   func(w *world) { w.wait(1000 * DefaultResourceWait).step() },
		state: v1alpha1.TaskInstanceStarting, waits: v1alpha1.ReasonContainerCreating, after: "0",
	}}
	troubles["a PersistentVolumeClaim of the Pod does not exist, or is not bound"] = []trouble{unschedulableFor(`persistentvolumeclaim "results" not found`),
		unschedulableFor("pod has unbound immediate PersistentVolumeClaims")}
	troubles["a ResourceClaim or a ResourceClaimTemplate of the Pod does not exist"] = []trouble{{
		options: []testutil.TaskOption{options(v1alpha1.KubernetesOptions{ResourceClaims: []v1alpha1.PodResourceClaim{{Name: "a", ResourceClaimName: "board"}}})},
		begin:   func(w *world) { w.wait(slowStart) }, end: timesOut,
		state: v1alpha1.TaskInstanceRunnable, waits: v1alpha1.ReasonNoScheduler, reason: v1alpha1.ReasonNoScheduler, after: "m1",
	}}
}

// unschedulableFor is a Pod that the scheduler finds no node for, and why.
func unschedulableFor(sentence string) trouble {
	return trouble{
		options: []testutil.TaskOption{someVolumes},
		begin:   doA(func(_ *world, pod *corev1.Pod) { testutil.Unschedulable(pod, "0/1 nodes are available: "+sentence) }), end: timesOut,
		state: v1alpha1.TaskInstanceRunnable, waits: v1alpha1.ReasonUnschedulable, reason: v1alpha1.ReasonUnschedulable, after: "m1",
	}
}

// TestSchedulerAdvice holds the table of schedulers' sentences in docs/execution.md: each row has an advice,
// and each advice a row.
func TestSchedulerAdvice(t *testing.T) {
	page, err := os.ReadFile("../../docs/execution.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| the scheduler says | what to do |\n")
	rows := map[string]string{}
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if len(cells) != 2 {
			if !strings.HasPrefix(line, "|") {
				break
			}
			continue
		}
		sentence := strings.Trim(cells[0], "| `")
		advice := schedulerAdvice("0/3 nodes are available: " + sentence + ". preemption: 0/3 nodes are available")
		if advice == "" {
			t.Errorf("no advice for %s", sentence)
		}
		if other, ok := rows[advice]; ok {
			t.Errorf("one advice for %s and %s", sentence, other)
		}
		rows[advice] = sentence
	}
	if len(rows) != len(schedulerAdvices) {
		t.Errorf("the page has %d rows, and there are %d advices", len(rows), len(schedulerAdvices))
	}
	if advice := schedulerAdvice("0/3 nodes are available: 3 Insufficient cpu."); advice != "" {
		t.Errorf("the advice is %q where none is known", advice)
	}
}

// TestWhatPodsWaitFor: the status says what to look at where an object is missing.
func TestWhatPodsWaitFor(t *testing.T) {
	const slow = `node node-1 has been preparing the container for more than 20 s: pulling the image "busybox:1.37", or mounting volumes`
	devices := options(v1alpha1.KubernetesOptions{ResourceClaims: []v1alpha1.PodResourceClaim{
		{Name: "a", ResourceClaimName: "board"}, {Name: "b", ResourceClaimTemplateName: "gpu"},
	}})
	many := options(v1alpha1.KubernetesOptions{Volumes: []v1alpha1.Volume{
		{Name: "a", Image: &v1alpha1.ImageVolume{Reference: "models:1"}}, {Name: "b", CSI: &v1alpha1.CSIVolume{Driver: "d"}},
		{Name: "c", ConfigMap: &v1alpha1.ConfigMapVolume{Name: "c"}}, {Name: "d", ConfigMap: &v1alpha1.ConfigMapVolume{Name: "d"}},
		{Name: "e", ConfigMap: &v1alpha1.ConfigMapVolume{Name: "e"}}, {Name: "f", EmptyDir: &v1alpha1.EmptyDirVolume{}},
	}})
	data := func(t *v1alpha1.Task) {
		t.InputMappings = []v1alpha1.InputMapping{{SourcePath: "nfs://10.0.0.9:/data/", DestinationPath: "/data"}, {SourcePath: "cos://b.example.com/in/", DestinationPath: "/in"}}
		t.Authentications = []v1alpha1.Authentication{{Scene: "COS"}, {Scene: "COS", SecretKeySecretRef: &v1alpha1.SecretRef{Name: "studio-key"}}}
	}
	stored := func(t *v1alpha1.Task) {
		t.InputMappings = []v1alpha1.InputMapping{{SourcePath: "cos://b.example.com/in/", DestinationPath: "/in"}}
	}
	starting := func(w *world) {
		w.bind("a/0").do("a/0", func(pod *corev1.Pod) { pod.Status.Conditions[0].LastTransitionTime = metav1.NewTime(w.now) }).wait(slowStart)
	}
	says := func(reason, message string) func(*world) {
		return func(w *world) {
			w.do("a/0", func(pod *corev1.Pod) { testutil.Bind(pod, "node-1"); testutil.Wait(pod, reason, message) })
		}
	}
	for name, tc := range map[string]struct {
		options testutil.TaskOption
		begin   func(*world)
		want    string
	}{
		"volumes": {someVolumes, starting, slow + `; kubectl describe pod says what fails of: PersistentVolumeClaim "results", Secret "keys", ConfigMap "more"`},
		"many":    {many, starting, slow + `; kubectl describe pod says what fails of: image "models:1", CSI driver "d", ConfigMap "c", ConfigMap "d", 1 more`},
		"data":    {data, starting, slow + `; kubectl describe pod says what fails of: file system "nfs://10.0.0.9:/data/", Secret "studio-key" with its key secretKey (authentications[1]); without such an event the file server does not answer`},
		"catalogue": {stored, func(w *world) {
			w.do("a/0", func(pod *corev1.Pod) {
				pod.Spec.Volumes = []corev1.Volume{{Name: "batchcompute-keys-0", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "store-keys"}}}}
			})
			starting(w)
		}, slow + `; kubectl describe pod says what fails of: Secret "store-keys" (the operator's catalogue)`},
		"none": {options(v1alpha1.KubernetesOptions{}), starting, slow},
		"devices": {devices, func(w *world) { w.wait(slowStart) },
			`no scheduler has looked at the Pod for more than 20 s: it waits until its claims exist: ResourceClaim "board", ResourceClaimTemplate "gpu"; or no running scheduler has the name "default-scheduler"`},
		"a claim": {someVolumes, doA(func(_ *world, pod *corev1.Pod) {
			testutil.Unschedulable(pod, `0/1 nodes are available: persistentvolumeclaim "results" not found.`)
		}), `no node fits in zone zone-a: create the PersistentVolumeClaim, or change computeEnv.kubernetes.volumes: 0/1 nodes are available: persistentvolumeclaim "results" not found.`},
		"a Secret": {someVolumes, says("CreateContainerConfigError", `secret "db" not found`),
			`the container cannot be created; create what is missing, or make it optional: secret "db" not found`},
		"a key": {someVolumes, says("CreateContainerConfigError", "couldn't find key region in ConfigMap default/settings"),
			"the container cannot be created; create what is missing, or make it optional: couldn't find key region in ConfigMap default/settings"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, testutil.Job("j").Task("a", tc.options)).step()
			tc.begin(w)
			w.step()
			if got, want := w.job.Status.Tasks[0].Message, cut("1 instance waits: "+tc.want); got != want {
				t.Errorf("the task says\n%q, want\n%q", got, want)
			}
		})
	}
}
