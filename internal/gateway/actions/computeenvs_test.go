// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package actions

import (
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/naming"
)

// TestCreateComputeEnv: keys become Secrets that the environment owns, and a repeated request continues where it stopped.
func TestCreateComputeEnv(t *testing.T) {
	w := newWorld(t)
	body := `{"Placement": {"Zone": "z"}, "ClientToken": "pool", "ComputeEnv": {"EnvName": "pool", "DesiredComputeNodeCount": 2,
		"EnvData": {"LoginSettings": {"Password": "Pa55word!"}}, "Authentications": [{"Scene": "COS", "SecretId": "i", "SecretKey": "k3y-of-store"}]}}`
	var got, again struct{ EnvID string }
	w.do("CreateComputeEnv", body, &got)
	var envs v1alpha1.ComputeEnvList
	w.must(w.List(t.Context(), &envs, client.InNamespace(w.ns)))
	if len(envs.Items) != 1 || naming.EnvID(envs.Items[0].UID) != got.EnvID {
		t.Fatalf("the environments are %+v, want %s", envs.Items, got.EnvID)
	}
	env := &envs.Items[0]
	text, err := json.Marshal(env)
	w.must(err)
	secrets := func() []corev1.Secret {
		var list corev1.SecretList
		w.must(w.List(t.Context(), &list, client.InNamespace(w.ns)))
		return list.Items
	}
	all := secrets()
	if len(all) != 2 || strings.Contains(string(text), "Pa55word") || strings.Contains(string(text), "k3y") {
		t.Fatalf("%d Secrets, want 2; the environment is %s", len(all), text)
	}
	for _, s := range all {
		if len(s.OwnerReferences) != 1 || s.OwnerReferences[0].UID != env.UID || s.Labels[v1alpha1.LabelCredentialsOf] != env.Name {
			t.Errorf("Secret %s is %+v", s.Name, s.ObjectMeta)
		}
	}
	w.must(w.Delete(t.Context(), &all[0])) // as if the gateway had died before it created it
	if w.do("CreateComputeEnv", body, &again); again != got || len(secrets()) != 2 {
		t.Errorf("the repeated request is %v, with %d Secrets", again, len(secrets()))
	}
	w.refused("CreateComputeEnv", strings.Replace(body, `"SecretId": "i"`, `"SecretId": "j"`, 1), errcode.InvalidParameterValue)
	var info struct{ Authentications []map[string]string }
	if w.do("DescribeComputeEnvCreateInfo", `{"EnvId": "`+got.EnvID+`"}`, &info); info.Authentications[0]["SecretId"] != "i" || info.Authentications[0]["SecretKey"] != "" {
		t.Errorf("it was created with %+v", info)
	}
}

// TestModifyTwice: what an environment was created with stays known.
func TestModifyTwice(t *testing.T) {
	w := newWorld(t)
	var got struct{ EnvID string }
	w.do("CreateComputeEnv", `{"Placement": {"Zone": "z"}, "ComputeEnv": {"EnvName": "first", "DesiredComputeNodeCount": 2}}`, &got)
	ofEnv := `{"EnvId": "` + got.EnvID + `"`
	w.do("ModifyComputeEnv", ofEnv+"}", nil) // nothing
	w.do("ModifyComputeEnv", ofEnv+`, "EnvName": "second"}`, nil)
	w.do("ModifyComputeEnv", ofEnv+`, "EnvDescription": "d", "DesiredComputeNodeCount": 0}`, nil)
	var env struct {
		EnvName                 string
		DesiredComputeNodeCount int
		ComputeNodeSet          []any
	}
	w.eventually(func() error {
		if w.do("DescribeComputeEnv", ofEnv+"}", &env); env.DesiredComputeNodeCount != 0 {
			return errNotYet
		}
		return nil
	})
	if env.EnvName != "second" || env.ComputeNodeSet == nil || len(env.ComputeNodeSet) != 0 {
		t.Errorf("the environment is %+v", env)
	}
	var info struct {
		EnvName                 string
		DesiredComputeNodeCount int
	}
	if w.do("DescribeComputeEnvCreateInfo", ofEnv+"}", &info); info.EnvName != "first" || info.DesiredComputeNodeCount != 2 {
		t.Errorf("it was created as %+v", info)
	}
	// A negative number gets its code though the API server refuses it before the webhook.
	if message := w.refused("ModifyComputeEnv", ofEnv+`, "DesiredComputeNodeCount": -1}`, errcode.Negative); !strings.HasPrefix(message, "DesiredComputeNodeCount: ") {
		t.Errorf("the message is %q", message)
	}
}
