// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package lookup

import (
	"context"
	"errors"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/naming"
)

// env returns a ComputeEnv whose status has a wrong identifier, as a user may have set it.
func env(namespace, name string) *v1alpha1.ComputeEnv {
	return &v1alpha1.ComputeEnv{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-of-" + name)},
		Status:     v1alpha1.ComputeEnvStatus{EnvID: "env-forged00"},
	}
}

func idOf(name string) string { return naming.EnvID(types.UID("uid-of-" + name)) }

func job(namespace, name, token string, refs ...string) *v1alpha1.BatchJob {
	j := &v1alpha1.BatchJob{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: v1alpha1.BatchJobSpec{ClientToken: token}}
	for _, ref := range refs {
		j.Spec.Job.Tasks = append(j.Spec.Job.Tasks, v1alpha1.Task{EnvID: ref})
	}
	return j
}

func newClient(t *testing.T, indexed bool, objects ...client.Object) client.WithWatch {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	b := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...)
	if indexed {
		for _, x := range Indexes() {
			b = b.WithIndex(x.Object, x.Field, x.Values)
		}
	}
	return b.Build()
}

func TestEnv(t *testing.T) {
	// The name of the third is the identifier of the first.
	objects := []client.Object{env("ns", "pool"), env("ns", "new"), env("ns", idOf("pool")), env("other", "elsewhere")}
	c := newClient(t, true, objects...)
	all, err := Envs(t.Context(), newClient(t, false, objects...), "ns")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ ref, want string }{
		{"pool", "pool"},
		{"new", "new"},
		{idOf("new"), "new"},
		{idOf("pool"), idOf("pool")}, // a name goes before an identifier
		{idOf(idOf("pool")), idOf("pool")},
		{"elsewhere", ""},
		{idOf("elsewhere"), ""},
		{"env-forged00", ""},
	} {
		got, err := Env(t.Context(), c, "ns", tc.ref)
		if err != nil || (got == nil) != (tc.want == "") || got != nil && got.Name != tc.want {
			t.Errorf("%s: %v, %v, want %q", tc.ref, got, err, tc.want)
		}
		if got := all[tc.ref]; (got == nil) != (tc.want == "") || got != nil && got.Name != tc.want {
			t.Errorf("%s of all: %v, want %q", tc.ref, got, tc.want)
		}
	}
}

func TestJobs(t *testing.T) {
	ended, duplicate := job("ns", "ended", "t", "pool"), job("ns", "duplicate", "t", "pool")
	ended.Status.State = v1alpha1.JobSucceed
	duplicate.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionDuplicate, Status: metav1.ConditionTrue}}
	c := newClient(t, true, ended, duplicate, job("ns", "b", "t", "pool", "other", "pool"), job("ns", "a", "", "", idOf("pool")),
		job("ns", "both", "", "pool", idOf("pool")), job("ns", "none", "u", "other"), job("elsewhere", "far", "t", "pool"))
	names := func(jobs []v1alpha1.BatchJob, err error) []string {
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for i := range jobs {
			out = append(out, jobs[i].Name)
		}
		return out
	}
	if got, want := names(UnfinishedJobs(t.Context(), c, env("ns", "pool"))), []string{"a", "b", "both"}; !slices.Equal(got, want) {
		t.Errorf("the jobs of the ComputeEnv are %q, want %q", got, want)
	}
	if got := names(UnfinishedJobs(t.Context(), c, env("ns", "free"))); got != nil {
		t.Errorf("the jobs of an unused ComputeEnv are %q", got)
	}
	if got, want := names(JobsWithToken(t.Context(), c, "ns", "t")), []string{"b", "duplicate", "ended"}; !slices.Equal(got, want) {
		t.Errorf("the jobs with the token are %q, want %q", got, want)
	}
}

func TestErrors(t *testing.T) {
	down := errors.New("down")
	fails := interceptor.NewClient(newClient(t, true), interceptor.Funcs{
		List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error { return down },
	})
	_, err1 := Env(t.Context(), fails, "ns", "pool")
	_, err2 := Envs(t.Context(), fails, "ns")
	_, err3 := JobsWithToken(t.Context(), fails, "ns", "t")
	_, err4 := UnfinishedJobs(t.Context(), fails, env("ns", "pool"))
	_, err5 := Env(t.Context(), interceptor.NewClient(newClient(t, true), interceptor.Funcs{
		Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return down
		},
	}), "ns", "pool")
	for i, err := range []error{err1, err2, err3, err4, err5} {
		if !errors.Is(err, down) {
			t.Errorf("%d: %v", i+1, err)
		}
	}
}
