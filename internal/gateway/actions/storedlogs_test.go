// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package actions

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-logr/logr/funcr"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/params"
	"batchcompute.dev/operator/internal/testutil/s3test"
)

// storedWorld is a world with a job whose Pods are gone, and the stores of its streams.
type storedWorld struct {
	*world
	store *s3test.Memory // of the streams
	id    string
	log   *strings.Builder
}

// storedLog is one item of the answer.
type storedLog struct {
	TaskInstanceIndex    int
	StdoutLog, StderrLog *string
}

// newStoredWorld makes a job with the instances 0 to 2, of which the first two have ended. plan says what the store does
// with a request.
func newStoredWorld(t *testing.T, authentications string, plan func(n int, r *http.Request) s3test.Fault) *storedWorld {
	t.Helper()
	w := &storedWorld{world: newWorld(t), store: s3test.NewMemory("b-1"), log: &strings.Builder{}}
	w.store.SetKeys("store-id", "")
	endpoint := s3test.Serve(t, &s3test.Faults{Next: w.store, Plan: plan})
	offers, err := catalog.Parse([]byte("apiVersion: config.batchcompute.dev/v1alpha1\nkind: Catalog\nstores:\n" +
		"- {match: '*.cos.ap-x.myqcloud.com', endpoint: '" + endpoint + "', style: path, prefix: moved/, secretName: store-keys}\n" +
		"- {match: '*.open.example.com', endpoint: '" + endpoint + "', style: path, bucket: b-1}\n" +
		"- {match: '*.wide.*', secretName: store-keys}\n"))
	w.must(err)
	w.backend.Catalog = func() *catalog.Catalog { return offers }
	secret := &corev1.Secret{StringData: map[string]string{"secretId": "store-id", "secretKey": "planted-secret\n"}}
	secret.Namespace, secret.Name = w.ns, "store-keys"
	w.must(w.Create(t.Context(), secret))
	w.id = w.submitTo("b-1.cos.ap-x.myqcloud.com", authentications)
	return w
}

// submitTo submits the job with its streams at a host.
func (w *storedWorld) submitTo(host, authentications string) string {
	w.t.Helper()
	id := w.submit(strings.Replace(oneTask(""), `"TaskName": "a"`, `"TaskName": "a", "RedirectInfo": {"StdoutRedirectPath": "cos://`+host+`/out/",
		"StderrRedirectPath": "cos://`+host+`/err/", "StderrRedirectFileName": "e-${BATCH_TASK_INSTANCE_INDEX}"}`+authentications, 1))
	w.setStatus(id, v1alpha1.BatchJobStatus{State: v1alpha1.JobRunning, Tasks: []v1alpha1.TaskStatus{{Name: "a", State: v1alpha1.TaskRunning, Succeeded: "0", Failed: "1"}}})
	return id
}

// allow lets callers read one Secret, as docs/gateway.md says.
func (w *storedWorld) allow(name string) {
	w.t.Helper()
	role := &rbacv1.Role{Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{name}, Verbs: []string{"get"}}}}
	role.Namespace, role.Name = w.ns, name
	w.must(w.Create(w.t.Context(), role))
	binding := &rbacv1.RoleBinding{
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: w.ns, Name: v1alpha1.DefaultAPIServiceAccount}},
	}
	binding.Namespace, binding.Name = w.ns, name
	w.must(w.Create(w.t.Context(), binding))
	w.eventually(func() error { // RBAC follows a watch
		return w.client().Get(w.t.Context(), client.ObjectKey{Namespace: w.ns, Name: name}, &corev1.Secret{})
	})
}

// logs returns the logs of a job, which are those of all instances.
func (w *storedWorld) logs(id string) []storedLog {
	w.t.Helper()
	var mu sync.Mutex
	logger := funcr.New(func(_, args string) {
		mu.Lock()
		defer mu.Unlock()
		w.log.WriteString(args + "\n")
	}, funcr.Options{Verbosity: 1})
	o, err := params.FromJSON("DescribeTaskLogs", []byte(`{"JobId": "`+id+`", "TaskName": "a"}`))
	w.must(err)
	answer, err := w.backend.Do(log.IntoContext(w.t.Context(), logger), w.identity(), o)
	w.must(err)
	var out []storedLog
	for _, l := range answer.(taskLogs).TaskInstanceLogSet {
		out = append(out, storedLog{int(l.TaskInstanceIndex), l.StdoutLog, l.StderrLog})
	}
	if len(out) != 3 {
		w.t.Fatalf("there are %d logs, want those of 3 instances", len(out))
	}
	if strings.Contains(w.log.String(), "planted") {
		w.t.Errorf("the log has a secret: %s", w.log)
	}
	return out
}

// check checks what is known of the streams of the first instances; "" stands for null.
func (w *storedWorld) check(logs []storedLog, want ...[2]string) {
	w.t.Helper()
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		decoded, err := base64.StdEncoding.DecodeString(*s)
		w.must(err)
		return string(decoded)
	}
	for i, l := range logs {
		var expected [2]string
		if i < len(want) {
			expected = want[i]
		}
		if got := [2]string{text(l.StdoutLog), text(l.StderrLog)}; got != expected {
			w.t.Errorf("instance %d has %.40q, want %.40q\n%s", i, got, expected, w.log)
		}
	}
}

// TestStoredLogs: logs of instances whose Pods are gone are the ends of the objects, if the caller may read the key.
func TestStoredLogs(t *testing.T) {
	w := newStoredWorld(t, "", nil)
	long := strings.Repeat("0123456789\n", 1000)
	w.store.Set("moved/out/stdout."+w.id+".a.0.log", []byte(long), nil)
	w.store.Set("moved/err/e-0", []byte("error"), nil)
	w.store.Set("moved/err/e-1", []byte("failed"), nil)
	w.store.Set("moved/err/e-2", []byte("of another job"), nil) // instance 2 was not issued
	w.check(w.logs(w.id))
	if w.store.Count(http.MethodGet) != 0 || !strings.Contains(w.log.String(), "forbidden") {
		t.Errorf("without the right the store was asked, or the log does not say why: %s", w.log)
	}
	w.allow("store-keys")
	w.check(w.logs(w.id), [2]string{long[len(long)-2048:], "error"}, [2]string{"", "failed"})
	if !strings.Contains(w.log.String(), "does not exist") {
		t.Errorf("the log has no missing object: %s", w.log)
	}
	t.Run("no Secret", func(t *testing.T) {
		before := w.store.Count(http.MethodGet)
		w.check(w.logs(w.submitTo("b-1.open.example.com", "")))
		if w.store.Count(http.MethodGet) != before {
			t.Error("the store was asked without a key")
		}
	})
	t.Run("host of the request", func(t *testing.T) {
		for _, host := range []string{"b-1.s3.example.com", "b-1.wide.example.com"} {
			w.log.Reset()
			w.check(w.logs(w.submitTo(host, "")))
			if n := strings.Count(w.log.String(), "names the endpoint"); n != 4 {
				t.Errorf("%s: the log is %s", host, w.log)
			}
		}
	})
}

// TestStoredLogsOfStores: a store that does not serve makes streams null, and neither an error nor other streams.
func TestStoredLogsOfStores(t *testing.T) {
	var fault atomic.Pointer[s3test.Fault]
	var asked atomic.Int32
	w := newStoredWorld(t, "", func(_ int, r *http.Request) s3test.Fault {
		asked.Add(1)
		if f := fault.Load(); f != nil && strings.HasSuffix(r.URL.Path, "/e-0") {
			return *f
		}
		return s3test.Fault{}
	})
	w.allow("store-keys")
	w.store.Set("moved/out/stdout."+w.id+".a.0.log", []byte("output"), nil)
	w.store.Set("moved/err/e-0", bytes.Repeat([]byte("planted"), 1000), nil)
	w.store.Set("moved/err/e-1", []byte("failed"), nil)
	for name, f := range map[string]s3test.Fault{
		"slow": {Hang: true, After: -1}, "stops": {Hang: true, After: 10}, "breaks off": {Reset: true, After: 10},
		"redirects": {Status: http.StatusFound}, "refuses": {Status: http.StatusForbidden, Code: "planted"}, "fails": {Status: http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			fault.Store(&f)
			asked.Store(0)
			w.check(w.logs(w.id), [2]string{"output", ""}, [2]string{"", "failed"})
			if n := asked.Load(); n != 4 {
				t.Errorf("%d requests for 4 objects", n)
			}
		})
	}
}

// TestStoredLogsKey: a key that the job names comes before that of the catalogue, and its Secret is the one to be allowed.
func TestStoredLogsKey(t *testing.T) {
	w := newStoredWorld(t, `, "Authentications": [{"Scene": "COS", "SecretId": "store-id", "SecretKey": "planted-of-job"}]`, nil)
	w.store.Set("moved/err/e-0", []byte("error"), nil)
	w.allow("store-keys")
	w.check(w.logs(w.id))
	var list corev1.SecretList
	w.must(w.List(t.Context(), &list, client.InNamespace(w.ns)))
	var own string
	for i := range list.Items {
		if string(list.Items[i].Data["secretKey"]) == "planted-of-job" {
			own = list.Items[i].Name
		}
	}
	if own == "" {
		t.Fatal("the job has no Secret with its key")
	}
	w.allow(own)
	w.check(w.logs(w.id), [2]string{"", "error"})
	if !strings.Contains(w.log.String(), own) {
		t.Errorf("the log does not name the Secret %s: %s", own, w.log)
	}
}
