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
)

// optionProblems validates a job whose task has these kubernetes options, and returns "path: detail"
// for each problem, with the code before those that are not InvalidParameterValue.
func optionProblems(t *testing.T, v Validator, text string) []string {
	t.Helper()
	job := request("a")
	k := &v1alpha1.KubernetesOptions{}
	if err := yaml.UnmarshalStrict([]byte(text), k); err != nil {
		t.Fatal(err)
	}
	job.Spec.Job.Tasks[0].ComputeEnv.Kubernetes = k
	problems := v.ValidateCreate(job)
	checkProblems(t, problems)
	var got []string
	for _, p := range problems {
		code := ""
		if p.Code != "InvalidParameterValue" {
			code = string(p.Code) + " "
		}
		got = append(got, code+strings.TrimPrefix(p.Field.String(), "spec.job.tasks[0].computeEnv.kubernetes.")+": "+p.Detail)
	}
	return got
}

const (
	sayName   = "must be lower-case letters, digits, - and ., at most 253"
	sayLabel  = "must be lower-case letters, digits and -, at most 63"
	sayFile   = "must be relative to the volume, without .. segments"
	sayMount  = "must be an absolute path, such as /data, and not the root directory"
	sayMode   = "must be from 0 to 511, which is octal 0777"
	saySource = "must have exactly one of persistentVolumeClaim, configMap, secret, emptyDir, ephemeral, image, csi, projected"
	sayHolder = "must have no ${…} or $(…) but ${BATCH_JOB_ID}, ${BATCH_TASK_NAME}, ${BATCH_TASK_INSTANCE_NUM}, ${BATCH_TASK_INSTANCE_INDEX}"
)

// manyOf is a YAML list of n items, of which %d is the number.
func manyOf(n int, item string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("\n- " + strings.ReplaceAll(item, "%d", fmt.Sprint(i)))
	}
	return b.String()
}

func TestPodOptions(t *testing.T) {
	for name, tc := range map[string]struct {
		options string
		want    []string
	}{
		"env": {`env:
- {name: A, value: "$(B)"}
- {name: A}
- {name: 1A}
- {value: x}
- {name: BATCH_JOB_ID, value: x}
- {name: BATCHCOMPUTE_AGENT, value: x}
- {name: B, value: "\0"}
- {name: C, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: D, valueFrom: {}}
- {name: E, valueFrom: {secretKeyRef: {name: s, key: k}, configMapKeyRef: {name: C, key: a/b}}}
- {name: F, valueFrom: {fieldRef: {fieldPath: spec.hostNetwork}}}
- {name: G, valueFrom: {secretKeyRef: {}}}
- {name: H, valueFrom: {fieldRef: {}}}`, []string{
			`env[1].name: must be unique, got "A" again`,
			`env[2].name: must be letters, digits and _, not beginning with a digit, got "1A"`,
			"MissingParameter env[3].name: must be given",
			`env[4].name: must not begin with BATCH_ or BATCHCOMPUTE_, which are reserved, got "BATCH_JOB_ID"`,
			`env[5].name: must not begin with BATCH_ or BATCHCOMPUTE_, which are reserved, got "BATCHCOMPUTE_AGENT"`,
			"env[6].value: must not have a NUL character",
			"env[7].valueFrom: must not be given together with value",
			"env[8].valueFrom: must have exactly one of secretKeyRef, configMapKeyRef, fieldRef, got none",
			"env[9].valueFrom: must have exactly one of secretKeyRef, configMapKeyRef, fieldRef, got secretKeyRef and configMapKeyRef",
			"env[9].valueFrom.configMapKeyRef.name: " + sayName + `, got "C"`,
			`env[9].valueFrom.configMapKeyRef.key: must be letters, digits, -, _ and ., at most 253, got "a/b"`,
			"env[10].valueFrom.fieldRef.fieldPath: must be metadata.name, metadata.namespace, metadata.uid, spec.nodeName, spec.serviceAccountName, " +
				`status.hostIP, status.hostIPs, status.podIP or status.podIPs, got "spec.hostNetwork"`,
			"MissingParameter env[11].valueFrom.secretKeyRef.name: must be given",
			"MissingParameter env[11].valueFrom.secretKeyRef.key: must be given",
			"MissingParameter env[12].valueFrom.fieldRef.fieldPath: must be given",
		}},
		"too long": {"env: [{name: A, value: " + strings.Repeat("x", 128<<10) + "}]", []string{"env[0].value: must be at most 131071 bytes together with its name, got 131074"}},
		"too large": {"env:" + manyOf(3, "{name: A%d, value: "+strings.Repeat("x", 100<<10)+"}"),
			[]string{"spec.job.tasks[0].computeEnv.kubernetes: must be at most 262144 bytes as JSON, got 307284: every Pod has all of it"}},
		"large affinity": {"affinity: {podAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: {topologyKey: z, labelSelector: {matchExpressions: [" +
			strings.Repeat("{key: a, operator: In, values: ["+strings.Repeat(strings.Repeat("x", 60)+", ", 20)+"]}, ", 16) + "]}}}]}}",
			[]string{"affinity: must be at most 16384 bytes as JSON, got 20943"}},
		"envFrom": {`envFrom:
- {secretRef: {name: s}, prefix: a-}
- {}
- {secretRef: {name: s}, configMapRef: {}}
- {configMapRef: {name: ok, optional: true}, prefix: OK_}`, []string{
			`envFrom[0].prefix: must be letters, digits and _, not beginning with a digit, at most 253, got "a-"`,
			"envFrom[1]: must have exactly one of secretRef, configMapRef, got none",
			"envFrom[2]: must have exactly one of secretRef, configMapRef, got secretRef and configMapRef",
			"MissingParameter envFrom[2].configMapRef.name: must be given",
		}},
		"counts": {"env:" + manyOf(101, "{name: A%d}") + "\nenvFrom:" + manyOf(33, "{secretRef: {name: s}}") + "\nvolumes:" + manyOf(33, "{name: v%d, emptyDir: {}}") +
			"\nvolumeMounts:" + manyOf(65, "{name: v%d, mountPath: /v%d}") + "\ntopologySpreadConstraints:" + manyOf(9, "{}") +
			"\nhostAliases:" + manyOf(65, "{}") + "\nresourceClaims:" + manyOf(33, "{}"), []string{
			"env: must have at most 100 entries, got 101", "envFrom: must have at most 32 entries, got 33", "volumes: must have at most 32 entries, got 33",
			"volumeMounts: must have at most 64 entries, got 65", "topologySpreadConstraints: must have at most 8 entries, got 9",
			"hostAliases: must have at most 64 entries, got 65", "resourceClaims: must have at most 32 entries, got 33",
		}},
		"volumes": {`volumes:
- {name: a}
- {name: a, emptyDir: {}, secret: {secretName: s}}
- {name: A_, persistentVolumeClaim: {}}
- {emptyDir: {medium: HugePages, sizeLimit: "-1"}}
- {name: a.b, persistentVolumeClaim: {claimName: a/b}}
- {name: shm, emptyDir: {}}
- {name: data-disk-0, emptyDir: {}}
- {name: batchcompute-x, emptyDir: {}}
- {name: c, configMap: {items: [{key: a, path: /x}, {key: a b, path: x/../y, mode: 512}, {path: ..x}, {key: k, path: f}, {key: k, path: f/}], defaultMode: -1}}`, []string{
			"volumes[0]: " + saySource + ", got none",
			`volumes[1].name: must be unique, got "a" again`,
			"volumes[1]: " + saySource + ", got secret and emptyDir",
			"volumes[2].name: " + sayLabel + `, got "A_"`,
			"MissingParameter volumes[2].persistentVolumeClaim.claimName: must be given",
			"MissingParameter volumes[3].name: must be given",
			`volumes[3].emptyDir.medium: must be Memory, got "HugePages"`,
			`volumes[3].emptyDir.sizeLimit: must not be negative, got "-1"`,
			"volumes[4].name: " + sayLabel + `, got "a.b"`,
			"volumes[4].persistentVolumeClaim.claimName: " + sayName + `, got "a/b"`,
			`volumes[5].name: must not be shm or begin with data-disk-, directory- or batchcompute-, which are the operator's, got "shm"`,
			`volumes[6].name: must not be shm or begin with data-disk-, directory- or batchcompute-, which are the operator's, got "data-disk-0"`,
			`volumes[7].name: must not be shm or begin with data-disk-, directory- or batchcompute-, which are the operator's, got "batchcompute-x"`,
			"MissingParameter volumes[8].configMap.name: must be given",
			"volumes[8].configMap.items[0].path: " + sayFile + `, got "/x"`,
			`volumes[8].configMap.items[1].key: must be letters, digits, -, _ and ., at most 253, got "a b"`,
			"volumes[8].configMap.items[1].path: " + sayFile + `, got "x/../y"`,
			"volumes[8].configMap.items[1].mode: " + sayMode + ", got 512",
			"MissingParameter volumes[8].configMap.items[2].key: must be given",
			"volumes[8].configMap.items[2].path: " + sayFile + `, got "..x"`,
			`volumes[8].configMap.items[4].path: must be unique in the volume, got "f/" again`,
			"volumes[8].configMap.defaultMode: " + sayMode + ", got -1",
		}},
		"claims, images and drivers": {`volumes:
- {name: a, ephemeral: {}}
- {name: b, ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOncePod, Never], storageClassName: A, resources: {requests: {storage: 0}}}}}}
- {name: c, ephemeral: {volumeClaimTemplate: {spec: {storageClassName: "", resources: {requests: {cpu: 1}}}}}}
- {name: d, ephemeral: {volumeClaimTemplate: {spec: {resources: {requests: {cpu: 1, storage: 1Gi}}}}}}
- {name: e, image: {}}
- {name: f, image: {reference: "a b", pullPolicy: Sometimes}}
- {name: g, csi: {fsType: "a b", nodePublishSecretRef: {}}}
- {name: h, csi: {driver: a/b}}`, []string{
			"MissingParameter volumes[0].ephemeral.volumeClaimTemplate: must be given",
			"volumes[1].ephemeral.volumeClaimTemplate.spec.accessModes[0]: must be the only one if it is ReadWriteOncePod",
			`volumes[1].ephemeral.volumeClaimTemplate.spec.accessModes[1]: must be ReadWriteOnce, ReadOnlyMany, ReadWriteMany or ReadWriteOncePod, got "Never"`,
			"volumes[1].ephemeral.volumeClaimTemplate.spec.storageClassName: " + sayName + `, got "A"`,
			`volumes[1].ephemeral.volumeClaimTemplate.spec.resources.requests.storage: must be more than 0, got "0"`,
			"MissingParameter volumes[2].ephemeral.volumeClaimTemplate.spec.resources.requests.storage: must be given",
			"volumes[3].ephemeral.volumeClaimTemplate.spec.resources.requests: must have nothing but storage",
			"MissingParameter volumes[4].image.reference: must be given",
			`volumes[5].image.reference: must be a container image such as registry.example/team/data:1.2, got "a b"`,
			`volumes[5].image.pullPolicy: must be Always, IfNotPresent or Never, got "Sometimes"`,
			"MissingParameter volumes[6].csi.driver: must be given",
			`volumes[6].csi.fsType: must be letters, digits, -, _ and ., at most 64, got "a b"`,
			"MissingParameter volumes[6].csi.nodePublishSecretRef.name: must be given",
			`volumes[7].csi.driver: must be the name of a CSI driver: lower-case letters, digits, - and ., at most 63, got "a/b"`,
		}},
		"projected": {`volumes:
- {name: a, projected: {}}
- name: b
  projected:
    defaultMode: 1000
    sources:
    - {}
    - {secret: {}, configMap: {name: c}}
    - {configMap: {name: c, items: [{key: k, path: f}]}}
    - {serviceAccountToken: {path: f, audience: "\n", expirationSeconds: 599}}
    - {serviceAccountToken: {expirationSeconds: 86401}}`, []string{
			"MissingParameter volumes[0].projected.sources: must have at least one source",
			"volumes[1].projected.defaultMode: " + sayMode + ", got 1000",
			"volumes[1].projected.sources[0]: must have exactly one of secret, configMap, serviceAccountToken, got none",
			"volumes[1].projected.sources[1]: must have exactly one of secret, configMap, serviceAccountToken, got secret and configMap",
			"MissingParameter volumes[1].projected.sources[1].secret.name: must be given",
			`volumes[1].projected.sources[3].serviceAccountToken.audience: must be at most 1024 characters that print, got "\n"`,
			"volumes[1].projected.sources[3].serviceAccountToken.expirationSeconds: must be from 600 to 86400, got 599",
			`volumes[1].projected.sources[3].serviceAccountToken.path: must be unique in the volume, got "f" again`,
			"volumes[1].projected.sources[4].serviceAccountToken.expirationSeconds: must be from 600 to 86400, got 86401",
			"MissingParameter volumes[1].projected.sources[4].serviceAccountToken.path: must be given",
		}},
		"mounts": {`volumes: [{name: v, emptyDir: {}}]
volumeMounts:
- {name: w, mountPath: /a}
- {}
- {name: v, mountPath: a}
- {name: v, mountPath: /}
- {name: v, mountPath: /b/..}
- {name: v, mountPath: /b/../c}
- {name: v, mountPath: "/b:c"}
- {name: v, mountPath: /proc/sys}
- {name: v, mountPath: /.batchcompute/state}
- {name: v, mountPath: /a/}
- {name: v, mountPath: /a/b}
- {name: v, mountPath: /processes}
serviceAccountToken: {mountPath: /a/b/}`, []string{
			`volumeMounts[0].name: must be the name of a volume of volumes, got "w"`,
			"MissingParameter volumeMounts[1].name: must be given",
			"MissingParameter volumeMounts[1].mountPath: must be given",
			"volumeMounts[2].mountPath: " + sayMount + `, got "a"`,
			"volumeMounts[3].mountPath: " + sayMount + `, got "/"`,
			"volumeMounts[4].mountPath: " + sayMount + `, got "/b/.."`,
			`volumeMounts[5].mountPath: must not have a .. segment, got "/b/../c"`,
			`volumeMounts[6].mountPath: must not have : or control characters, got "/b:c"`,
			`volumeMounts[7].mountPath: must not be in /proc, got "/proc/sys"`,
			`volumeMounts[8].mountPath: must not be in /.batchcompute, which is the operator's, got "/.batchcompute/state"`,
			`volumeMounts[9].mountPath: must be used once, by a disk, a mapping or a volume, got "/a/" again`,
			`serviceAccountToken.mountPath: must be used once, by a disk, a mapping or a volume, got "/a/b/" again`,
		}},
		"parts of volumes": {`volumes: [{name: v, emptyDir: {}}]
volumeMounts:
- {name: v, mountPath: /a, subPath: /x}
- {name: v, mountPath: /b, subPath: x/../y}
- {name: v, mountPath: /c, subPath: "${HOME}/x"}
- {name: v, mountPath: /d, subPath: "$(BATCH_TASK_INSTANCE_INDEX)"}
- {name: v, mountPath: /e, subPath: "a\nb"}
- {name: v, mountPath: /f, subPath: "${BATCH_${BATCH_JOB_ID}"}
- {name: v, mountPath: /g, subPath: "..${BATCH_TASK_NAME}/$HOME/${BATCH_JOB_ID}/${BATCH_TASK_INSTANCE_INDEX}-of-${BATCH_TASK_INSTANCE_NUM}"}`, []string{
			`volumeMounts[0].subPath: must be relative to the volume, got "/x"`,
			`volumeMounts[1].subPath: must not have a .. segment, got "x/../y"`,
			"volumeMounts[2].subPath: " + sayHolder + `, got "${HOME}/x"`,
			"volumeMounts[3].subPath: " + sayHolder + `, got "$(BATCH_TASK_INSTANCE_INDEX)"`,
			`volumeMounts[4].subPath: must not have control characters, got "a\nb"`,
			"volumeMounts[5].subPath: " + sayHolder + `, got "${BATCH_${BATCH_JOB_ID}"`,
		}},
		"affinity": {`affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution: {}
    preferredDuringSchedulingIgnoredDuringExecution:
    - {preference: {matchExpressions: [{key: a, operator: Exists}]}}
    - {weight: 101, preference: {}}
  podAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
    - {labelSelector: {matchLabels: {a b: x}, matchExpressions: [{key: a, operator: Gt, values: ["1"]}]}, matchLabelKeys: [c, c, "a b"]}
    - {topologyKey: z, matchLabelKeys: [c]}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
    - {weight: 0, podAffinityTerm: {topologyKey: "!", labelSelector: {matchExpressions: [{key: c, operator: Exists}]}, matchLabelKeys: [c]}}`, []string{
			"MissingParameter affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: must have at least one term",
			"MissingParameter affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: must be given",
			"affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[1].weight: must be from 1 to 100, got 101",
			"MissingParameter affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[1].preference.matchExpressions: must have at least one requirement",
			"affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector.matchLabels[a b]: " + sayQualifiedName,
			`affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector.matchExpressions[0].operator: must be In, NotIn, Exists or DoesNotExist, got "Gt"`,
			"MissingParameter affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: must be given",
			`affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].matchLabelKeys[1]: must be unique, and not in labelSelector, got "c"`,
			`affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].matchLabelKeys[2]: must be a label's key such as batchcompute.dev/job-id, got "a b"`,
			"affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[1].matchLabelKeys: must not be given without labelSelector; labelSelector: {} selects all Pods of the namespace",
			"affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: must be from 1 to 100, got 0",
			`affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.topologyKey: must be a label's key such as topology.kubernetes.io/zone, got "!"`,
			`affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.matchLabelKeys[0]: must be unique, and not in labelSelector, got "c"`,
		}},
		"requirements": {`affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
      - matchExpressions:
        - {key: a, operator: In}
        - {key: a, operator: Exists, values: [x]}
        - {key: a, operator: Gt, values: [x]}
        - {key: a, operator: Near}
        - {key: a, values: ["!"]}
        - {operator: NotIn, values: [""]}
        - {key: a, operator: Lt, values: ["5"]}`, []string{
			"affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values: must have at least one value when operator is In",
			"affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[1].values: must be empty when operator is Exists",
			"affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[2].values: must be one whole number when operator is Gt",
			`affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[3].operator: must be In, NotIn, Exists, DoesNotExist, Gt or Lt, got "Near"`,
			"MissingParameter affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[4].operator: must be given",
			`affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[4].values[0]: must be at most 63 letters, digits, -, _ and ., got "!"`,
			"MissingParameter affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[5].key: must be given",
		}},
		"spread": {`topologySpreadConstraints:
- {maxSkew: 1, topologyKey: z, whenUnsatisfiable: DoNotSchedule, minDomains: 0, nodeAffinityPolicy: Honor, nodeTaintsPolicy: Maybe}
- {maxSkew: 0, topologyKey: z, whenUnsatisfiable: DoNotSchedule}
- {topologyKey: y, whenUnsatisfiable: ScheduleAnyway, minDomains: 1}
- {maxSkew: 2147483648, whenUnsatisfiable: Never}
- {maxSkew: 1, topologyKey: z, whenUnsatisfiable: ScheduleAnyway, matchLabelKeys: [a]}`, []string{
			"topologySpreadConstraints[0].minDomains: must be from 1 to 2147483647, got 0",
			`topologySpreadConstraints[0].nodeTaintsPolicy: must be Honor or Ignore, got "Maybe"`,
			"topologySpreadConstraints[1].maxSkew: must be 1 or more, and fit into 32 bits, got 0",
			`topologySpreadConstraints[1].topologyKey: must be unique together with whenUnsatisfiable, got "z" again`,
			"MissingParameter topologySpreadConstraints[2].maxSkew: must be given",
			"topologySpreadConstraints[2].minDomains: must not be given unless whenUnsatisfiable is DoNotSchedule",
			"topologySpreadConstraints[3].maxSkew: must be 1 or more, and fit into 32 bits, got 2147483648",
			"MissingParameter topologySpreadConstraints[3].topologyKey: must be given",
			`topologySpreadConstraints[3].whenUnsatisfiable: must be DoNotSchedule or ScheduleAnyway, got "Never"`,
			"topologySpreadConstraints[4].matchLabelKeys: must not be given without labelSelector; labelSelector: {} selects all Pods of the namespace",
		}},
		"hosts": {`hostAliases: [{ip: 10.0.0.300, hostnames: [A]}, {}]
dnsPolicy: ClusterFirstWithHostNet
dnsConfig: {nameservers: [1.1.1.1, "::1", 8.8.8.8, x], searches: [., _tcp.example.com., "a b"], options: [{}, {name: "a b", value: "c d"}]}
imagePullPolicy: sometimes`, []string{
			`hostAliases[0].ip: must be an IP address, got "10.0.0.300"`,
			`hostAliases[0].hostnames[0]: must be a host name in lower case, got "A"`,
			"MissingParameter hostAliases[1].ip: must be given",
			`dnsPolicy: must be ClusterFirst, Default or None, got "ClusterFirstWithHostNet"`,
			"dnsConfig.nameservers: must have at most 3 entries, got 4",
			`dnsConfig.searches[2]: must be a domain in lower case, got "a b"`,
			"MissingParameter dnsConfig.options[0].name: must be given",
			`dnsConfig.options[1].name: must be at most 253 characters that print, without spaces, got "a b"`,
			`dnsConfig.options[1].value: must be at most 253 characters that print, without spaces, got "c d"`,
			`imagePullPolicy: must be Always, IfNotPresent or Never, got "sometimes"`,
		}},
		"no name server": {"dnsPolicy: None\ndnsConfig: {searches: [a], nameservers: []}", []string{"dnsPolicy: must not be None without dnsConfig.nameservers"}},
		"long searches":  {"dnsConfig: {searches: [" + strings.Repeat(strings.Repeat("a", 200)+", ", 11) + "]}", []string{"dnsConfig.searches: must be at most 2048 characters together, got 2210"}},
		"devices": {`resourceClaims:
- {name: a, resourceClaimName: A}
- {name: a, resourceClaimTemplateName: t}
- {resourceClaimName: x, resourceClaimTemplateName: t}
- {name: b}
resources:
  claims: [{}, {name: c}, {name: a, request: gpu}, {name: a, request: gpu}, {name: a}, {name: b}, {name: b, request: "a/b"}]`, []string{
			"resourceClaims[0].resourceClaimName: " + sayName + `, got "A"`,
			`resourceClaims[1].name: must be unique, got "a" again`,
			"MissingParameter resourceClaims[2].name: must be given",
			"resourceClaims[2]: must have exactly one of resourceClaimName, resourceClaimTemplateName, got resourceClaimName and resourceClaimTemplateName",
			"resourceClaims[3]: must have exactly one of resourceClaimName, resourceClaimTemplateName, got none",
			"MissingParameter resources.claims[0].name: must be given",
			`resources.claims[1].name: must be the name of a claim of resourceClaims, got "c"`,
			`resources.claims[3].name: must be used once as a whole, or once for each request, got "a" again`,
			`resources.claims[4].name: must be used once as a whole, or once for each request, got "a" again`,
			`resources.claims[6].name: must be used once as a whole, or once for each request, got "b" again`,
			"resources.claims[6].request: " + sayLabel + `, got "a/b"`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, optionProblems(t, Validator{}, tc.options)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestMountsOfDisks: a volume is not mounted where a data disk, a mapping or the shared memory is.
func TestMountsOfDisks(t *testing.T) {
	job := request("a")
	task := &job.Spec.Job.Tasks[0]
	text := `computeEnv:
  envData: {dataDisks: [{diskSize: 10}]}
  mountDataDisks: [{localPath: /scratch/}]
  kubernetes:
    volumes: [{name: v, emptyDir: {}}]
    volumeMounts: [{name: v, mountPath: /scratch}, {name: v, mountPath: /dev/shm}, {name: v, mountPath: /in}, {name: v, mountPath: /scratch/in}]
application: {deliveryForm: LOCAL, command: "true", docker: {image: a, dockerRunOption: --shm-size 1m}}
inputMappings: [{sourcePath: "cos://b.example.com/", destinationPath: /in/}]`
	if err := yaml.UnmarshalStrict([]byte(text), task); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range (Validator{}).ValidateCreate(job) {
		if p.Code != "UnsupportedOperation" {
			got = append(got, string(p.Code)+" "+strings.TrimPrefix(p.Field.String(), "spec.job.tasks[0]."))
		}
	}
	want := []string{
		"InvalidParameterValue computeEnv.kubernetes.volumeMounts[0].mountPath", "InvalidParameterValue computeEnv.kubernetes.volumeMounts[1].mountPath",
		"InvalidParameterValue.LocalPath inputMappings[0].destinationPath",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestPolicyOfPodOptions: what a command may read and where its volumes come from are restricted.
func TestPolicyOfPodOptions(t *testing.T) {
	const options = `
env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]
envFrom: [{secretRef: {name: s}}, {secretRef: {name: open}}]
volumes:
- {name: a, secret: {secretName: s}}
- {name: b, csi: {driver: d.example.com, nodePublishSecretRef: {name: s}}}
- {name: c, projected: {sources: [{secret: {name: s}}, {serviceAccountToken: {path: t}}, {configMap: {name: c}}]}}
- {name: d, emptyDir: {}}
serviceAccountToken: {}
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}, {key: pool, operator: Exists}]}]}
    preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, preference: {matchExpressions: [{key: a, operator: Exists}]}}]`
	paths := func(policy string) []string {
		var out []string
		for _, line := range optionProblems(t, withPolicy(t, policy), options) {
			path, _, _ := strings.Cut(line, ": ")
			out = append(out, path)
		}
		return out
	}
	const code = "UnauthorizedOperation "
	for policy, want := range map[string][]string{
		"{}": nil,
		"{secretNames: [s, open], volumeTypes: [secret, csi, projected, emptyDir], csiDrivers: [d.example.com], allowServiceAccountTokens: true, nodeSelectorKeys: [a, pool]}": nil,
		"{secretNames: [open]}": {
			code + "env[0].valueFrom.secretKeyRef.name", code + "envFrom[0].secretRef.name", code + "volumes[0].secret.secretName",
			code + "volumes[1].csi.nodePublishSecretRef.name", code + "volumes[2].projected.sources[0].secret.name",
		},
		"{volumeTypes: [emptyDir, secret]}":  {code + "volumes[1].csi", code + "volumes[2].projected"},
		"{csiDrivers: []}":                   {code + "volumes[1].csi.driver"},
		"{allowServiceAccountTokens: false}": {code + "volumes[2].projected.sources[1].serviceAccountToken", code + "serviceAccountToken"},
		"{nodeSelectorKeys: [pool]}": {
			code + "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key",
			code + "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].key",
		},
	} {
		if diff := cmp.Diff(want, paths(policy)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", policy, diff)
		}
	}
	want := `UnauthorizedOperation volumes[1].csi: must be another source: emptyDir or secret, under this cluster's policy; a cluster administrator can change policy.volumeTypes in its catalogue`
	if got := optionProblems(t, withPolicy(t, "{volumeTypes: [emptyDir, secret]}"), options); !slices.Contains(got, want) {
		t.Errorf("problems are %q, want %q", got, want)
	}
}

// maxCRD is the size of a CRD's manifest that every way to apply it takes: kubectl apply without
// --server-side copies it into an annotation, which may have 256 KiB. Unit: bytes.
const maxCRD = 256 << 10

func TestSizeOfCRDs(t *testing.T) {
	files, err := filepath.Glob("../../config/crd/bases/*.yaml")
	if err != nil || len(files) != 3 {
		t.Fatalf("found %q: %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d bytes", filepath.Base(file), len(text))
		if len(text) >= maxCRD {
			t.Errorf("%s has %d bytes, want less than %d", file, len(text), maxCRD)
		}
	}
}

// TestCredentialInPodOptions: a password that stands in a job is warned of, a reference to one is not.
func TestCredentialInPodOptions(t *testing.T) {
	warnings := func(env string) []string {
		job := request("a")
		k := &v1alpha1.KubernetesOptions{}
		if err := yaml.UnmarshalStrict([]byte("env: ["+env+"]"), k); err != nil {
			t.Fatal(err)
		}
		job.Spec.Job.Tasks[0].ComputeEnv.Kubernetes = k
		return Validator{}.Warnings(job)
	}
	for _, env := range []string{
		"{name: PASSWORD, valueFrom: {secretKeyRef: {name: s, key: k}}}", "{name: URL, value: 'postgres://user:$(PASSWORD)@db/x'}", "{name: LEVEL, value: debugging}",
	} {
		if got := warnings(env); len(got) > 0 {
			t.Errorf("%s is warned of: %q", env, got)
		}
	}
	const want = "spec.job.tasks[0].computeEnv.kubernetes.env[1] seems to contain a credential; everybody who may read the BatchJob or its Pods can see it: use valueFrom.secretKeyRef"
	for _, value := range []string{"{name: PASSWORD, value: correct-horse}", "{name: URL, value: 'postgres://user:horse@db/x'}"} {
		if got := warnings("{name: A, value: x}, " + value); len(got) != 1 || got[0] != want {
			t.Errorf("%s gives %q, want %q", value, got, want)
		}
	}
}
