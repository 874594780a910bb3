// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
)

// readComputeEnv reads a file of testdata/computeenvs, which is as readRequest says.
func readComputeEnv(t testing.TB, file string) (*v1alpha1.ComputeEnv, []string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(string(data)) {
		comment, ok := strings.CutPrefix(strings.TrimSpace(line), "# ")
		if !ok {
			break
		}
		if comment != "accepted" {
			want = append(want, comment)
		}
	}
	env := &v1alpha1.ComputeEnv{}
	if err := yaml.UnmarshalStrict(data, env); err != nil {
		t.Fatal(err)
	}
	return env, want
}

// Every ComputeEnv has exactly the problems that its file says, and every code that is only
// about ComputeEnvs is provoked first by one, but for those that the cluster decides.
func TestComputeEnvs(t *testing.T) {
	files, err := filepath.Glob("testdata/computeenvs/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no ComputeEnvs: %v", err)
	}
	provoked := map[errcode.Code]bool{errcode.ComputeEnvQuota: true, errcode.ResourceInUse: true}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			env, want := readComputeEnv(t, file)
			before := env.DeepCopy()
			problems := Validator{}.ValidateComputeEnvCreate(env)
			if diff := cmp.Diff(want, summary(problems)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			checkProblems(t, problems)
			if diff := cmp.Diff(before, env); diff != "" {
				t.Errorf("the ComputeEnv was changed (-before +after):\n%s", diff)
			}
			if len(problems) > 0 {
				provoked[problems[0].Code] = true
			}
			for _, p := range problems {
				t.Log(p.Error())
			}
		})
	}
	for _, e := range errcode.Table() {
		if e.Kind == "ComputeEnv" && !provoked[e.Code] {
			t.Errorf("no ComputeEnv provokes %s", e.Code)
		}
	}
}

// What the cluster knows is asked for a ComputeEnv as for a task, and has its own codes.
func TestComputeEnvInACluster(t *testing.T) {
	env, _ := readComputeEnv(t, "testdata/computeenvs/ok-smallest.yaml")
	env.Spec.EnvData = &v1alpha1.EnvData{InstanceTypes: []string{"S5.MEDIUM4", "S5.MEDUIM4"}, ImageID: "img-0a1b2c3d", Zones: []string{"z-2", "z-1"}}
	c := Validator{Zones: func() []string { return []string{"z-1"} }}.checker(createComputeEnv)
	c.offers = machines
	c.checkNamedEnv(&env.Spec, nil)
	var got []string
	for _, p := range c.result() {
		got = append(got, p.Error())
	}
	want := []string{
		`InvalidParameterValue.UnavailableZone: placement.zone: must be a zone of this cluster: no node is in zone "ap-guangzhou-2"; zones here: z-1`,
		`InvalidParameterValue.InstanceType: envData.instanceTypes[1]: must be a machine type of the operator's catalogue, got "S5.MEDUIM4"; did you mean "S5.MEDIUM4"?`,
		`InvalidParameter.CvmParameters: envData.imageId: must be in the image catalogue or be a container image, got "img-0a1b2c3d"`,
		`InvalidParameterValue.UnavailableZone: envData.zones[0]: must be a zone of this cluster: no node is in zone "z-2"; zones here: z-1`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A malformed image has the code of a malformed one, whether there is a catalogue or not; what is
// well-formed and unknown has that of a task.
func TestComputeEnvImages(t *testing.T) {
	env, _ := readComputeEnv(t, "testdata/computeenvs/ok-smallest.yaml")
	for id, want := range map[string]string{"img-": "InvalidParameter.ImageIdMalformed", "img-a_b": "InvalidParameter.ImageIdMalformed", "A B": "InvalidParameter.ImageIdMalformed", "img-0a1b2c3d": "InvalidParameter.CvmParameters"} {
		env.Spec.EnvData = &v1alpha1.EnvData{ImageID: id}
		c := Validator{}.checker(createComputeEnv)
		c.offers = machines
		c.checkNamedEnv(&env.Spec, nil)
		if got := summary(c.result()); !slices.Equal(got, []string{want + " envData.imageId"}) {
			t.Errorf("%q: %v", id, got)
		}
	}
}

// Not in testdata: which types there are depends on the catalogue.
func TestComputeEnvTooManyInstanceTypes(t *testing.T) {
	env, _ := readComputeEnv(t, "testdata/computeenvs/ok-smallest.yaml")
	env.Spec.EnvData = &v1alpha1.EnvData{}
	for i := range 11 {
		env.Spec.EnvData.InstanceTypes = append(env.Spec.EnvData.InstanceTypes, fmt.Sprint("A.", i))
	}
	want := []string{"InvalidParameterValue.ComputeEnv spec.envData.instanceTypes"}
	if got := summary(Validator{}.ValidateComputeEnvCreate(env)); !slices.Equal(got, want) {
		t.Errorf("problems %v, want %v", got, want)
	}
}

func TestComputeEnvUpdate(t *testing.T) {
	old, _ := readComputeEnv(t, "testdata/computeenvs/ok-everything.yaml")
	other, _ := readComputeEnv(t, "testdata/computeenvs/ok-smallest.yaml")
	if got := (Validator{}).ValidateComputeEnvUpdate(old, other); got != nil {
		t.Errorf("not everything may change: %v", got)
	}
	other.Spec.DesiredComputeNodeCount = ptr(int64(-1))
	if got := summary(Validator{}.ValidateComputeEnvUpdate(old, other)); !slices.Equal(got, []string{"InvalidParameterValue.Negative spec.desiredComputeNodeCount"}) {
		t.Errorf("problems %v", got)
	}
}

func TestComputeEnvWarnings(t *testing.T) {
	env, _ := readComputeEnv(t, "testdata/computeenvs/ok-everything.yaml")
	env.Spec.EnvData.InstanceName, env.Spec.EnvData.InstanceChargeType = "n", "SPOTPAID"
	env.Spec.EnvData.DataDisks = append(env.Spec.EnvData.DataDisks, v1alpha1.DataDisk{DiskSize: ptr(int64(10)), Encrypt: ptr(true)})
	for _, tc := range []struct {
		offers *fake
		want   []string
	}{
		{&fake{spot: true}, []string{
			"spec.envData.systemDisk.diskType has no effect on Kubernetes",
			"spec.envData.dataDisks[1] is not mounted, so it has no effect; add a mount to mountDataDisks",
			"spec.envData.dataDisks[1].encrypt has no effect on Kubernetes",
			"spec.envData.instanceName has no effect on Kubernetes",
			"spec.mountDataDisks[0].fileSystemType has no effect on Kubernetes",
			"spec.notificationTarget has no effect on Kubernetes; " + targetNote,
		}},
		{&fake{}, []string{
			"spec.envData.systemDisk.diskType has no effect on Kubernetes",
			"spec.envData.dataDisks[1] is not mounted, so it has no effect; add a mount to mountDataDisks",
			"spec.envData.dataDisks[1].encrypt has no effect on Kubernetes",
			"spec.envData.instanceName has no effect on Kubernetes",
			"spec.envData.instanceChargeType has no effect in this cluster: the operator's catalogue has no charge type SPOTPAID",
			"spec.mountDataDisks[0].fileSystemType has no effect on Kubernetes",
			"spec.notificationTarget has no effect on Kubernetes; " + targetNote,
		}},
	} {
		got := envWarnings(env, tc.offers)
		checkWarnings(t, got)
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	small, _ := readComputeEnv(t, "testdata/computeenvs/ok-smallest.yaml")
	if got := (Validator{}).ComputeEnvWarnings(small); got != nil {
		t.Errorf("warnings %v", got)
	}
}
