// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"batchcompute.dev/operator/internal/errcode"
)

// carried is a field that an object carries without the effect that it has in
// BatchCompute.
type carried struct {
	// field is the path below spec of a BatchJob, or of a ComputeEnv; [] stands for every
	// item. A row for job.tasks[].computeEnv or for placement holds for a ComputeEnv as well.
	field string
	// when says for which of the values that are given there is something to say; nil: for
	// all of them, but a number or a switch only when it is not zero.
	when func(reflect.Value) bool
	// refuse is the sentence that the field is refused with. Empty: it is accepted
	// with a warning.
	refuse string
	// note is appended to the warning.
	note string
}

// notBuiltYet are the fields whose part of BatchCompute does not exist yet. They are refused. Whoever builds a
// part removes its rows.
var notBuiltYet = []carried{
	{field: "job.tasks[].application.commands", refuse: "must not be given: this version cannot run tightly coupled tasks; give command"},
	{field: "job.tasks[].computeEnv.envData.dataDisks[].snapshotId",
		refuse: "must not be given: this version cannot start a disk from a snapshot"},
	{field: "job.tasks[].computeEnv.mountDataDisks[].localPath", when: isOfWindows, refuse: windowsRefused},
	{field: "job.tasks[].inputMappings[].destinationPath", when: isOfWindows, refuse: windowsRefused},
	{field: "job.tasks[].outputMappings[].sourcePath", when: isOfWindows, refuse: windowsRefused},
	{field: "job.tasks[].redirectLocalInfo.stdoutLocalPath", when: isOfWindows, refuse: windowsRefused},
	{field: "job.tasks[].redirectLocalInfo.stderrLocalPath", when: isOfWindows, refuse: windowsRefused},
}

const windowsRefused = "must be a path of Linux, such as /data: this version has no Windows machines"

func isOfWindows(v reflect.Value) bool { return isWindowsPath(v.String()) }

// envNotBuiltYet are those of a ComputeEnv.
var envNotBuiltYet = []carried{
	{field: "inputMappings[].destinationPath", when: isOfWindows, refuse: windowsRefused},
}

// neverOnKubernetes are the fields that mean nothing on Kubernetes.
var neverOnKubernetes = []carried{
	{field: "placement.hostId", note: "hostIds choose hosts"},
	{field: "placement.rackId"},
	{field: "placement.dedicatedResourcePackTenancy"},
	{field: "placement.dedicatedResourcePackIds"},
	{field: "job.tasks[].application.docker.maxRetryCount", note: "the kubelet retries a pull by itself"},
	{field: "job.tasks[].application.docker.delayOnRetry", note: "the kubelet backs off by itself"},
	{field: "job.tasks[].application.docker.user", note: "the Secret of passwordSecretRef has the user"},
	{field: "job.tasks[].computeEnv.envData.systemDisk.diskType"},
	{field: "job.tasks[].computeEnv.envData.systemDisk.cdcId"},
	{field: "job.tasks[].computeEnv.envData.systemDisk.diskName"},
	{field: "job.tasks[].computeEnv.envData.systemDisk.encrypt"},
	{field: "job.tasks[].computeEnv.envData.systemDisk.kmsKeyId"},
	{field: "job.tasks[].computeEnv.envData.dataDisks[].deleteWithInstance", when: func(v reflect.Value) bool { return !v.Bool() }},
	{field: "job.tasks[].computeEnv.envData.dataDisks[].encrypt"},
	{field: "job.tasks[].computeEnv.envData.dataDisks[].kmsKeyId"},
	{field: "job.tasks[].computeEnv.envData.dataDisks[].throughputPerformance"},
	{field: "job.tasks[].computeEnv.envData.dataDisks[].cdcId"},
	{field: "job.tasks[].computeEnv.envData.dataDisks[].burstPerformance"},
	{field: "job.tasks[].computeEnv.envData.dataDisks[].diskName"},
	{field: "job.tasks[].computeEnv.mountDataDisks[].fileSystemType"},
	{field: "job.tasks[].computeEnv.envData.virtualPrivateCloud"},
	{field: "job.tasks[].computeEnv.envData.virtualPrivateClouds"},
	{field: "job.tasks[].computeEnv.envData.internetAccessible"},
	{field: "job.tasks[].computeEnv.envData.instanceName"},
	{field: "job.tasks[].computeEnv.envData.loginSettings"},
	{field: "job.tasks[].computeEnv.envData.securityGroupIds"},
	{field: "job.tasks[].computeEnv.envData.enhancedService"},
	{field: "job.tasks[].computeEnv.envData.instanceMarketOptions"},
	{field: "job.tasks[].computeEnv.agentRunningMode"},
	{field: "job.tasks[].restartComputeNode"},
	{field: "job.notificationTarget", note: targetNote},
}

const targetNote = "the operator's catalogue decides which service a topic is of"

// envNeverOnKubernetes are further ones of a ComputeEnv.
var envNeverOnKubernetes = []carried{{field: "notificationTarget", note: targetNote}}

func is(text string) func(reflect.Value) bool {
	return func(v reflect.Value) bool { return v.String() == text }
}

// refusals are the sentences of the fields that are refused, by field.
var refusals = func() map[string]string {
	m := map[string]string{}
	for _, row := range slices.Concat(notBuiltYet, envNotBuiltYet) {
		if row.refuse != "" {
			m[row.field] = row.refuse
		}
	}
	return m
}()

// refuse reports a field that is given but not built yet; row is its path in the
// table. It is called after the field's own checks.
func (c *checker) refuse(row string, path *field.Path, name string) {
	if sentence := refusals[row]; sentence != "" {
		c.fail(errcode.UnsupportedOperation, path, name, "%s", sentence)
	}
}
