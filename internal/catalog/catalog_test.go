// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

const head = "apiVersion: config.batchcompute.dev/v1alpha1\nkind: Catalog\n"

// parse parses a file that is in order, less its head.
func parse(t testing.TB, body string) *Catalog {
	t.Helper()
	c, err := Parse([]byte(head + body))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestParse(t *testing.T) {
	c := parse(t, `
defaultImage: debian:13
images:
  img-bd78fy2t: python:3.13-slim
  img-0: host.example:5000/a/b@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
`)
	if c.DefaultImage != "debian:13" {
		t.Errorf("DefaultImage = %q", c.DefaultImage)
	}
	if ref, ok := c.Image("img-bd78fy2t"); ref != "python:3.13-slim" || !ok {
		t.Errorf("Image(img-bd78fy2t) = %q, %v", ref, ok)
	}
	if ref, ok := c.Image("python:3.13-slim"); ref != "" || ok {
		t.Errorf("Image answers for what is no identifier: %q, %v", ref, ok)
	}
}

// A file whose sections are all empty, as when their entries are commented out, says as
// little as none.
func TestParseEmptySections(t *testing.T) {
	empty := parse(t, "defaultImage:\nimages:\ninstanceTypes:\ndiskTypes:\nchargeTypes:\npriorityClasses:\nregistryMirrors:\n")
	for name, c := range map[string]*Catalog{"empty": empty, "head only": parse(t, ""), "default": Default()} {
		if c.DefaultImage != DefaultImage {
			t.Errorf("%s: DefaultImage = %q, want %q", name, c.DefaultImage, DefaultImage)
		}
		if _, ok := c.Image("img-bd78fy2t"); ok {
			t.Errorf("%s: it has an image", name)
		}
		if c.InstanceType("S5.MEDIUM4") != nil || c.Smallest(0, 0, nil) != nil {
			t.Errorf("%s: it has a machine type", name)
		}
		if _, ok := c.ChargeType("SPOTPAID"); ok || c.StorageClass("CLOUD_SSD") != "" || c.PriorityClass(0) != "" {
			t.Errorf("%s: it has a charge type, a storage class or a priority class", name)
		}
		if got := c.Mirror("busybox:1.37"); got != "busybox:1.37" {
			t.Errorf("%s: Mirror = %q", name, got)
		}
	}
}

func TestMachines(t *testing.T) {
	c := parse(t, `
instanceTypes:
  S5.MEDIUM4: {cpu: 2, memory: 4Gi, category: GENERAL_3}
  GN7.2XLARGE32:
    cpu: "8"
    memory: 32Gi
    resources: {nvidia.com/gpu: 1, example.com/memory: 16Gi}
    nodeLabels: {example.com/gpu: t4, plain: ""}
  half: {cpu: 500m, memory: 1.5Gi}
diskTypes:
  CLOUD_SSD: {storageClassName: fast}
chargeTypes:
  POSTPAID_BY_HOUR:
  SPOTPAID:
    nodeLabels: {spot: "true"}
    tolerations:
    - {key: spot, operator: Exists, effect: NoSchedule}
    - {operator: Exists}
    - {key: example.com/spot, value: a, effect: NoExecute, tolerationSeconds: 30}
`)
	want := &InstanceType{
		Name: "GN7.2XLARGE32",
		Resources: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("32Gi"),
			"nvidia.com/gpu": resource.MustParse("1"), "example.com/memory": resource.MustParse("16Gi"),
		},
		NodeLabels: map[string]string{"example.com/gpu": "t4", "plain": ""},
	}
	if diff := cmp.Diff(want, c.InstanceType("GN7.2XLARGE32")); diff != "" {
		t.Errorf("GN7.2XLARGE32 (-want +got):\n%s", diff)
	}
	if it := c.InstanceType("S5.MEDIUM4"); it.Category != "GENERAL_3" || it.NodeLabels != nil || len(it.Resources) != 2 {
		t.Errorf("S5.MEDIUM4 = %+v", it)
	}
	if c.InstanceType("S5.LARGE8") != nil {
		t.Error("a type that is not listed")
	}
	if got := c.StorageClass("CLOUD_SSD"); got != "fast" {
		t.Errorf("StorageClass = %q", got)
	}
	if got, ok := c.ChargeType("POSTPAID_BY_HOUR"); !ok || cmp.Diff(ChargeType{}, got) != "" {
		t.Errorf("POSTPAID_BY_HOUR = %+v, %v", got, ok)
	}
	wantCharge := ChargeType{
		NodeLabels: map[string]string{"spot": "true"},
		Tolerations: []corev1.Toleration{
			{Key: "spot", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
			{Operator: corev1.TolerationOpExists},
			{Key: "example.com/spot", Value: "a", Effect: corev1.TaintEffectNoExecute, TolerationSeconds: new(int64(30))},
		},
	}
	if got, ok := c.ChargeType("SPOTPAID"); !ok || cmp.Diff(wantCharge, got) != "" {
		t.Errorf("SPOTPAID (-want +got):\n%s", cmp.Diff(wantCharge, got))
	}
}

func TestSmallest(t *testing.T) {
	c := parse(t, `
instanceTypes:
  b: {cpu: 2, memory: 4Gi, category: GENERAL}
  a: {cpu: 2, memory: 4Gi, category: GENERAL_2}
  c: {cpu: 2, memory: 2Gi, category: COMPUTE}
  d: {cpu: 4, memory: 4Gi, category: GENERAL}
  e: {cpu: 1, memory: 64Gi}
  f: {cpu: 1500m, memory: 8Gi, category: COMPUTE_3}
  g: {cpu: 1, memory: 1Gi, category: GENERAL_3, resources: {nvidia.com/gpu: 1}}
`)
	for name, tc := range map[string]struct {
		cpu, memory int64
		categories  []string
		want        string
	}{
		"least cpu":                  {1, 1, nil, "e"},
		"least memory":               {2, 1, nil, "c"},
		"first by name":              {2, 3, nil, "a"},
		"fraction of a core":         {1, 1, []string{"COMPUTE_3"}, "f"},
		"memory wants more cpu":      {2, 16, nil, ""},
		"memory is large enough":     {1, 64, nil, "e"},
		"category":                   {1, 1, []string{"GENERAL"}, "b"},
		"two categories":             {1, 1, []string{"GENERAL", "GENERAL_2"}, "a"},
		"all":                        {1, 1, []string{"COMPUTE", "ALL"}, "e"},
		"not for its GPU":            {1, 1, []string{"GENERAL_3"}, ""},
		"unknown category":           {1, 1, []string{"GPU"}, ""},
		"too large":                  {5, 1, nil, ""},
		"nothing is asked for":       {0, 0, nil, "e"},
		"negative":                   {-1, -1, nil, "e"},
		"more than any machine has":  {1 << 62, 1, nil, ""},
		"more memory than there is":  {1, 1 << 62, nil, ""},
		"without category not found": {1, 20, []string{"GENERAL", "GENERAL_2", "GENERAL_3", "COMPUTE", "COMPUTE_2", "COMPUTE_3"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if it := c.Smallest(tc.cpu, tc.memory, tc.categories); it != nil {
				got = it.Name
			}
			if got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

func TestPriorityClass(t *testing.T) {
	c := parse(t, "priorityClasses:\n- {from: 0, to: 49, priorityClassName: low}\n- {from: 90, to: 100, priorityClassName: high}\n")
	for priority, want := range map[int]string{-1: "", 0: "low", 49: "low", 50: "", 89: "", 90: "high", 100: "high", 101: ""} {
		if got := c.PriorityClass(priority); got != want {
			t.Errorf("PriorityClass(%d) = %q, want %q", priority, got, want)
		}
	}
}

func TestMirror(t *testing.T) {
	c := parse(t, `
registryMirrors:
  docker.io: mirror.example/dockerhub
  quay.io: mirror.example:5000
  localhost: localhost:5000/a/b-c
`)
	for image, want := range map[string]string{
		"busybox:1.37":                 "mirror.example/dockerhub/library/busybox:1.37",
		"busybox@sha256:0":             "mirror.example/dockerhub/library/busybox@sha256:0",
		"org/app:1":                    "mirror.example/dockerhub/org/app:1",
		"library/busybox":              "mirror.example/dockerhub/library/busybox",
		"docker.io/org/app":            "mirror.example/dockerhub/org/app",
		"docker.io/busybox":            "mirror.example/dockerhub/library/busybox",
		"index.docker.io/org/app":      "mirror.example/dockerhub/org/app",
		"quay.io/org/app:1@sha256:0":   "mirror.example:5000/org/app:1@sha256:0",
		"localhost/app":                "localhost:5000/a/b-c/app",
		"localhost:5000/app":           "localhost:5000/app",
		"registry.example/busybox":     "registry.example/busybox",
		"mirror.example/dockerhub/x:1": "mirror.example/dockerhub/x:1",
		"":                             "",
		"docker.io/":                   "docker.io/",
	} {
		if got := c.Mirror(image); got != want {
			t.Errorf("Mirror(%q) = %q, want %q", image, got, want)
		}
	}
	if got := parse(t, "registryMirrors: {quay.io: mirror.example}").Mirror("busybox"); got != "busybox" {
		t.Errorf("without a mirror of docker.io: %q", got)
	}
}

func TestParseErrors(t *testing.T) {
	many := strings.Repeat("x", 200)
	tests := map[string]struct {
		in   string
		want []string // the error's lines
	}{
		"empty": {"", []string{`line 1: apiVersion: must be config.batchcompute.dev/v1alpha1, got ""`, `line 1: kind: must be Catalog, got ""`}},
		"other version": {"apiVersion: v1\nkind: Catalog\n",
			[]string{`line 1: apiVersion: must be config.batchcompute.dev/v1alpha1, got "v1"`}},
		"other kind":   {"apiVersion: " + APIVersion + "\nkind: ConfigMap\n", []string{`line 2: kind: must be Catalog, got "ConfigMap"`}},
		"no mapping":   {"- a\n", []string{"line 1: must be a mapping, got a list", "line 1: apiVersion: ", "line 1: kind: "}},
		"unknown":      {head + "imges: {}\n", []string{"line 3: imges: unknown field; must be one of apiVersion, kind, defaultImage, "}},
		"twice":        {head + "images: {a: b}\nimages: {c: d}\n", []string{"line 4: images: given twice, first on line 3"}},
		"name twice":   {head + "images:\n  a: b\n  a: c\n", []string{"line 5: images.a: given twice, first on line 4"}},
		"wrong type":   {head + "images: [a]\n", []string{"line 3: images: must be a mapping, got a list"}},
		"no list":      {head + "priorityClasses: {}\n", []string{"line 3: priorityClasses: must be a list, got a mapping"}},
		"alias":        {head + "images: &a {a: b}\ninstanceTypes: *a\n", []string{"line 4: instanceTypes: must be a mapping, got an alias"}},
		"alias number": {head + "images: {a: &1 b}\ninstanceTypes: {a: {cpu: *1, memory: 1Gi}}\n", []string{"line 4: instanceTypes.a.cpu: must be a number of cores"}},
		"merge":        {head + "images:\n  a: b\n  <<: {c: d}\n", []string{`line 5: images."<<": an identifier must be`, `line 5: images."<<": must be text, got a mapping`}},
		"key no text":  {head + "images:\n  ? [a]\n  : b\n", []string{"line 4: images: a key must be text, got a list"}},
		"number":       {head + "images: {a: 1}\n", []string{"line 3: images.a: must be text, got 1; write it in quotes"}},
		"two documents": {head + "---\n" + head,
			[]string{"line 3: must be a single YAML document"}},
		"second is broken": {head + "---\na: {\n", []string{"line 4: "}},
		"no YAML":          {head + "images: {", []string{"line 3: "}},
		"first line":       {"a: b: c\n", []string{"line 1: mapping values are not allowed"}},
		"unknown anchor":   {head + "images: *nowhere\n", []string{"line 3: unknown anchor 'nowhere'"}},
		"no UTF-8":         {head + "# \xff\n", []string{"line 3: must be UTF-8"}},
		"control":          {head + "\n# \x00\n", []string{"line 4: must be UTF-8"}},
		"too long":         {head + strings.Repeat("#\n", MaxSize/2), []string{"line 524261: the file must be at most 1048576 bytes, got "}},
		"default":          {head + "defaultImage: 'busybox 1.37'\n", []string{`line 3: defaultImage: must be a container image such as busybox:1.37, got "busybox 1.37"`}},
		"empty image":      {head + "images: {img-1: ''}\n", []string{`line 3: images.img-1: must be a container image such as busybox:1.37, got ""`}},
		"identifier":       {head + "images: {'a b': c}\n", []string{`line 3: images."a b": an identifier must be letters, digits, '.', '_' and '-', got "a b"`}},
		"long text":        {head + "defaultImage: ' " + many + "'\n", []string{`line 3: defaultImage: must be a container image such as busybox:1.37, got " xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…"`}},
		"in order of lines": {head + "images:\n  img-2: ' '\n  img-1: ' '\ndefaultImage: ' '\n",
			[]string{"line 4: images.img-2: ", "line 5: images.img-1: ", "line 6: defaultImage: "}},
		"type's name": {head + "instanceTypes: {'a b': {cpu: 1, memory: 1Gi}}\n", []string{`line 3: instanceTypes."a b": a name must be at most 63`}},
		"no type":     {head + "instanceTypes:\n  a:\n", []string{"line 4: instanceTypes.a.cpu: must be a number of cores such as 4 or 500m, more than 0 and at most 100000, got nothing", "line 4: instanceTypes.a.memory: must be such as 4Gi, from 1Mi to 1Pi, got nothing"}},
		"unknown of a type": {head + "instanceTypes:\n  a:\n    cpu: 1\n    memory: 1Gi\n    gpu: 1\n",
			[]string{"line 7: instanceTypes.a.gpu: unknown field; must be one of cpu, memory, category, resources, nodeLabels"}},
		"disk type":      {head + "diskTypes: {FLOPPY: {storageClassName: a}}\n", []string{"line 3: diskTypes.FLOPPY: unknown field; must be one of LOCAL_BASIC, "}},
		"disk field":     {head + "diskTypes: {CLOUD_SSD: {storageClass: a}}\n", []string{"line 3: diskTypes.CLOUD_SSD.storageClass: unknown field", `line 3: diskTypes.CLOUD_SSD.storageClassName: must be the name of an object: lower case letters, digits, '-' and '.', got ""`}},
		"storage class":  {head + "diskTypes: {CLOUD_SSD: {storageClassName: Fast}}\n", []string{`line 3: diskTypes.CLOUD_SSD.storageClassName: must be the name of an object: lower case letters, digits, '-' and '.', got "Fast"`}},
		"charge type":    {head + "chargeTypes: {PREPAID: {}}\n", []string{"line 3: chargeTypes.PREPAID: unknown field; must be one of POSTPAID_BY_HOUR, SPOTPAID"}},
		"charge field":   {head + "chargeTypes: {SPOTPAID: {taints: []}}\n", []string{"line 3: chargeTypes.SPOTPAID.taints: unknown field; must be one of nodeLabels, tolerations"}},
		"mirror's host":  {head + "registryMirrors: {dockerhub: m.example}\n", []string{`line 3: registryMirrors.dockerhub: must be the host of a registry such as docker.io or registry.example:5000, got "dockerhub"`}},
		"mirror's alias": {head + "registryMirrors: {index.docker.io: m.example}\n", []string{"line 3: registryMirrors.index.docker.io: must be the host of a registry"}},
	}
	for _, bad := range []string{"https://m.example", "m", "m.example/", "m.example/A", "m.example/a//b", "m.example/a:1", "''"} {
		tests["mirror "+bad] = struct {
			in   string
			want []string
		}{head + "registryMirrors: {docker.io: '" + strings.Trim(bad, "'") + "'}\n", []string{"line 3: registryMirrors.docker.io: must be a host and a path such as mirror.example/dockerhub, got "}}
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) { wantErrors(t, tc.in, tc.want) })
	}
}

// wantErrors compares the beginnings of the error's lines.
func wantErrors(t *testing.T, in string, want []string) {
	t.Helper()
	_, err := Parse([]byte(in))
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d: %v", len(lines), len(want), err)
	}
	for i := range want {
		if !strings.HasPrefix(lines[i], want[i]) {
			t.Errorf("line %q, want it to begin with %q", lines[i], want[i])
		}
	}
}

// One value of a machine type at a time.
func TestParseInstanceTypeErrors(t *testing.T) {
	const cores, memory = "cpu: must be a number of cores", "memory: must be such as 4Gi, from 1Mi to 1Pi, got "
	for in, want := range map[string]string{
		"cpu: 0, memory: 1Gi":                                       cores,
		"cpu: -1, memory: 1Gi":                                      cores,
		"cpu: 1e9, memory: 1Gi":                                     cores,
		"cpu: 100001, memory: 1Gi":                                  cores,
		"cpu: 0.0001, memory: 1Gi":                                  cores,
		"cpu: four, memory: 1Gi":                                    cores,
		"cpu: [1], memory: 1Gi":                                     cores,
		"cpu: null, memory: 1Gi":                                    cores,
		"cpu: 999999999999999P, memory: 1Gi":                        cores,
		"cpu: 1, memory: 4":                                         memory + "4",
		"cpu: 1, memory: 1048575":                                   memory + "1048575",
		"cpu: 1, memory: 4GB":                                       memory + `"4GB"`,
		"cpu: 1, memory: 2Pi":                                       memory,
		"cpu: 1, memory: 1048576.5":                                 memory,
		"cpu: 1":                                                    memory + "nothing",
		"cpu: 1, memory: 1Gi, category: GPU":                        `category: must be one of GENERAL, GENERAL_2, GENERAL_3, COMPUTE, COMPUTE_2, COMPUTE_3, got "GPU"`,
		"cpu: 1, memory: 1Gi, category: ALL":                        "category: must be one of",
		"cpu: 1, memory: 1Gi, resources: {gpu: 1}":                  "resources.gpu: must be an extended resource such as nvidia.com/gpu",
		"cpu: 1, memory: 1Gi, resources: {memory: 1Gi}":             "resources.memory: must be an extended resource",
		"cpu: 1, memory: 1Gi, resources: {a.io/b/c: 1}":             "resources.a.io/b/c: must be an extended resource",
		"cpu: 1, memory: 1Gi, resources: {x.com/g: 0}":              "resources.x.com/g: must be a whole number above 0, got 0",
		"cpu: 1, memory: 1Gi, resources: {x.com/g: .5}":             "resources.x.com/g: must be a whole number above 0, got .5",
		"cpu: 1, memory: 1Gi, resources: {x.com/g: 0.5}":            "resources.x.com/g: must be a whole number above 0, got 0.5",
		"cpu: 1, memory: 1Gi, nodeLabels: {a/b/c: d}":               "nodeLabels.a/b/c: a label's key: ",
		"cpu: 1, memory: 1Gi, nodeLabels: {a: 'b c'}":               "nodeLabels.a: a valid label must be",
		"cpu: 1, memory: 1Gi, nodeLabels: {a: true}":                "nodeLabels.a: must be text, got true; write it in quotes",
		"cpu: 1, memory: 1Gi, resources: {node.kubernetes.io/g: 1}": "resources.node.kubernetes.io/g: must be an extended resource",
		"cpu: 1, memory: 1Gi, resources: {requests.x.com/g: 1}":     "resources.requests.x.com/g: must be an extended resource",
	} {
		t.Run(in, func(t *testing.T) {
			wantErrors(t, head+"instanceTypes:\n\n  t: {"+in+"}\n", []string{"line 5: instanceTypes.t." + want})
		})
	}
}

func TestParsePolicy(t *testing.T) {
	for in, want := range map[string]Policy{
		"":             {},
		"policy:\n":    {},
		"policy: {}\n": {},
		"policy: {priorityClassNames: [], allowRoot: true, allowHosts: true}\n": {PriorityClassNames: Allowed{}},
		"policy: {priorityClassNames: [a, b], serviceAccountNames: [c], runtimeClassNames: [d], schedulerNames: [e],\n" +
			"  tolerationKeys: [x.com/f], nodeSelectorKeys: [g], allowRoot: false, allowHosts: false,\n" +
			"  volumeTypes: [image, emptyDir], csiDrivers: [h.example.com], secretNames: [i], allowServiceAccountTokens: false}\n": {
			PriorityClassNames: Allowed{"a", "b"}, ServiceAccountNames: Allowed{"c"}, RuntimeClassNames: Allowed{"d"}, SchedulerNames: Allowed{"e"},
			TolerationKeys: Allowed{"x.com/f"}, NodeSelectorKeys: Allowed{"g"},
			VolumeTypes: Allowed{"image", "emptyDir"}, CSIDrivers: Allowed{"h.example.com"}, SecretNames: Allowed{"i"},
			ForbidRoot: true, ForbidHosts: true, ForbidTokens: true,
		},
	} {
		c, err := Parse([]byte(head + in))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, *c.Policy()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", in, diff)
		}
	}
	for in, want := range map[string][]string{
		"[]":                        {"line 3: policy: must be a mapping, got a list"},
		"{priorities: []}":          {"line 3: policy.priorities: unknown field; must be one of priorityClassNames, serviceAccountNames, "},
		"{tolerationKeys: }":        {"line 3: policy.tolerationKeys: must be a list, got nothing; [] allows none, and without the field all are allowed"},
		"{tolerationKeys: a}":       {`line 3: policy.tolerationKeys: must be a list, got "a"`},
		"{tolerationKeys: [a/b/c]}": {`line 3: policy.tolerationKeys[0]: must be the key of a taint, got "a/b/c"`},
		"{nodeSelectorKeys: ['']}":  {`line 3: policy.nodeSelectorKeys[0]: must be the key of a label, got ""`},
		"{schedulerNames: [A]}":     {`line 3: policy.schedulerNames[0]: must be the name of a scheduler, got "A"`},
		"{volumeTypes: [hostPath]}": {"line 3: policy.volumeTypes[0]: must be one of persistentVolumeClaim, configMap, secret, emptyDir, ephemeral, image, csi, projected, nfs, " +
			`got "hostPath"`},
		"{allowRoot: maybe}":   {`line 3: policy.allowRoot: must be true or false, got "maybe"`},
		"{allowRoot: 'false'}": {`line 3: policy.allowRoot: must be true or false, got "false"`},
		"{allowHosts: }":       {"line 3: policy.allowHosts: must be true or false, got nothing"},
		"{allowHosts: [true]}": {"line 3: policy.allowHosts: must be true or false, got a list"},
		"{schedulerNames: [" + strings.Repeat("a, ", 256) + "a]}": {"line 3: policy.schedulerNames: must be at most 256 values, got 257"},
	} {
		t.Run(in, func(t *testing.T) { wantErrors(t, head+"policy: "+in+"\n", want) })
	}
}

func TestPriorityClassesOfThePolicy(t *testing.T) {
	const system = "system-node-critical"
	for name, tc := range map[string]struct {
		policy Policy
		class  string
		want   bool
	}{
		"without a list":           {Policy{}, "high", true},
		"system, without a list":   {Policy{}, system, false},
		"listed":                   {Policy{PriorityClassNames: Allowed{"high"}}, "high", true},
		"not listed":               {Policy{PriorityClassNames: Allowed{"high"}}, "higher", false},
		"system, listed":           {Policy{PriorityClassNames: Allowed{system}}, system, true},
		"in a list without values": {Policy{PriorityClassNames: Allowed{}}, "high", false},
	} {
		if got := tc.policy.HasPriorityClass(tc.class); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// One toleration, and one list of ranges, at a time.
func TestParseListErrors(t *testing.T) {
	for in, want := range map[string]string{
		"{key: a/b/c, operator: Exists}":                     ".key: ",
		"{key: a, operator: Is}":                             `.operator: must be one of Exists, Equal, got "Is"`,
		"{key: a, value: 'b c'}":                             ".value: ",
		"{key: a, effect: NoRun}":                            ".effect: must be one of NoSchedule, PreferNoSchedule, NoExecute, ",
		"{key: a, effect: NoExecute, tolerationSeconds: a}":  `.tolerationSeconds: must be a whole number from 0 to 2147483647, got "a"`,
		"{key: a, effect: NoExecute, tolerationSeconds: -1}": ".tolerationSeconds: must be a whole number from 0 to 2147483647, got -1",
		"{key: a, taint: b}":                                 ".taint: unknown field; must be one of key, operator, ",
		"{value: b}":                                         ": must have a key",
		"{key: a, operator: Exists, value: b}":               `: must have no value with the operator Exists, got "b"`,
		"{key: a, tolerationSeconds: 1}":                     ": must have the effect NoExecute with tolerationSeconds",
		"a":                                                  `: must be a mapping, got "a"`,
	} {
		t.Run(in, func(t *testing.T) {
			full := []string{"line 6: chargeTypes.SPOTPAID.tolerations[0]" + want}
			if in == "a" {
				full = append(full, "line 6: chargeTypes.SPOTPAID.tolerations[0]: must have a key")
			}
			wantErrors(t, head+"chargeTypes:\n  SPOTPAID:\n    tolerations:\n    - "+in+"\n", full)
		})
	}
	for in, want := range map[string][]string{
		"- {from: 0, to: 9}":                                                                 {`line 4: priorityClasses[0].priorityClassName: must be the name of an object`},
		"- {from: 0, to: 101, priorityClassName: a}":                                         {"line 4: priorityClasses[0].to: must be a whole number from 0 to 100, got 101"},
		"- {from: a, to: 1, priorityClassName: a}":                                           {`line 4: priorityClasses[0].from: must be a whole number from 0 to 100, got "a"`},
		"- {from: 0x1, to: 1, priorityClassName: a}":                                         {"line 4: priorityClasses[0].from: must be a whole number from 0 to 100, got 0x1"},
		"- {to: 1, priorityClassName: a}":                                                    {"line 4: priorityClasses[0].from: must be a whole number from 0 to 100, got nothing"},
		"- {from: 2, to: 1, priorityClassName: a}":                                           {"line 4: priorityClasses[0]: must have a from that is not above to, got 2 and 1"},
		"- {from: 0, to: 1, priorityClassName: a, value: 1}":                                 {"line 4: priorityClasses[0].value: unknown field; must be one of from, to, priorityClassName"},
		"- {from: 5, to: 9, priorityClassName: a}\n- {from: 0, to: 7, priorityClassName: b}": {"line 5: priorityClasses[1]: must not overlap: priority 5 is also in the range on line 4"},
	} {
		t.Run(in, func(t *testing.T) { wantErrors(t, head+"priorityClasses:\n"+in+"\n", want) })
	}
}

func TestParseTooMany(t *testing.T) {
	var b strings.Builder
	b.WriteString(head + "instanceTypes:\n")
	for i := range MaxInstanceTypes + 1 {
		fmt.Fprintf(&b, "  t%d: {cpu: 1, memory: 1Gi}\n", i)
	}
	wantErrors(t, b.String(), []string{"line 5004: instanceTypes: must be at most 5000 types, got 5001"})

	b.Reset()
	b.WriteString(head + "images:\n")
	for i := range maxProblems + 7 {
		fmt.Fprintf(&b, "  i%d: ''\n", i)
	}
	_, err := Parse([]byte(b.String()))
	if lines := strings.Split(err.Error(), "\n"); len(lines) != maxProblems+1 || lines[maxProblems] != "line 54: 7 more problems from here on" {
		t.Errorf("%d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
}

func TestParseByteOrderMark(t *testing.T) {
	if _, err := Parse([]byte("\ufeff" + head)); err != nil {
		t.Error(err)
	}
}

// shipped returns the catalogue of config/manager, and its file.
func shipped(t *testing.T) (c *Catalog, text []byte) {
	t.Helper()
	data, err := os.ReadFile("../../config/manager/catalog.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err = Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return c, data
}

// The catalogue that is shipped is in order.
func TestShipped(t *testing.T) {
	c, data := shipped(t)
	if len(c.instanceTypes) < 60 {
		t.Errorf("%d types", len(c.instanceTypes))
	}
	for _, name := range []string{"S1.SMALL1", "S2.SMALL1", "S1.LARGE8", "S5.LARGE8", "S5.MEDIUM4"} {
		if c.InstanceType(name) == nil {
			t.Errorf("no %s", name)
		}
	}
	if _, ok := c.Image("img-bd78fy2t"); !ok {
		t.Error("no img-bd78fy2t")
	}
	for name, it := range c.instanceTypes {
		if gpus := it.Resources["nvidia.com/gpu"]; strings.HasPrefix(name, "G") || strings.HasPrefix(name, "PNV") {
			if gpus.IsZero() {
				t.Errorf("%s has no GPU", name)
			}
		} else if !gpus.IsZero() {
			t.Errorf("%s has %s GPUs", name, gpus.String())
		}
		if len(it.NodeLabels) > 0 {
			t.Errorf("%s wants nodes that only some clusters have", name)
		}
	}
	// What is commented out is in order too; a sentence has one space before it.
	uncommented := regexp.MustCompile(`(?m)^#([a-z-].*|  .*)$`).ReplaceAllString(string(data), "$1")
	c, err := Parse([]byte(uncommented))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := c.ChargeType("SPOTPAID"); !ok || c.PriorityClass(0) == "" || c.StorageClass("CLOUD_SSD") == "" || c.Mirror("a") == "a" {
		t.Error("an example is missing")
	}
}

func FuzzParse(f *testing.F) {
	shipped, err := os.ReadFile("../../config/manager/catalog.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, in := range []string{
		"", head, string(shipped[:min(len(shipped), 4000)]), head + "images: &a {b: *a}\n", head + "images: {a: b}\n---\n", "\ufeff- a: {",
		head + "chargeTypes: {SPOTPAID: {tolerations: [{key: a, operator: Exists, tolerationSeconds: 3}]}}\n",
		head + "priorityClasses: [{from: 0, to: 100, priorityClassName: a}]\nregistryMirrors: {docker.io: a.b/c}\n",
		head + "instanceTypes: {a: {cpu: 1e9, memory: 4Gi, resources: {a.b/c: 1}, nodeLabels: {d: e}}}\n",
	} {
		f.Add([]byte(in))
	}
	lines := regexp.MustCompile(`^line [1-9][0-9]*: `)
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data)
		if err != nil {
			if c != nil {
				t.Error("a catalogue with an error")
			}
			for _, line := range strings.Split(err.Error(), "\n") {
				if !lines.MatchString(line) {
					t.Errorf("no line in %q of %q", line, err)
				}
			}
			return
		}
		if c.DefaultImage == "" {
			t.Error("no default image")
		}
		if !slices.IsSortedFunc(c.bySize, func(a, b sizedType) int { return int(a.milliCPU - b.milliCPU) }) {
			t.Error("not in order")
		}
		if it := c.Smallest(1, 1, nil); it != nil && (it.Resources.Cpu().MilliValue() < 1000 || it.Resources.Memory().Value() < 1<<30) {
			t.Errorf("too small: %+v", it)
		}
		c.Mirror(string(data))
	})
}

// large has as many machine types as a file may.
func large(b *testing.B) string {
	b.Helper()
	var s strings.Builder
	s.WriteString(head + "registryMirrors: {quay.io: mirror.example/quay}\ninstanceTypes:\n")
	for i := range MaxInstanceTypes {
		fmt.Fprintf(&s, "  T%d.LARGE: {cpu: %d, memory: %dGi, category: GENERAL_3}\n", i, i%128+1, i%512+1)
	}
	return s.String()
}

func BenchmarkParse(b *testing.B) {
	data := []byte(large(b))
	for b.Loop() {
		if _, err := Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLookups(b *testing.B) {
	c, err := Parse([]byte(large(b)))
	if err != nil {
		b.Fatal(err)
	}
	categories := []string{"GENERAL_2", "GENERAL_3"}
	for name, f := range map[string]func(){
		"InstanceType":  func() { c.InstanceType("T4999.LARGE") },
		"Smallest":      func() { c.Smallest(64, 256, categories) },
		"SmallestWorst": func() { c.Smallest(1, 1024, categories) },
		"PriorityClass": func() { c.PriorityClass(50) },
		"Mirror":        func() { c.Mirror("quay.io/org/app:1") },
		"MirrorNone":    func() { c.Mirror("busybox:1.37") },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
}
