// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"cmp"
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"

	"batchcompute.dev/operator/api/v1alpha1"
)

// sourceAdvice are the rows about where data comes from, of a ComputeEnv and, the same, of a task.
var sourceAdvice = []adviceRow{
	{
		field: "authentications",
		when:  func(v reflect.Value) bool { return v.Len() > 1 },
		text:  "has several keys for COS; the first one counts",
	},
	{field: "inputMappings[].mountType", text: "has no effect: objects are copied to the machine before the command starts"},
	{
		field: "inputMappings[]",
		asks:  (*subject).ignoresMountOptions,
		text:  "has a mountOptionParameter without effect: objects are copied, and NFS takes options only with a csiDriver of the operator's catalogue",
	},
	{field: "inputMappings[].sourcePath", when: hasPlaceholder, text: placeholderText},
	{field: "inputMappings[].destinationPath", when: hasAnyPlaceholder, text: localText},
	unknownStore("inputMappings[].sourcePath"),
}

// unknownStore is the row of a remote path.
func unknownStore(field string) adviceRow {
	return adviceRow{
		field: field, asks: (*subject).isUnknownStore,
		text: "has a host that is not BUCKET-APPID.cos.REGION.myqcloud.com, and the operator's catalogue has no store for it: ",
		says: func(s *subject, v reflect.Value) string {
			bucket, _, _ := strings.Cut(cosHost(v.String()), ".")
			store, _ := s.offers.Store(cosHost(v.String()))
			text := fmt.Sprintf("bucket %s of %s is used", bucket, store.Endpoint)
			if len(text) > maxStoreText {
				text = text[:maxStoreText-3] + "..."
			}
			return text
		},
	}
}

// maxStoreText bounds what a warning repeats of a host. Unit: bytes.
const maxStoreText = 60

// cosHost returns the host of a cos:// path; "" of any other.
func cosHost(remote string) string {
	rest, ok := strings.CutPrefix(remote, "cos://")
	if !ok {
		return ""
	}
	host, _, _ := strings.Cut(rest, "/")
	return host
}

// isUnknownStore reports whether neither the catalogue nor the vendor's form says which store a remote path means. It
// does so once for a host: all paths of a job may have the same one.
func (s *subject) isUnknownStore(v reflect.Value) bool {
	host := cosHost(v.String())
	if !isHost(host) || s.offers == nil || s.hosts[host] || s.offers.KnowsHost(host) {
		return false
	}
	if s.hosts == nil {
		s.hosts = map[string]bool{}
	}
	s.hosts[host] = true
	return true
}

// insideOutput is the row of a field whose path is a mount.
func insideOutput(field string) adviceRow {
	return adviceRow{
		field: field, asks: func(s *subject, v reflect.Value) bool { return s.outputAround(v.String()) >= 0 },
		text: "lies inside ",
		says: func(s *subject, v reflect.Value) string {
			return fmt.Sprintf("outputMappings[%d].sourcePath, which does not store it: it is another file system", s.outputAround(v.String()))
		},
	}
}

// dataAdvice are the rows about what tasks read and store.
var dataAdvice = slices.Concat(ofTasks(sourceAdvice), placeholderAdvice(), []adviceRow{
	unknownStore("job.tasks[].application.packagePath"),
	unknownStore("job.tasks[].outputMappings[].destinationPath"),
	unknownStore("job.tasks[].redirectInfo.stdoutRedirectPath"),
	unknownStore("job.tasks[].redirectInfo.stderrRedirectPath"),
	insideOutput("job.tasks[].inputMappings[].destinationPath"),
	insideOutput("job.tasks[].computeEnv.mountDataDisks[].localPath"),
	insideOutput("job.tasks[].computeEnv.kubernetes.volumeMounts[].mountPath"),
	{
		field: "job.tasks[].outputMappings[]",
		asks:  (*subject).sharesOutput,
		text:  "stores the files of all instances in one place, where they overwrite each other's: put ${BATCH_TASK_INSTANCE_INDEX} into destinationPath, or into the names",
	},
	{field: "job.tasks[].outputMappings[].outputMappingOption.workspace", when: is("GLOBAL_WORKSPACE"), text: "has no effect: sourcePath is a directory of the container"},
	{
		field: "job.tasks[].outputMappingConfigs",
		when:  func(v reflect.Value) bool { return v.Len() > 1 },
		text:  "has several entries; the last one counts",
	},
	{
		field: "job.tasks[].redirectInfo",
		asks:  (*subject).sharesLog,
		text:  "gives the logs of several instances, or stdout and stderr, the name of one object, which has the last of them: use the placeholders, or no file name",
	},
})

// What is said of a $ that somebody may take for a placeholder.
const (
	placeholderText = "has a $ that is not replaced: only ${BATCH_JOB_ID}, ${BATCH_TASK_NAME} and ${BATCH_TASK_INSTANCE_INDEX} are, with braces"
	localText       = "has a $ that is not replaced: placeholders are replaced in remote paths, subPath and names of files, not in directories of the container"
)

// placeholderAdvice are the rows about placeholders of a task beside those of sourceAdvice and of what has other rows.
func placeholderAdvice() (rows []adviceRow) {
	for _, field := range []string{
		"application.packagePath", "outputMappings[].destinationPath", "redirectInfo.stdoutRedirectPath", "redirectInfo.stderrRedirectPath",
		"redirectInfo.stdoutRedirectFileName", "redirectInfo.stderrRedirectFileName", "redirectLocalInfo.stdoutLocalFileName", "redirectLocalInfo.stderrLocalFileName",
	} {
		rows = append(rows, adviceRow{field: field, when: hasPlaceholder, text: placeholderText})
	}
	rows = append(rows, adviceRow{
		field: "computeEnv.kubernetes.volumeMounts[].subPath", when: func(v reflect.Value) bool { return hasDollar(v.String(), variablePlaceholders) },
		text: "has a $ that is not replaced: write ${NAME} for a variable of the instance",
	})
	for _, field := range []string{
		"outputMappings[].sourcePath", "redirectLocalInfo.stdoutLocalPath", "redirectLocalInfo.stderrLocalPath",
		"computeEnv.mountDataDisks[].localPath", "computeEnv.kubernetes.volumeMounts[].mountPath",
	} {
		rows = append(rows, adviceRow{field: field, when: hasAnyPlaceholder, text: localText})
	}
	return ofTasks(rows)
}

// ofTasks are the same rows for tasks.
func ofTasks(rows []adviceRow) []adviceRow {
	out := slices.Clone(rows)
	for i := range out {
		out[i].field = "job.tasks[]." + out[i].field
	}
	return out
}

// hasPlaceholder reports whether a remote path, or the name of a file, has what looks like a placeholder, and is none.
func hasPlaceholder(v reflect.Value) bool { return hasDollar(v.String(), placeholders) }

// hasAnyPlaceholder reports whether a directory of the container has what looks like a placeholder.
func hasAnyPlaceholder(v reflect.Value) bool { return hasDollar(v.String(), nil) }

// variablePlaceholders may stand in subPath.
var variablePlaceholders = func() (all []string) {
	for _, name := range systemVariables {
		all = append(all, "${"+name+"}")
	}
	return all
}()

// hasDollar reports whether a text has a $ before a name, with brackets or without, which is not that of a placeholder.
func hasDollar(text string, replaced []string) bool {
	for {
		i := strings.IndexByte(text, '$')
		if i < 0 || i+1 == len(text) {
			return false
		}
		text = text[i:]
		known := slices.IndexFunc(replaced, func(p string) bool { return strings.HasPrefix(text, p) })
		if known >= 0 {
			text = text[len(replaced[known]):]
			continue
		}
		if ch := text[1]; isLetter(ch) || strings.IndexByte("_{(", ch) >= 0 {
			return true
		}
		text = text[1:]
	}
}

// outputAround returns the index of the first OutputMapping of the task whose directory has a path inside it;
// negative if none has. What is mounted there is no part of what is stored.
func (s *subject) outputAround(inside string) int {
	if s.task == nil || inside == "" {
		return -1
	}
	inside = samePlace(inside)
	return slices.IndexFunc(s.task.OutputMappings, func(m v1alpha1.OutputMapping) bool {
		dir := samePlace(m.SourcePath)
		return m.SourcePath != "" && inside != dir && isBelow(inside, dir)
	})
}

// indexPlaceholder makes names differ between the instances of a task.
const indexPlaceholder = "${" + v1alpha1.EnvTaskInstanceIndex + "}"

// ignoresMountOptions reports whether the options of an InputMapping have no effect. Nobody knows without a
// catalogue.
func (s *subject) ignoresMountOptions(v reflect.Value) bool {
	m := v.Interface().(v1alpha1.InputMapping)
	scheme, rest, _ := strings.Cut(m.SourcePath, "://")
	host, _, _ := strings.Cut(rest, "/")
	return strings.TrimSpace(m.MountOptionParameter) != "" &&
		(scheme == "cos" || s.offers != nil && s.offers.FileSystem(strings.TrimSuffix(host, ":")).CSIDriver == "")
}

// severalInstances reports whether the task has more than one instance.
func (s *subject) severalInstances() bool {
	return s.task != nil && s.task.TaskInstanceNum != nil && *s.task.TaskInstanceNum > 1
}

// sharesOutput reports whether several instances store an OutputMapping in one place.
func (s *subject) sharesOutput(v reflect.Value) bool {
	m := v.Interface().(v1alpha1.OutputMapping)
	return s.severalInstances() && !strings.Contains(m.DestinationPath, indexPlaceholder)
}

// sharesLog reports whether several streams are stored as one object.
func (s *subject) sharesLog(v reflect.Value) bool {
	r := v.Interface().(v1alpha1.RedirectInfo)
	name := func(dir, file, stream string) string {
		if dir == "" {
			return ""
		}
		return dir + cmp.Or(file, stream+indexPlaceholder)
	}
	out, err := name(r.StdoutRedirectPath, r.StdoutRedirectFileName, "stdout"), name(r.StderrRedirectPath, r.StderrRedirectFileName, "stderr")
	shared := func(name string) bool { return name != "" && !strings.Contains(path.Clean(name), indexPlaceholder) }
	return out != "" && out == err || s.severalInstances() && (shared(out) || shared(err))
}
