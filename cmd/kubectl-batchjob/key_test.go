// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"batchcompute.dev/operator/internal/gateway/apikey"
	"batchcompute.dev/operator/internal/testutil/controlplane"
)

func TestMain(m *testing.M) { os.Exit(controlplane.Main(m)) }

// user runs commands on keys as a user of a namespace.
type user struct {
	*testing.T
	plane      *controlplane.ControlPlane
	namespace  string
	kubeconfig string
}

// newUser returns a user of a namespace; an empty name is the administrator.
func newUser(t *testing.T, p *controlplane.ControlPlane, namespace, name string) *user {
	t.Helper()
	config, file := clientcmdapi.NewConfig(), filepath.Join(t.TempDir(), "config")
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: p.Config.Host, CertificateAuthorityData: p.Config.CAData}
	config.AuthInfos["u"] = &clientcmdapi.AuthInfo{ClientCertificateData: p.Config.CertData, ClientKeyData: p.Config.KeyData, Impersonate: name}
	config.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u", Namespace: namespace}
	config.CurrentContext = "x"
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		t.Fatal(err)
	}
	return &user{t, p, namespace, file}
}

// key runs a command on keys.
func (u *user) key(wantCode int, args string) (stdout, stderr string) {
	u.Helper()
	var out, errs bytes.Buffer
	code := run(append([]string{"key"}, append(strings.Fields(args), "--kubeconfig", u.kubeconfig)...), nil, &out, &errs)
	if code != wantCode {
		u.Fatalf("key %s: exit code %d, want %d: %s", args, code, wantCode, errs.String())
	}
	return out.String(), errs.String()
}

// prints fails unless a text matches a regular expression.
func prints(t *testing.T, got, want string) {
	t.Helper()
	if !regexp.MustCompile(want).MatchString(got) {
		t.Errorf("printed:\n%s\nwant %s", got, want)
	}
}

// stored returns the key in a Secret.
func (u *user) stored(name string) *apikey.Key {
	u.Helper()
	s := &corev1.Secret{}
	if err := u.plane.Get(u.Context(), client.ObjectKey{Namespace: u.namespace, Name: name}, s); err != nil {
		u.Fatal(err)
	}
	if !maps.Equal(s.Labels, map[string]string{"batchcompute.dev/api-key": "true"}) {
		u.Errorf("the labels are %v", s.Labels)
	}
	k, err := apikey.Parse(s)
	if err != nil {
		u.Fatal(err)
	}
	return k
}

// create creates an object.
func (u *user) create(o client.Object) {
	u.Helper()
	if err := u.plane.Create(u.Context(), o); err != nil && !apierrors.IsAlreadyExists(err) {
		u.Fatal(err)
	}
}

// bind gives a subject a role of the namespace.
func (u *user) bind(kind, role, subjectKind, subject string) {
	b := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: u.namespace, Name: subject}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: role}}
	b.Subjects = []rbacv1.Subject{{Kind: subjectKind, Name: subject}}
	if subjectKind == rbacv1.ServiceAccountKind {
		b.Subjects[0].Namespace = u.namespace
	} else {
		b.Subjects[0].APIGroup = rbacv1.GroupName
	}
	u.create(b)
}

// TestKeyLife: a key is made, shown once, listed without its secret part, disabled and deleted.
func TestKeyLife(t *testing.T) {
	p := controlplane.Get(t)
	u := newUser(t, p, p.Namespace(t), "")
	out, errs := u.key(exitOK, "create ci --expires 90d")
	k := u.stored("ci")
	if want := "secretId: " + k.SecretID + "\nsecretKey: " + k.SecretKey + "\n"; out != want {
		t.Errorf("printed %q, want %q", out, want)
	}
	if life := time.Until(k.Expiry); life < 89*24*time.Hour || life > 90*24*time.Hour || k.ServiceAccount != "batchcompute-client" || k.Namespace != u.namespace || k.Disabled || k.Token != "" {
		t.Errorf("the key is of %s, expires in %s, disabled %t", k.ServiceAccount, life, k.Disabled)
	}
	if strings.Contains(errs, k.SecretKey) {
		t.Error("the secretKey is among the explanations")
	}
	if again, _ := u.key(exitOK, "create other"); again == out {
		t.Error("two keys are the same")
	}
	_, errs = u.key(exitFailed, "create ci")
	prints(t, errs, `^error: creating the Secret of the key: secrets "ci" already exists\n$`)
	u.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: u.namespace, Name: "broken", Labels: map[string]string{"batchcompute.dev/api-key": "true"}}})
	u.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: u.namespace, Name: "plain"}})

	u.key(exitOK, "revoke ci")
	if got := u.stored("ci"); !got.Disabled || got.SecretKey != k.SecretKey {
		t.Error("the key is not disabled, or lost something")
	}
	out, _ = u.key(exitOK, "list")
	prints(t, out, `(?s)^NAME +SECRETID +SERVICE ACCOUNT +STATE +EXPIRES +AGE\n`+
		`broken +- +- +invalid: secretId must be [^\n]*\n`+
		`ci +`+k.SecretID+` +batchcompute-client +disabled +20[-0-9]+T[:0-9]+Z +\d+s\n`+
		`other +AKID\w+ +batchcompute-client +active +never +\d+s\n$`)
	if strings.Contains(out, k.SecretKey) || strings.Contains(out, u.stored("other").SecretKey) {
		t.Error("the list has a secretKey")
	}
	u.key(exitOK, "revoke --delete ci")
	_, errs = u.key(exitFailed, "revoke ci")
	prints(t, errs, `secrets "ci" not found`)
	_, errs = u.key(exitFailed, "revoke plain --delete")
	prints(t, errs, "the Secret plain is no key")
	out, errs = u.key(exitOK, "list -n default")
	if prints(t, errs, "^No keys found in namespace default.\n$"); out != "" {
		t.Errorf("printed %q", out)
	}
}

// TestKeyRights: the commands for the service account and its rights are printed while they are needed, as far as the
// user may see it.
func TestKeyRights(t *testing.T) {
	p := controlplane.Get(t)
	u := newUser(t, p, p.Namespace(t), "")
	account := "kubectl -n " + u.namespace + " create serviceaccount batchcompute-client\n"
	binding := "kubectl -n " + u.namespace + " create rolebinding batchcompute-client --clusterrole=batchcompute-gateway-client --serviceaccount=" + u.namespace + ":batchcompute-client\n"
	_, errs := u.key(exitOK, "create a")
	prints(t, errs, "(?s)does not exist.*"+account+".*may not read BatchJobs.*"+binding+"$")

	u.create(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: u.namespace, Name: "batchcompute-client"}})
	_, errs = u.key(exitOK, "create b")
	if prints(t, errs, binding); strings.Contains(errs, account) {
		t.Errorf("printed how to make what is there:\n%s", errs)
	}

	text, err := os.ReadFile("../../config/gateway/client_role.yaml")
	if err != nil {
		t.Fatal(err)
	}
	role := &rbacv1.ClusterRole{}
	if err := yaml.UnmarshalStrict(text, role); err != nil {
		t.Fatal(err)
	}
	if role.Name != clientRole || !strings.Contains(string(text), strings.ReplaceAll(binding[:len(binding)-1], u.namespace, "NAMESPACE")) {
		t.Errorf("the role %s and its comment are not what the plugin prints", role.Name)
	}
	u.create(role)
	u.bind("ClusterRole", clientRole, rbacv1.ServiceAccountKind, "batchcompute-client")
	for try := 0; ; try++ { // the API server's authorizer follows with a watch
		_, errs = u.key(exitOK, "create c")
		if strings.Count(errs, "\n") == 1 {
			break
		}
		if try == 100 {
			t.Fatalf("printed commands for what is there:\n%s", errs)
		}
		u.key(exitOK, "revoke c --delete")
		time.Sleep(100 * time.Millisecond)
	}

	u.create(&rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: u.namespace, Name: "keys"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"create"}},
	}})
	u.bind("Role", "keys", rbacv1.UserKind, "alice")
	alice := newUser(t, p, u.namespace, "alice")
	for try := 0; ; try++ {
		var out, failed bytes.Buffer
		if run([]string{"key", "create", "d", "--service-account=data", "--kubeconfig", alice.kubeconfig}, nil, &out, &failed) == exitOK {
			prints(t, failed.String(), "(?s)You may not see what the service account may do.*create rolebinding data .*The gateway may impersonate batchcompute-client only")
			break
		}
		if try == 100 {
			t.Fatal(failed.String())
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// TestKeyUsage: what is wrong on the command line is found before the cluster is asked.
func TestKeyUsage(t *testing.T) {
	for args, want := range map[string]string{
		"":                "Usage: kubectl batchjob key create NAME",
		"create":          "Usage:",
		"create a b":      "Usage:",
		"list a":          "Usage:",
		"rotate a":        "Usage:",
		"list --delet":    "flag provided but not defined: -delet",
		"revoke --delete": "Usage:",
	} {
		var stdout, stderr bytes.Buffer
		if code := run(append([]string{"key"}, strings.Fields(args)...), nil, &stdout, &stderr); code != exitUsage || !strings.Contains(stderr.String(), want) || stdout.Len() > 0 {
			t.Errorf("key %s: exit code %d: %s", args, code, stderr.String())
		}
	}
	var stdout, stderr bytes.Buffer
	if code := run([]string{"key", "-h"}, nil, &stdout, &stderr); code != exitOK {
		t.Errorf("help: exit code %d", code)
	}
}

// TestNewSecret: a key that the gateway would not accept is not made.
func TestNewSecret(t *testing.T) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	for _, tc := range []struct{ expires, account, want string }{
		{"", "a", "never"},
		{"2027-01-01T08:00:00+08:00", "a", "2027-01-01T00:00:00Z"},
		{"1d", "a", "2026-05-02T00:00:00Z"},
		{"90m", "a", "2026-05-01T01:30:00Z"},
		{"0d", "a", `--expires must be in the future, got "0d"`},
		{"-1h", "a", `--expires must be in the future, got "-1h"`},
		{"2026-04-30T00:00:00Z", "a", "must be in the future"},
		{"36501d", "a", "--expires must be a time"},
		{"2027-01-01", "a", "--expires must be a time such as 2027-01-01T00:00:00Z, or how long from now, such as 90d or 12h"},
		{"d", "a", "--expires must be a time"},
		{"", "a:b", "must be the name of a service account"},
		{"", "", "must be the name of a service account"},
	} {
		k := &keys{namespace: "ns", name: "n", account: tc.account, expires: tc.expires, now: now}
		s, err := k.newSecret()
		got := "never"
		if err != nil {
			got = err.Error()
		} else if e, ok := s.StringData[apikey.Expiry]; ok {
			got = e
		}
		if !strings.Contains(got, tc.want) {
			t.Errorf("%q, %q: %s, want %s", tc.expires, tc.account, got, tc.want)
		}
	}
}
