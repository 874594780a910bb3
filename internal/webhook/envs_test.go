// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/validation"
)

// env is a ComputeEnv of the namespace ns.
func env(name, id string, deleting bool) *v1alpha1.ComputeEnv {
	e := &v1alpha1.ComputeEnv{}
	e.Namespace, e.Name, e.Status.EnvID = "ns", name, id
	if deleting {
		e.Finalizers = []string{v1alpha1.FinalizerInUse}
		at := metav1.NewTime(time.Unix(1_800_000_000, 0))
		e.DeletionTimestamp = &at
	}
	return e
}

// jobIn is a BatchJob of the namespace ns with a task for each envId.
func jobIn(name string, refs ...string) *v1alpha1.BatchJob {
	job := &v1alpha1.BatchJob{}
	job.Namespace, job.Name = "ns", name
	for _, ref := range refs {
		job.Spec.Job.Tasks = append(job.Spec.Job.Tasks, v1alpha1.Task{EnvID: ref})
	}
	return job
}

// clientWith holds objects as a cache with our indexes does.
func clientWith(t *testing.T, objs ...client.Object) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithIndex(&v1alpha1.BatchJob{}, jobsByEnv, indexEnvs).WithObjects(objs...).Build()
}

// counted counts the lists that it makes, and fails them when told to.
type counted struct {
	client.Reader
	lists int
	err   error
}

func (c *counted) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	c.lists++
	if c.err != nil {
		return c.err
	}
	return c.Reader.List(ctx, list, opts...)
}

func TestLookup(t *testing.T) {
	other := env("elsewhere", "env-elsewhere", false)
	other.Namespace = "other"
	envs := []client.Object{env("pool", "env-00000001", false), env("new", "", false), env("old", "env-00000003", true), env("env-00000001", "env-00000004", true), other}
	many := []string{"pool"}
	for i := range 5000 {
		many = append(many, fmt.Sprint("nope-", i))
	}
	for name, tc := range map[string]struct {
		refs      []string
		cached    []client.Object
		liveErr   error
		want      map[string]validation.EnvState
		wantLists int // of the cluster itself
		wantErr   bool
	}{
		"no envId asks nobody": {refs: []string{"", ""}, liveErr: errors.New("down")},
		"by name":              {refs: []string{"pool", "pool"}, cached: envs, want: map[string]validation.EnvState{"pool": validation.EnvFound}, liveErr: errors.New("down")},
		"by identifier":        {refs: []string{"env-00000001"}, cached: envs[:1], want: map[string]validation.EnvState{"env-00000001": validation.EnvFound}},
		"a name before an identifier": {
			refs: []string{"env-00000001", "env-00000004"}, cached: envs, wantLists: 1,
			want: map[string]validation.EnvState{"env-00000001": validation.EnvDeleting, "env-00000004": validation.EnvDeleting},
		},
		"one that the cache lacks": {refs: []string{"pool", "new"}, cached: envs[:1], wantLists: 1,
			want: map[string]validation.EnvState{"pool": validation.EnvFound, "new": validation.EnvFound}},
		"one that goes":        {refs: []string{"old"}, cached: envs, wantLists: 1, want: map[string]validation.EnvState{"old": validation.EnvDeleting}},
		"of another namespace": {refs: []string{"elsewhere", "env-elsewhere"}, cached: envs, wantLists: 1, want: map[string]validation.EnvState{"elsewhere": 0, "env-elsewhere": 0}},
		"many cost one list":   {refs: many, cached: envs, wantLists: 1, want: map[string]validation.EnvState{"pool": validation.EnvFound, "nope-4999": validation.EnvNotFound}},
		"the cluster fails":    {refs: []string{"nope"}, cached: envs, wantLists: 1, liveErr: errors.New("down"), wantErr: true},
	} {
		t.Run(name, func(t *testing.T) {
			live := &counted{Reader: clientWith(t, envs...), err: tc.liveErr}
			states, err := environments{clientWith(t, tc.cached...), live}.lookup(t.Context(), jobIn("job", tc.refs...))
			if (err != nil) != tc.wantErr || live.lists != tc.wantLists {
				t.Fatalf("error %v, %d lists, want %d", err, live.lists, tc.wantLists)
			}
			for ref, want := range tc.want {
				if got := states(ref); got != want {
					t.Errorf("%s: %v, want %v", ref, got, want)
				}
			}
		})
	}
}

func TestJobsOf(t *testing.T) {
	ended := jobIn("ended", "pool")
	ended.Status.EndTime = &metav1.Time{Time: time.Unix(1_800_000_000, 0)}
	elsewhere := jobIn("elsewhere", "pool")
	elsewhere.Namespace = "other"
	c := clientWith(t, jobIn("b", "pool", "other", "pool"), jobIn("a", "", "env-00000001"), jobIn("both", "pool", "env-00000001"), jobIn("c", "other"), ended, elsewhere)
	for _, tc := range []struct {
		env  *v1alpha1.ComputeEnv
		want []string
	}{
		{env("pool", "env-00000001", false), []string{"a", "b", "both"}},
		{env("pool", "", false), []string{"b", "both"}},
		{env("free", "env-00000002", false), nil},
	} {
		if got, err := (users{c}).jobsOf(t.Context(), tc.env); err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, %v, want %q", tc.env.Name, got, err, tc.want)
		}
	}
	failing := &counted{Reader: c, err: errors.New("no index")}
	if _, err := (users{failing}).jobsOf(t.Context(), env("pool", "", false)); err == nil {
		t.Error("no error")
	}
}
