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
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/lookup"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/validation"
)

// env is a ComputeEnv of the namespace ns. Its status has somebody else's identifier, which must not count.
func env(name string, deleting bool) *v1alpha1.ComputeEnv {
	e := &v1alpha1.ComputeEnv{}
	e.Namespace, e.Name, e.UID, e.Status.EnvID = "ns", name, types.UID("uid-of-"+name), "env-forged00"
	if deleting {
		e.Finalizers = []string{v1alpha1.FinalizerInUse}
		at := metav1.NewTime(time.Unix(1_800_000_000, 0))
		e.DeletionTimestamp = &at
	}
	return e
}

// idOf is the identifier of the ComputeEnv that env makes.
func idOf(name string) string { return naming.EnvID(types.UID("uid-of-" + name)) }

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
	b := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objs...)
	for _, x := range lookup.Indexes() {
		b = b.WithIndex(x.Object, x.Field, x.Values)
	}
	return b.Build()
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

func TestFindEnvs(t *testing.T) {
	other := env("elsewhere", false)
	other.Namespace = "other"
	envs := []client.Object{env("pool", false), env("new", false), env("old", true), env(idOf("pool"), true), other}
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
		"by identifier":        {refs: []string{idOf("pool")}, cached: envs[:1], want: map[string]validation.EnvState{idOf("pool"): validation.EnvFound}},
		"a name before an identifier": {
			refs: []string{idOf("pool"), idOf(idOf("pool"))}, cached: envs, wantLists: 1,
			want: map[string]validation.EnvState{idOf("pool"): validation.EnvDeleting, idOf(idOf("pool")): validation.EnvDeleting},
		},
		"status.envId is not trusted": {refs: []string{"env-forged00"}, cached: envs, wantLists: 1, want: map[string]validation.EnvState{"env-forged00": validation.EnvNotFound}},
		"one that the cache lacks": {refs: []string{"pool", "new"}, cached: envs[:1], wantLists: 1,
			want: map[string]validation.EnvState{"pool": validation.EnvFound, "new": validation.EnvFound}},
		"one that goes":        {refs: []string{"old"}, cached: envs, wantLists: 1, want: map[string]validation.EnvState{"old": validation.EnvDeleting}},
		"of another namespace": {refs: []string{"elsewhere", idOf("elsewhere")}, cached: envs, wantLists: 1, want: map[string]validation.EnvState{"elsewhere": 0, idOf("elsewhere"): 0}},
		"many cost one list":   {refs: many, cached: envs, wantLists: 1, want: map[string]validation.EnvState{"pool": validation.EnvFound, "nope-4999": validation.EnvNotFound}},
		"the cluster fails":    {refs: []string{"nope"}, cached: envs, wantLists: 1, liveErr: errors.New("down"), wantErr: true},
	} {
		t.Run(name, func(t *testing.T) {
			live := &counted{Reader: clientWith(t, envs...), err: tc.liveErr}
			states, err := environments{clientWith(t, tc.cached...), live}.find(t.Context(), jobIn("job", tc.refs...))
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
	ended.Status.State = v1alpha1.JobSucceed
	elsewhere := jobIn("elsewhere", "pool")
	elsewhere.Namespace = "other"
	c := clientWith(t, jobIn("b", "pool", "other", "pool"), jobIn("a", "", idOf("pool")), jobIn("both", "pool", idOf("pool")), jobIn("c", "other"), ended, elsewhere)
	for _, tc := range []struct {
		env  *v1alpha1.ComputeEnv
		want []string
	}{
		{env("pool", false), []string{"a", "b", "both"}},
		{env("free", false), nil},
	} {
		if got, err := (users{c}).jobsOf(t.Context(), tc.env); err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, %v, want %q", tc.env.Name, got, err, tc.want)
		}
	}
	failing := &counted{Reader: c, err: errors.New("no index")}
	if _, err := (users{failing}).jobsOf(t.Context(), env("pool", false)); err == nil {
		t.Error("no error")
	}
}
