// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/internal/nodes"
	"batchcompute.dev/operator/internal/podspec"
)

func TestParseOptions(t *testing.T) {
	t.Setenv("POD_NAMESPACE", "mine")
	o, err := parseOptions([]string{"--webhook-url=https://127.0.0.1:9443", "--kube-api-qps=5.5", "-v=2"})
	if err != nil {
		t.Fatal(err)
	}
	if o.webhookURL.Host != "127.0.0.1:9443" || o.qps != 5.5 || o.verbosity != 2 || o.namespace != "mine" {
		t.Errorf("options %+v", o)
	}
	if o.jobQuota != 1000 {
		t.Errorf("job quota %d, want 1000", o.jobQuota)
	}
	if o.jobBytesQuota != 64<<20 {
		t.Errorf("job quota of %d bytes, want 64Mi", o.jobBytesQuota)
	}
	if o.templateQuota != 50 {
		t.Errorf("quota %d of TaskTemplates, want 50", o.templateQuota)
	}
	if o.envQuota != 10 || o.unknownZones != zonesWait {
		t.Errorf("quota %d of ComputeEnvs, unknown zones %s, want 10 and %s", o.envQuota, o.unknownZones, zonesWait)
	}
	if !o.leaderElect || !o.metricsSecure || o.pprofAddr != "" {
		t.Errorf("not safe by default: %+v", o)
	}
}

func TestLargeJobMemory(t *testing.T) {
	for limit, want := range map[int64]int{math.MaxInt64: 128 << 20, 460 << 20: 115 << 20, 1 << 20: 16 << 20} {
		if got := largeJobMemory(limit); got != want {
			t.Errorf("of %d bytes it is %d, want %d", limit, got, want)
		}
	}
	if o, err := parseOptions([]string{"--large-job-memory=1Gi"}); err != nil || o.largeJobMemory != 1<<30 {
		t.Errorf("options %+v, error %v", o, err)
	}
}

// TestAgentImageVolumes: by default the nodes decide whether the agent's image is mounted as a volume.
func TestAgentImageVolumes(t *testing.T) {
	seen := func(versions ...string) *nodes.Index {
		x := &nodes.Index{}
		for i, v := range versions {
			x.Saw(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: strconv.Itoa(i)}, Status: corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{
				KubeletVersion: v, ContainerRuntimeVersion: "containerd://2.4.2",
			}}})
		}
		return x
	}
	unsynced := seen("v1.37.2")
	unsynced.CompleteWhen(func() bool { return false })
	for name, tc := range map[string]struct {
		args  []string
		nodes *nodes.Index
		want  bool
	}{
		"new nodes":       {nil, seen("v1.36.0", "v1.37.2"), true},
		"an older one":    {nil, seen("v1.36.0", "v1.34.2"), false},
		"none":            {nil, seen(), false},
		"not all seen":    {nil, unsynced, false},
		"switched on":     {[]string{"--agent-image-volumes=true"}, seen("v1.34.2"), true},
		"switched off":    {[]string{"--agent-image-volumes=false"}, seen("v1.37.2"), false},
		"image and nodes": {[]string{"--agent-image-volumes=auto"}, seen("v1.37.2"), true},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := parseOptions(append(tc.args, "--agent-image=example.com/agent:1", "--hold=1h"))
			if err != nil {
				t.Fatal(err)
			}
			want := podspec.Agent{Image: "example.com/agent:1", ImageVolumes: tc.want, Hold: time.Hour}
			if got := o.agent(tc.nodes)(); got != want {
				t.Errorf("agent = %+v, want %+v", got, want)
			}
		})
	}
}

func TestParseOptionsDefaultNamespace(t *testing.T) {
	t.Setenv("POD_NAMESPACE", "")
	if o, err := parseOptions(nil); err != nil || o.namespace != defaultNamespace {
		t.Errorf("options %+v, error %v", o, err)
	}
}

func TestParseOptionsErrors(t *testing.T) {
	tests := map[string]struct {
		args []string
		want string
	}{
		"unknown flag":                  {[]string{"--nonsense"}, "not defined: -nonsense"},
		"argument":                      {[]string{"run"}, `unexpected argument "run"`},
		"plain http":                    {[]string{"--webhook-url=http://127.0.0.1"}, "must be such as https://"},
		"no URL":                        {[]string{"--webhook-url=https://%zz"}, "invalid URL escape"},
		"no host":                       {[]string{"--webhook-url=https:///x"}, "must be such as https://"},
		"two sources":                   {[]string{"--webhook-url=https://127.0.0.1", "--webhook-cert-dir=/x"}, "excludes --webhook-cert-dir"},
		"negative hold":                 {[]string{"--hold=-1s"}, "--hold must be 0 to 2592000 whole seconds"},
		"hold of less than a second":    {[]string{"--hold=1500ms"}, "--hold must be 0 to 2592000 whole seconds"},
		"no agent":                      {[]string{"--agent-image="}, "--agent-image must name an image"},
		"no such image volumes":         {[]string{"--agent-image-volumes=yes"}, "--agent-image-volumes must be auto, true or false"},
		"no workers":                    {[]string{"--max-concurrent-reconciles=0"}, "must be at least 1"},
		"negative quota":                {[]string{"--job-quota=-1"}, "must not be negative"},
		"negative quota of bytes":       {[]string{"--job-bytes-quota=-1"}, "must be a number of bytes such as 64Mi"},
		"too many bytes":                {[]string{"--job-bytes-quota=2Pi"}, "from 0 to 1Pi"},
		"negative quota of templates":   {[]string{"--task-template-quota=-1"}, "--task-template-quota must not be negative"},
		"negative quota of ComputeEnvs": {[]string{"--compute-env-quota=-1"}, "--compute-env-quota must not be negative"},
		"too little memory":             {[]string{"--large-job-memory=1Mi"}, "must be at least 16Mi"},
		"zones":                         {[]string{"--unknown-zones=maybe"}, "--unknown-zones must be wait or reject"},
		"no requests":                   {[]string{"--kube-api-qps=0"}, "--kube-api-qps must be more than 0"},
		"no burst":                      {[]string{"--kube-api-burst=0"}, "--kube-api-burst at least 1"},
		"no resource wait":              {[]string{"--resource-wait=0s"}, "must be more than 0"},
		"webhook address":               {[]string{"--webhook-bind-address=9443"}, "--webhook-bind-address"},
		"webhook port":                  {[]string{"--webhook-bind-address=:https"}, "--webhook-bind-address"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := parseOptions(tc.args)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}
