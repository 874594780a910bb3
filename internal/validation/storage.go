// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"k8s.io/apimachinery/pkg/util/validation/field"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
)

// mountTypes and workspaces are the values of inputMappings[].mountType and of
// outputMappings[].outputMappingOption.workspace.
var (
	mountTypes = []string{"COSFS", "GooseFS-Lite"}
	workspaces = []string{"BATCH_WORKSPACE", "GLOBAL_WORKSPACE"}
)

// scenes are the storages that keys and upload settings can be for.
var scenes = []string{"COS"}

// checkPackage checks application.packagePath. It is checked with any deliveryForm,
// and required with PACKAGE.
func (c *checker) checkPackage(a *v1alpha1.Application, path *field.Path) {
	if a.PackagePath != "" {
		c.failFault(remotePackageFault(a.PackagePath), path, "packagePath")
	} else if a.DeliveryForm == v1alpha1.DeliveryFormPackage {
		c.fail(errcode.MissingParameter, path, "packagePath", "must be given when deliveryForm is PACKAGE")
	}
	if a.DeliveryForm == v1alpha1.DeliveryFormPackage {
		c.refuse("job.tasks[].application.deliveryForm", path, "deliveryForm")
	}
}

// checkStorage checks where a task gets its data from and where it leaves them.
func (c *checker) checkStorage(t *v1alpha1.Task, path *field.Path) {
	c.checkInputMappings(t.InputMappings, path)
	if len(t.InputMappings) > 0 {
		c.refuse("job.tasks[].inputMappings", path, "inputMappings")
	}
	c.checkOutputMappings(t.OutputMappings, path)
	for i := range t.OutputMappingConfigs {
		c.checkOutputMappingConfig(&t.OutputMappingConfigs[i], path.Child("outputMappingConfigs").Index(i))
	}
	c.checkRedirects(t, path)
	for i := range t.Authentications {
		c.checkAuthentication(&t.Authentications[i], path.Child("authentications").Index(i))
	}
}

func (c *checker) checkInputMappings(mappings []v1alpha1.InputMapping, path *field.Path) {
	if len(mappings) == 0 {
		return
	}
	c.atMost(len(mappings), maxMappings, "mappings", path, "inputMappings")
	for i := range mappings {
		m, p := &mappings[i], path.Child("inputMappings").Index(i)
		schemes := inputSchemes
		if isWindowsPath(m.DestinationPath) {
			schemes = windowsSchemes
		}
		if c.required(m.SourcePath, p, "sourcePath") {
			c.failFault(remoteDirectoryFault(m.SourcePath, schemes), p, "sourcePath")
		}
		c.checkMountPoint(m.DestinationPath, p, "destinationPath")
		c.oneOf(m.MountType, mountTypes, errcode.InvalidParameterValue, p, "mountType")
	}
}

func (c *checker) checkOutputMappings(mappings []v1alpha1.OutputMapping, path *field.Path) {
	if len(mappings) == 0 {
		return
	}
	c.atMost(len(mappings), maxMappings, "mappings", path, "outputMappings")
	for i := range mappings {
		m, p := &mappings[i], path.Child("outputMappings").Index(i)
		if c.required(m.SourcePath, p, "sourcePath") {
			c.failFault(localPathFault(m.SourcePath), p, "sourcePath")
		}
		if c.required(m.DestinationPath, p, "destinationPath") {
			c.failFault(remoteDirectoryFault(m.DestinationPath, outputSchemes), p, "destinationPath")
		}
		if o := m.OutputMappingOption; o != nil {
			c.oneOf(o.Workspace, workspaces, errcode.InvalidParameterValue, p.Child("outputMappingOption"), "workspace")
		}
	}
	c.refuse("job.tasks[].outputMappings", path, "outputMappings")
}

func (c *checker) checkOutputMappingConfig(m *v1alpha1.OutputMappingConfig, path *field.Path) {
	if c.required(m.Scene, path, "scene") {
		c.oneOf(m.Scene, scenes, errcode.InvalidParameterValue, path, "scene")
	}
	c.requiredNumber(m.WorkerNum, path, "workerNum")
	c.requiredNumber(m.WorkerPartSize, path, "workerPartSize")
}

func (c *checker) checkRedirects(t *v1alpha1.Task, path *field.Path) {
	optional := func(value string, check func(string) fault, path *field.Path, name string) {
		if value != "" {
			c.failFault(check(value), path, name)
		}
	}
	if r := t.RedirectInfo; r != nil {
		directory := func(value string) fault { return remoteDirectoryFault(value, outputSchemes) }
		p := path.Child("redirectInfo")
		optional(r.StdoutRedirectPath, directory, p, "stdoutRedirectPath")
		optional(r.StderrRedirectPath, directory, p, "stderrRedirectPath")
		optional(r.StdoutRedirectFileName, fileNameFault, p, "stdoutRedirectFileName")
		optional(r.StderrRedirectFileName, fileNameFault, p, "stderrRedirectFileName")
	}
	if r := t.RedirectLocalInfo; r != nil {
		p := path.Child("redirectLocalInfo")
		optional(r.StdoutLocalPath, localPathFault, p, "stdoutLocalPath")
		optional(r.StderrLocalPath, localPathFault, p, "stderrLocalPath")
		optional(r.StdoutLocalFileName, fileNameFault, p, "stdoutLocalFileName")
		optional(r.StderrLocalFileName, fileNameFault, p, "stderrLocalFileName")
	}
}

func (c *checker) checkAuthentication(a *v1alpha1.Authentication, path *field.Path) {
	if c.required(a.Scene, path, "scene") {
		c.oneOf(a.Scene, scenes, errcode.InvalidParameterValue, path, "scene")
	}
	c.required(a.SecretID, path, "secretId")
	if a.SecretKeySecretRef == nil {
		c.fail(errcode.MissingParameter, path, "secretKeySecretRef", "must name the Secret that has the key")
	}
	c.checkSecretRef(a.SecretKeySecretRef, path, "secretKeySecretRef")
}

// checkMountPoint checks a required local path that something is mounted at: nothing
// else of the task may be. Logs may share a directory. It says whether the path is in order.
func (c *checker) checkMountPoint(value string, path *field.Path, name string) bool {
	if !c.required(value, path, name) {
		return false
	}
	if f := localPathFault(value); f.code != "" {
		c.failFault(f, path, name)
		return false
	}
	place := samePlace(value)
	again := c.mounted[place]
	if again {
		c.fail(errcode.LocalPath, path, name, "must be used once, got %s again", quote(value))
	}
	if c.mounted == nil {
		c.mounted = map[string]bool{}
	}
	c.mounted[place] = true
	return !again
}

// failFault records the fault of a path, if there is one.
func (c *checker) failFault(f fault, path *field.Path, name string) {
	if f.code != "" {
		c.fail(f.code, path, name, "%s", f.detail)
	}
}

// atMost checks the length of a list.
func (c *checker) atMost(n, limit int, what string, path *field.Path, name string) {
	if n > limit {
		c.fail(errcode.LimitExceeded, path, name, "must be at most %d %s, got %d", limit, what, n)
	}
}

// requiredNumber checks a number that must be given and not negative.
func (c *checker) requiredNumber(v *int64, path *field.Path, name string) (int64, bool) {
	if v == nil {
		c.fail(errcode.MissingParameter, path, name, "must be given")
	}
	return c.notNegative(v, path, name)
}
