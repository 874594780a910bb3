// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package actions

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/gateway/objects"
	"batchcompute.dev/operator/internal/gateway/refusal"
	"batchcompute.dev/operator/internal/gateway/stored"
	"batchcompute.dev/operator/internal/gateway/tenant"
	"batchcompute.dev/operator/internal/params"
	"batchcompute.dev/operator/internal/testutil/controlplane"
)

func TestMain(m *testing.M) { os.Exit(controlplane.Main(m)) }

// world is a namespace of a real API server, and the actions as a caller of it has them. There is no webhook: the API
// server stores what the schema allows.
type world struct {
	*controlplane.ControlPlane
	t       *testing.T
	ns      string
	backend *Backend
}

// newWorld makes a namespace in which the service account of callers has the rights of config/gateway.
func newWorld(t *testing.T) *world {
	t.Helper()
	p := controlplane.Get(t)
	w := &world{ControlPlane: p, t: t, ns: p.Namespace(t)}
	w.bind()
	c, err := cache.New(p.Config, cache.Options{
		Scheme: p.Scheme, Mapper: tenant.Mapper(), ByObject: objects.CacheOptions(),
	})
	w.must(err)
	finder, err := objects.New(t.Context(), c)
	w.must(err)
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- c.Start(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
	if !c.WaitForCacheSync(ctx) {
		t.Fatal("the cache did not start")
	}
	offers, err := catalog.Parse([]byte("apiVersion: config.batchcompute.dev/v1alpha1\nkind: Catalog\ninstanceTypes:\n  S5.MEDIUM4: {cpu: 2, memory: 4Gi, category: GENERAL_3}\n  C3.LARGE8: {cpu: 4, memory: 8Gi, category: COMPUTE_3}\n"))
	w.must(err)
	w.backend = &Backend{Objects: finder, Tenants: tenant.NewClients(p.Config, p.Scheme), Catalog: func() *catalog.Catalog { return offers }, Stored: stored.NewReader(), Now: time.Now}
	return w
}

// bind gives the service account of callers its rights.
func (w *world) bind() {
	w.t.Helper()
	text, err := os.ReadFile("../../../config/gateway/client_role.yaml")
	w.must(err)
	role := &rbacv1.ClusterRole{}
	w.must(yaml.UnmarshalStrict(text, role))
	w.must(client.IgnoreAlreadyExists(w.Create(w.t.Context(), role)))
	binding := &rbacv1.RoleBinding{
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: w.ns, Name: v1alpha1.DefaultAPIServiceAccount}},
	}
	binding.Namespace, binding.Name = w.ns, v1alpha1.DefaultAPIServiceAccount
	w.must(w.Create(w.t.Context(), binding))
	account := &corev1.ServiceAccount{}
	account.Namespace, account.Name = w.ns, v1alpha1.DefaultAPIServiceAccount
	w.must(w.Create(w.t.Context(), account))
	// RBAC follows a watch.
	c, err := tenant.NewClients(w.Config, w.Scheme).For(w.identity())
	w.must(err)
	w.eventually(func() error { return c.List(w.t.Context(), &v1alpha1.BatchJobList{}, client.InNamespace(w.ns)) })
}

func (w *world) identity() tenant.Identity {
	return tenant.Identity{Namespace: w.ns, ServiceAccount: v1alpha1.DefaultAPIServiceAccount}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// eventually repeats f until it returns nil.
func (w *world) eventually(f func() error) {
	w.t.Helper()
	end := time.Now().Add(2 * time.Minute) // no test judges speed by it
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			w.t.Fatal("not in time:", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// as does an action as an identity.
func (w *world) as(id tenant.Identity, action, body string) (any, error) {
	w.t.Helper()
	o, err := params.FromJSON(action, []byte(body))
	w.must(err)
	return w.backend.Do(w.t.Context(), id, o)
}

// do does an action that must succeed, and decodes its answer into out, nil for none.
func (w *world) do(action, body string, out any) {
	w.t.Helper()
	answer, err := w.as(w.identity(), action, body)
	if err != nil {
		w.t.Fatalf("%s %s: %v", action, body, err)
	}
	if out == nil {
		return
	}
	text, err := json.Marshal(answer)
	w.must(err)
	w.must(json.Unmarshal(text, out))
}

// refused does an action that must be refused with a code, and returns the message.
func (w *world) refused(action, body string, want errcode.Code) string {
	w.t.Helper()
	answer, err := w.as(w.identity(), action, body)
	var r *refusal.Refusal
	if !errors.As(err, &r) || r.Code != want {
		w.t.Errorf("%s %s: %v, %v, want %s", action, body, answer, err, want)
		return ""
	}
	return r.Message
}

// submit submits a job and returns its JobId.
func (w *world) submit(body string) string {
	w.t.Helper()
	var out struct{ JobID string }
	w.do("SubmitJob", body, &out)
	return out.JobID
}

// job returns the stored job with a JobId.
func (w *world) job(id string) *v1alpha1.BatchJob {
	w.t.Helper()
	c, err := w.backend.Tenants.For(w.identity())
	w.must(err)
	job, err := (&call{Backend: w.backend, client: c}).wholeJob(w.t.Context(), id)
	w.must(err)
	return job
}

// setStatus stores a status of a job, as the operator does, and waits until the gateway's cache has it.
func (w *world) setStatus(id string, status v1alpha1.BatchJobStatus) {
	w.t.Helper()
	job := w.job(id)
	job.Status = status
	w.must(w.Status().Update(w.t.Context(), job))
	w.eventually(func() error {
		found, err := w.backend.Objects.Job(w.t.Context(), w.client(), id)
		if err == nil && found.ResourceVersion != job.ResourceVersion {
			return errors.New("the cache has another version")
		}
		return err
	})
}

func (w *world) client() *tenant.Client {
	c, err := w.backend.Tenants.For(w.identity())
	w.must(err)
	return c
}

// oneTask is a request with a job of one task.
func oneTask(more string) string {
	return `{"Placement": {"Zone": "ap-guangzhou-2"}, "Job": {"JobName": "one", "Tasks": [{"TaskName": "a", "TaskInstanceNum": 3,
		"Application": {"DeliveryForm": "LOCAL", "Command": "true"}, "ComputeEnv": {"EnvData": {"InstanceType": "S5.MEDIUM4"}}}]}` + more + `}`
}

// errNotYet says that the cache is behind.
var errNotYet = errors.New("not yet")

func quoted(list ...string) string {
	return `"` + strings.Join(list, `", "`) + `"`
}
