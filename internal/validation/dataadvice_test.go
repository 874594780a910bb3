// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
)

// What is accepted of a task's data, and does probably not do what was meant.
func TestDataWarnings(t *testing.T) {
	offers, err := catalog.Parse([]byte("apiVersion: config.batchcompute.dev/v1alpha1\nkind: Catalog\ndefaultImage: busybox\n" +
		"instanceTypes: {S5.MEDIUM4: {cpu: 2, memory: 4Gi}}\nfileSystems: [{match: 10.0.0.20, csiDriver: nfs.csi.k8s.io}]\nstores: [{match: b-1.c}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	v := Validator{Catalog: func() *catalog.Catalog { return offers }}
	const task = "spec.job.tasks[0]."
	input := func(source, options string) []v1alpha1.InputMapping {
		return []v1alpha1.InputMapping{{SourcePath: source, DestinationPath: "/in", MountOptionParameter: options}}
	}
	output := func(to string) []v1alpha1.OutputMapping {
		return []v1alpha1.OutputMapping{{SourcePath: "/out", DestinationPath: to}}
	}
	const notStored = ", which does not store it: it is another file system"
	const noStore = " has a host that is not BUCKET-APPID.cos.REGION.myqcloud.com, and the operator's catalogue has no store for it: "
	const shared = "stores the files of all instances in one place, where they overwrite each other's: put ${BATCH_TASK_INSTANCE_INDEX} into destinationPath, or into the names"
	const noOptions = "has a mountOptionParameter without effect: objects are copied, and NFS takes options only with a csiDriver of the operator's catalogue"
	const oneLog = "gives the logs of several instances, or stdout and stderr, the name of one object, which has the last of them: use the placeholders, or no file name"
	for name, tc := range map[string]struct {
		instances int64
		change    func(*v1alpha1.Task)
		want      []string
	}{
		"nothing to say": {3, func(t *v1alpha1.Task) {
			t.InputMappings = input("nfs://10.0.0.20:/in/", "-o nolock")
			t.OutputMappings = output("cos://b-1.cos.ap-x.myqcloud.com/out/${BATCH_TASK_INSTANCE_INDEX}/")
			t.RedirectInfo = &v1alpha1.RedirectInfo{StdoutRedirectPath: "cos://b-1.c/", StderrRedirectPath: "cos://b-1.c/"}
			t.Authentications = []v1alpha1.Authentication{{Scene: "COS", SecretID: "id", SecretKeySecretRef: &v1alpha1.SecretRef{Name: "keys"}}}
		}, nil},
		"one instance": {1, func(t *v1alpha1.Task) { t.OutputMappings = output("cos://b-1.c/out/") }, nil},
		"how a mapping is mounted": {1, func(t *v1alpha1.Task) {
			t.InputMappings = input("cos://b-1.c/in/", " ")
			t.InputMappings[0].MountType = "COSFS"
		}, []string{task + "inputMappings[0].mountType has no effect: objects are copied to the machine before the command starts"}},
		"options of a copy": {1, func(t *v1alpha1.Task) { t.InputMappings = input("cos://b-1.c/in/", "-oallow_other") },
			[]string{task + "inputMappings[0] " + noOptions}},
		"options of NFS": {1, func(t *v1alpha1.Task) { t.InputMappings = input("cfs://10.0.0.21/in/", "-onolock") },
			[]string{task + "inputMappings[0] " + noOptions}},
		"one place": {2, func(t *v1alpha1.Task) { t.OutputMappings = output("cos://b-1.c/${BATCH_JOB_ID}/") },
			[]string{task + "outputMappings[0] " + shared}},
		"names without braces": {1, func(t *v1alpha1.Task) {
			t.Application.DeliveryForm, t.Application.PackagePath = "PACKAGE", "https://h.example/$(BATCH_JOB_ID)/p.tgz"
			t.InputMappings = []v1alpha1.InputMapping{{SourcePath: "cos://b-1.c/$BATCH_JOB_ID/", DestinationPath: "/in/${BATCH_TASK_NAME}"}}
			t.OutputMappings = []v1alpha1.OutputMapping{{SourcePath: "/out/$BATCH_TASK_INSTANCE_INDEX", DestinationPath: "cos://b-1.c/${BATCH_JOB_ID}/$BATCH_TASK_INSTANCE_INDEX/"}}
			t.RedirectInfo = &v1alpha1.RedirectInfo{StdoutRedirectPath: "cos://b-1.c/$$BATCH_JOB_ID/", StderrRedirectPath: "cos://b-1.c/", StderrRedirectFileName: "$BATCH_JOB_ID.log"}
			t.RedirectLocalInfo = &v1alpha1.RedirectLocalInfo{StdoutLocalPath: "/log/$X"}
			t.ComputeEnv.Kubernetes = &v1alpha1.KubernetesOptions{
				Volumes:      []v1alpha1.Volume{{Name: "v", EmptyDir: &v1alpha1.EmptyDirVolume{}}},
				VolumeMounts: []v1alpha1.VolumeMount{{Name: "v", MountPath: "/v", SubPath: "$BATCH_TASK_INSTANCE_NUM/${BATCH_TASK_INSTANCE_NUM}"}},
			}
		}, []string{
			task + "application.packagePath " + placeholderText,
			task + "computeEnv.kubernetes.volumeMounts[0].subPath has a $ that is not replaced: write ${NAME} for a variable of the instance",
			task + "inputMappings[0].sourcePath " + placeholderText,
			task + "inputMappings[0].destinationPath " + localText,
			task + "outputMappings[0].sourcePath " + localText,
			task + "outputMappings[0].destinationPath " + placeholderText,
			task + "redirectInfo.stdoutRedirectPath " + placeholderText,
			task + "redirectInfo.stderrRedirectFileName " + placeholderText,
			task + "redirectLocalInfo.stdoutLocalPath " + localText,
		}},
		"a dollar is no placeholder": {1, func(t *v1alpha1.Task) {
			t.OutputMappings = []v1alpha1.OutputMapping{{SourcePath: "/out$/5$", DestinationPath: "cos://b-1.c/$/5$/${BATCH_JOB_ID}$/"}}
		}, nil},
		"placeholders that are none": {1, func(t *v1alpha1.Task) {
			t.InputMappings = input("cos://b-1.c/${HOME}/", "")
			t.OutputMappings = output("cos://b-1.c/${BATCH_TASK_INSTANCE_NUM}/")
		}, []string{task + "inputMappings[0].sourcePath " + placeholderText, task + "outputMappings[0].destinationPath " + placeholderText}},
		"the machine's directories": {1, func(t *v1alpha1.Task) {
			t.OutputMappings = output("cos://b-1.c/")
			t.OutputMappings[0].OutputMappingOption = &v1alpha1.OutputMappingOption{Workspace: "GLOBAL_WORKSPACE"}
		}, []string{task + "outputMappings[0].outputMappingOption.workspace has no effect: sourcePath is a directory of the container"}},
		"logs of instances": {2, func(t *v1alpha1.Task) {
			t.RedirectInfo = &v1alpha1.RedirectInfo{StderrRedirectPath: "cos://b-1.c/", StderrRedirectFileName: "err"}
		}, []string{task + "redirectInfo " + oneLog}},
		"both logs": {1, func(t *v1alpha1.Task) {
			t.RedirectInfo = &v1alpha1.RedirectInfo{StdoutRedirectPath: "cos://b-1.c/", StdoutRedirectFileName: "log", StderrRedirectPath: "cos://b-1.c/", StderrRedirectFileName: "log"}
		}, []string{task + "redirectInfo " + oneLog}},
		"mounts inside an output": {1, func(t *v1alpha1.Task) {
			t.OutputMappings = append(output("cos://b-1.c/"), v1alpha1.OutputMapping{SourcePath: "/results/", DestinationPath: "cos://b-1.c/2/"})
			t.InputMappings = append(input("cos://b-1.c/in/", ""), v1alpha1.InputMapping{SourcePath: "cos://b-1.c/x/", DestinationPath: "/results/in/"})
			t.ComputeEnv.EnvData = &v1alpha1.EnvData{DataDisks: []v1alpha1.DataDisk{{DiskType: "LOCAL_SSD", DiskSize: ptr(int64(10))}}}
			t.ComputeEnv.MountDataDisks = []v1alpha1.MountDataDisk{{LocalPath: "/out/scratch"}}
			t.ComputeEnv.Kubernetes = &v1alpha1.KubernetesOptions{
				Volumes:      []v1alpha1.Volume{{Name: "v", EmptyDir: &v1alpha1.EmptyDirVolume{}}},
				VolumeMounts: []v1alpha1.VolumeMount{{Name: "v", MountPath: "/outside"}, {Name: "v", MountPath: "/results/a/b"}},
			}
		}, []string{
			task + "computeEnv.mountDataDisks[0].localPath lies inside outputMappings[0].sourcePath" + notStored,
			task + "computeEnv.kubernetes.volumeMounts[1].mountPath lies inside outputMappings[1].sourcePath" + notStored,
			task + "inputMappings[1].destinationPath lies inside outputMappings[1].sourcePath" + notStored,
		}},
		"mounts that are an output": {1, func(t *v1alpha1.Task) {
			t.OutputMappings = output("cos://b-1.c/")
			t.InputMappings = []v1alpha1.InputMapping{{SourcePath: "cos://b-1.c/in/", DestinationPath: "/out/"}, {SourcePath: "cos://b-1.c/x/", DestinationPath: "/ou"}}
		}, nil},
		"hosts": {1, func(t *v1alpha1.Task) {
			t.Application.DeliveryForm, t.Application.PackagePath = "PACKAGE", "cos://films.s3.example.com/p.tgz"
			t.InputMappings = input("cos://b-1.cos.ap-guangzhou.myqcloud.com/", "")
			t.OutputMappings = append(output("cos://films.s3.example.com/out/"), v1alpha1.OutputMapping{SourcePath: "/out2", DestinationPath: "cos://b.cos.ap-x.myqcloud.com/"})
			t.RedirectInfo = &v1alpha1.RedirectInfo{StdoutRedirectPath: "cos://films.s3.example.com/", StderrRedirectPath: "cos://" + strings.Repeat("long.", 40) + "example.com/"}
		}, []string{
			task + "application.packagePath" + noStore + "bucket films of https://s3.example.com is used",
			task + "outputMappings[1].destinationPath" + noStore + "bucket b of https://cos.ap-x.myqcloud.com is used",
			task + "redirectInfo.stderrRedirectPath" + noStore + "bucket long of https://long.long.long.long.long.long.long...",
		}},
		"keys": {1, func(t *v1alpha1.Task) {
			a := v1alpha1.Authentication{Scene: "COS", SecretID: "id", SecretKeySecretRef: &v1alpha1.SecretRef{Name: "keys"}}
			t.Authentications = []v1alpha1.Authentication{a, a}
		}, []string{task + "authentications has several keys for COS; the first one counts"}},
	} {
		job := request("a")
		job.Spec.Job.Tasks[0].TaskInstanceNum = &tc.instances
		tc.change(&job.Spec.Job.Tasks[0])
		if problems := v.ValidateCreate(job); problems != nil {
			t.Errorf("%s: refused: %v", name, problems)
		}
		got := v.Warnings(job)
		checkWarnings(t, got)
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	env, _ := readComputeEnv(t, "testdata/computeenvs/ok-smallest.yaml")
	env.Spec.InputMappings = input("cos://b-1.c/in/", "-oallow_other")
	if diff := cmp.Diff([]string{"spec.inputMappings[0] " + noOptions}, v.ComputeEnvWarnings(env)); diff != "" {
		t.Errorf("a ComputeEnv (-want +got):\n%s", diff)
	}
}

// What kubectl keeps of a manifest is in the object, though the fields are not.
func TestAppliedSecrets(t *testing.T) {
	const applied = `{"spec":{"job":{"tasks":[{"application":{"docker":{"password":"planted"}},"authentications":[{"secretKey":"planted"}]}]}}}`
	job := request("a")
	job.Annotations = map[string]string{"kubectl.kubernetes.io/last-applied-configuration": applied}
	want := []string{
		"metadata.annotations[kubectl.kubernetes.io/last-applied-configuration] has a secretKey, which everybody who may read this object can see: replace that credential, and use secretKeySecretRef",
		"metadata.annotations[kubectl.kubernetes.io/last-applied-configuration] has a password, which everybody who may read this object can see: replace that credential, and use passwordSecretRef",
	}
	got := Validator{}.Warnings(job)
	checkWarnings(t, got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	job.Annotations["kubectl.kubernetes.io/last-applied-configuration"] = `{"secretKeySecretRef":{"name":"secretKey"},"passwordSecretRef":{}}`
	if got := (Validator{}).Warnings(job); got != nil {
		t.Errorf("references are no secrets: %q", got)
	}
}

// The policy restricts which Secrets are keys, and volumes of type nfs.
func TestDataPolicy(t *testing.T) {
	offers, err := catalog.Parse([]byte("apiVersion: config.batchcompute.dev/v1alpha1\nkind: Catalog\ndefaultImage: busybox\n" +
		"instanceTypes: {S5.MEDIUM4: {cpu: 2, memory: 4Gi}}\nfileSystems: [{match: 10.0.0.20, csiDriver: nfs.csi.k8s.io}]\npolicy: {volumeTypes: [emptyDir], secretNames: [keys]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	job := request("a")
	task := &job.Spec.Job.Tasks[0]
	for _, source := range []string{"cos://b.c/", "nfs://10.0.0.20:/", "cfs://10.0.0.21:/"} {
		task.InputMappings = append(task.InputMappings, v1alpha1.InputMapping{SourcePath: source, DestinationPath: "/" + source[:3] + source[len(source)-3:len(source)-2]})
	}
	for _, name := range []string{"keys", "others"} {
		task.Authentications = append(task.Authentications, v1alpha1.Authentication{Scene: "COS", SecretID: "i", SecretKeySecretRef: &v1alpha1.SecretRef{Name: name}})
	}
	want := []string{
		"UnauthorizedOperation spec.job.tasks[0].inputMappings[2].sourcePath",
		"UnauthorizedOperation spec.job.tasks[0].authentications[1].secretKeySecretRef.name",
	}
	if diff := cmp.Diff(want, summary(Validator{Catalog: func() *catalog.Catalog { return offers }}.ValidateCreate(job))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A cos:// path names a bucket of its own, or a store of the catalogue.
func TestStoreIsKnown(t *testing.T) {
	offers, err := catalog.Parse([]byte("apiVersion: config.batchcompute.dev/v1alpha1\nkind: Catalog\ndefaultImage: busybox\n" +
		"instanceTypes: {S5.MEDIUM4: {cpu: 2, memory: 4Gi}}\nstores: [{match: results, endpoint: 'https://s3.example.com', bucket: results}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	known := Validator{Catalog: func() *catalog.Catalog { return offers }}
	for source, want := range map[string][]string{
		"cos://results/in/":                           nil,
		"cos://b-1.cos.ap-guangzhou.myqcloud.com/in/": nil,
		"nfs://results-2/in/":                         nil,
		"cos://inputs/in/":                            {"InvalidParameterValue.RemoteStoragePath spec.job.tasks[0].inputMappings[0].sourcePath"},
	} {
		job := request("a")
		job.Spec.Job.Tasks[0].InputMappings = []v1alpha1.InputMapping{{SourcePath: source, DestinationPath: "/in"}}
		if diff := cmp.Diff(want, summary(known.ValidateCreate(job))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", source, diff)
		}
		if problems := (Validator{}).ValidateCreate(job); problems != nil {
			t.Errorf("%s: nobody was asked: %v", source, problems)
		}
	}
}
