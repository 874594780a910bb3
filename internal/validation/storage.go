// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"strings"

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
		c.checkRemote(a.PackagePath, remotePackageFault(a.PackagePath), path, "packagePath")
	} else if a.DeliveryForm == v1alpha1.DeliveryFormPackage {
		c.fail(errcode.MissingParameter, path, "packagePath", "must be given when deliveryForm is PACKAGE")
	}
}

// checkStorage checks where a task gets its data from and where it leaves them.
func (c *checker) checkStorage(t *v1alpha1.Task, path *field.Path) {
	c.checkInputMappings(t.InputMappings, path)
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
		if isWindowsPath(m.DestinationPath) { // that there is no such machine comes first: a source that it can read does not help
			c.checkInputDestination(m, p)
			c.checkInputSource(m, windowsSchemes, " for a destinationPath of Windows", p)
		} else {
			c.checkInputSource(m, inputSchemes, "", p)
			c.checkInputDestination(m, p)
		}
		c.oneOf(m.MountType, mountTypes, errcode.InvalidParameterValue, p, "mountType")
	}
}

// checkInputSource checks where an input comes from; why says why the schemes are those.
func (c *checker) checkInputSource(m *v1alpha1.InputMapping, schemes []string, why string, path *field.Path) {
	if !c.required(m.SourcePath, path, "sourcePath") {
		return
	}
	f := remoteDirectoryFault(m.SourcePath, schemes)
	if f.code == errcode.RemoteStorageSchemeType {
		f.detail = strings.Replace(f.detail, ", got ", why+", got ", 1)
	}
	c.checkRemote(m.SourcePath, f, path, "sourcePath")
	c.checkNFS(m.SourcePath, path)
}

func (c *checker) checkInputDestination(m *v1alpha1.InputMapping, path *field.Path) {
	if c.checkMountPoint(m.DestinationPath, path, "destinationPath") {
		c.checkMachinePath("job.tasks[].inputMappings[].destinationPath", m.DestinationPath, path, "destinationPath")
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
			c.checkLocal("job.tasks[].outputMappings[].sourcePath", m.SourcePath, p, "sourcePath")
		}
		if c.required(m.DestinationPath, p, "destinationPath") {
			c.checkRemote(m.DestinationPath, remoteDirectoryFault(m.DestinationPath, outputSchemes), p, "destinationPath")
		}
		if o := m.OutputMappingOption; o != nil {
			c.oneOf(o.Workspace, workspaces, errcode.InvalidParameterValue, p.Child("outputMappingOption"), "workspace")
		}
	}
}

func (c *checker) checkOutputMappingConfig(m *v1alpha1.OutputMappingConfig, path *field.Path) {
	if c.required(m.Scene, path, "scene") {
		c.oneOf(m.Scene, scenes, errcode.InvalidParameterValue, path, "scene")
	}
	c.requiredNumber(m.WorkerNum, path, "workerNum")
	c.requiredNumber(m.WorkerPartSize, path, "workerPartSize")
}

func (c *checker) checkRedirects(t *v1alpha1.Task, path *field.Path) {
	fileName := func(value string, path *field.Path, name string) {
		if value != "" {
			c.failFault(fileNameFault(value), path, name)
		}
	}
	if r := t.RedirectInfo; r != nil {
		p := path.Child("redirectInfo")
		directory := func(value, name string) {
			if value != "" {
				c.checkRemote(value, remoteDirectoryFault(value, outputSchemes), p, name)
			}
		}
		directory(r.StdoutRedirectPath, "stdoutRedirectPath")
		directory(r.StderrRedirectPath, "stderrRedirectPath")
		fileName(r.StdoutRedirectFileName, p, "stdoutRedirectFileName")
		fileName(r.StderrRedirectFileName, p, "stderrRedirectFileName")
	}
	if r := t.RedirectLocalInfo; r != nil {
		p := path.Child("redirectLocalInfo")
		directory := func(value, name string) {
			if value != "" {
				c.checkLocal("job.tasks[].redirectLocalInfo."+name, value, p, name)
			}
		}
		directory(r.StdoutLocalPath, "stdoutLocalPath")
		directory(r.StderrLocalPath, "stderrLocalPath")
		fileName(r.StdoutLocalFileName, p, "stdoutLocalFileName")
		fileName(r.StderrLocalFileName, p, "stderrLocalFileName")
	}
}

// checkRemote checks a remote path, of which f is the fault of its form: the catalogue must know the store
// of a cos:// path.
func (c *checker) checkRemote(value string, f fault, path *field.Path, name string) {
	if f.code == "" && c.offers != nil {
		if host, ok := strings.CutPrefix(value, "cos://"); ok {
			host, _, _ = strings.Cut(host, "/")
			if _, known := c.offers.Store(host); !known {
				f = badRemote(value, "must have a host that begins with a bucket, such as bucket-1250000000.cos.ap-guangzhou.myqcloud.com, or that the operator's catalogue has a store for")
			}
		}
	}
	c.failFault(f, path, name)
}

// checkLocal checks a directory in the container of the command; row is its path in the table of what is
// not built yet.
func (c *checker) checkLocal(row, value string, path *field.Path, name string) {
	if f := localPathFault(value); f.code != "" {
		c.failFault(f, path, name)
		return
	}
	c.checkMachinePath(row, value, path, name)
}

// checkMachinePath checks that a local path that is well-formed exists on machines of Linux, and may be
// written to.
func (c *checker) checkMachinePath(row, value string, path *field.Path, name string) {
	switch {
	case isWindowsPath(value):
		c.refuse(row, path, name)
	case isBelow(samePlace(value), "/proc"), isBelow(samePlace(value), v1alpha1.OperatorDir), strings.Contains(value, ":"):
		c.fail(errcode.LocalPath, path, name, "must not have a : and not be in /proc or %s, got %s", v1alpha1.OperatorDir, quote(value))
	}
}

func (c *checker) checkAuthentication(a *v1alpha1.Authentication, path *field.Path) {
	if c.required(a.Scene, path, "scene") {
		c.oneOf(a.Scene, scenes, errcode.InvalidParameterValue, path, "scene")
	}
	c.required(a.SecretID, path, "secretId")
	if a.SecretKeySecretRef == nil {
		c.fail(errcode.MissingParameter, path, "secretKeySecretRef", "must name the Secret that has the key; the key itself, secretKey, is no field of a job: "+
			"kubectl create secret generic cos-key --from-file=secretKey=FILE in the job's namespace makes the Secret for secretKeySecretRef: {name: cos-key}")
	}
	c.checkSecretRef(a.SecretKeySecretRef, path, "secretKeySecretRef")
	if a.SecretKeySecretRef != nil {
		c.checkSecretName(a.SecretKeySecretRef.Name, path.Child("secretKeySecretRef"), "name")
	}
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
