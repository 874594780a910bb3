// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"batchcompute.dev/operator/api/v1alpha1"
)

// adviceRow is a warning about a value that is allowed but probably not meant.
type adviceRow struct {
	field string                   // as in carried
	when  func(reflect.Value) bool // as in carried
	// Each of these, if given, must say yes too: of the task that the value is part of, of
	// the job, of the catalogue.
	task    func(*v1alpha1.Task) bool
	job     func(*v1alpha1.Job) bool
	offered func(offers) bool
	// item, if given, chooses the item of the list that field ends with, by the machine that
	// the list is part of; negative: none.
	item func(machine) int
	// asks, if given, is when with the subject.
	asks func(*subject, reflect.Value) bool
	text string
	// says, if given, is put behind text: what depends on the value.
	says func(*subject, reflect.Value) string
}

const derivedText = "is not in the operator's catalogue: its size was derived from its name"

// secretText is said of every reference to a Secret that pulls images, since the operator has
// no right to read Secrets.
const secretText = "was not checked, since the operator does not read Secrets: if the Secret is missing or wrong, a node can run the image only if it has it already"

// machine is what a task's computeEnv and a ComputeEnv have in common for advice.
type machine struct {
	data   *v1alpha1.EnvData
	mounts []v1alpha1.MountDataDisk
}

// hasEnvID says whether a task runs in a ComputeEnv.
func hasEnvID(t *v1alpha1.Task) bool { return t.EnvID != "" }

// given counts any value.
func given(reflect.Value) bool { return true }

// notMounted returns the first data disk that no mount is for, or -1.
func notMounted(m machine) int {
	if m.data == nil {
		return -1
	}
	mounts := len(m.mounts)
	for i := range m.data.DataDisks {
		if size := m.data.DataDisks[i].DiskSize; size == nil || *size == 0 {
			continue
		}
		if mounts == 0 {
			return i
		}
		mounts--
	}
	return -1
}

// withoutDisk returns the first mount if there is no data disk at all, or -1.
func withoutDisk(m machine) int {
	if len(m.mounts) == 0 || m.data != nil && slices.ContainsFunc(m.data.DataDisks, isDisk) {
		return -1
	}
	return 0
}

// advice are the rows for BatchJobs; those for job.tasks[].computeEnv hold for ComputeEnvs
// as well.
var advice = []adviceRow{
	{
		field: "job.tasks[].application.command",
		when:  func(v reflect.Value) bool { return holdsCredential(v.String()) },
		text:  "seems to contain a credential; everybody who may read the BatchJob or its Pods can see it",
	},
	{
		field: "job.tasks[].application.command",
		when:  func(v reflect.Value) bool { return strings.ContainsRune(v.String(), '\r') },
		text:  `has carriage returns (\r): save it with Unix line ends, since the shell treats them as parts of words`,
	},
	{
		field: "job.tasks[].application.command",
		when:  func(v reflect.Value) bool { return strings.HasPrefix(v.String(), "\ufeff") },
		text:  "begins with a byte order mark, which the shell takes for a part of the first word: save it without one",
	},
	{
		field: "job.tasks[].application",
		when: func(v reflect.Value) bool {
			a := v.Interface().(v1alpha1.Application)
			return a.PackagePath != "" && a.DeliveryForm == v1alpha1.DeliveryFormLocal
		},
		text: "has a packagePath, which has no effect when deliveryForm is LOCAL",
	},
	{
		field: "job.tasks[].envVars",
		when: func(v reflect.Value) bool {
			vars := v.Interface().([]v1alpha1.EnvVar)
			seen := make(map[string]bool, len(vars))
			for i := range vars {
				if seen[vars[i].Name] {
					return true
				}
				seen[vars[i].Name] = true
			}
			return false
		},
		text: "has a name twice; the last value counts",
	},
	{
		field: "job.tasks[].application.docker.dockerRunOption",
		when:  func(v reflect.Value) bool { return holdsCredential(v.String()) },
		text:  "seems to contain a credential; everybody who may read the BatchJob or its Pods can see it",
	},
	{field: "job.tasks[].application.docker.passwordSecretRef", when: given, text: secretText},
	{field: "job.tasks[].computeEnv.kubernetes.imagePullSecrets", text: secretText},
	{
		field: "job.tasks[].computeEnv.kubernetes.env[]",
		when: func(v reflect.Value) bool {
			e := v.Interface().(v1alpha1.KubernetesEnvVar)
			return isSecretName(e.Name) && isLiteral(e.Value) || holdsCredential(e.Value)
		},
		text: "seems to contain a credential; everybody who may read the BatchJob or its Pods can see it: use valueFrom.secretKeyRef",
	},
	{
		field:   "job.tasks[].computeEnv.envData.instanceChargeType",
		when:    is("SPOTPAID"),
		offered: func(o offers) bool { _, ok := o.ChargeType("SPOTPAID"); return !ok },
		text:    "has no effect in this cluster: the operator's catalogue has no charge type SPOTPAID",
	},
	{
		field: "job.tasks[].computeEnv.envData.dataDisks[]",
		item:  notMounted,
		text:  "is not mounted, so it has no effect; add a mount to mountDataDisks",
	},
	{
		field: "job.tasks[].computeEnv.envData.instanceType",
		asks:  (*subject).isDerived,
		text:  derivedText,
	},
	{
		field: "job.tasks[].computeEnv.envData.instanceTypes[]",
		asks:  (*subject).isDerived,
		text:  derivedText,
	},
	{
		field: "job.tasks[].computeEnv.mountDataDisks[]",
		item:  withoutDisk,
		text:  "has no data disk: it becomes a directory of the system disk",
	},
	{
		field: "job.tasks[].resourceMaxRetryCount",
		when:  given,
		task:  hasEnvID,
		text:  "has no effect with envId: that of the ComputeEnv applies",
	},
	{
		field: "job.tasks[].failedAction",
		when:  func(v reflect.Value) bool { return v.String() != string(v1alpha1.FailedActionTerminate) },
		task:  hasEnvID,
		text:  "has no effect with envId",
	},
	{
		field: "job.stateIfCreateCvmFailed",
		when:  is(string(v1alpha1.CreateCvmFailedRunnable)),
		job: func(j *v1alpha1.Job) bool {
			return slices.ContainsFunc(j.Tasks, func(t v1alpha1.Task) bool { return hasEnvID(&t) })
		},
		text: "has no effect for tasks with envId",
	},
	{
		field: "job.tasks[].envVars[]",
		when: func(v reflect.Value) bool {
			e := v.Interface().(v1alpha1.EnvVar)
			return isSecretName(e.Name) && isLiteral(e.Value) || holdsCredential(e.Value)
		},
		text: "seems to contain a credential; everybody who may read the BatchJob or its Pods can see it",
	},
}

// lastApplied is where kubectl apply keeps the manifest, with fields that the API server has dropped.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// appliedSecrets warns of credentials that the API has and the kinds here have not: the API server drops the
// fields, if it was told not to refuse them, and kubectl keeps what they had.
func appliedSecrets(annotations map[string]string) (lines []string) {
	for _, f := range [...]struct{ field, instead string }{{"secretKey", "secretKeySecretRef"}, {"password", "passwordSecretRef"}} {
		if strings.Contains(annotations[lastApplied], `"`+f.field+`":`) {
			lines = append(lines, fmt.Sprintf("metadata.annotations[%s] has a %s, which everybody who may read this object can see: replace that credential, and use %s",
				lastApplied, f.field, f.instead))
		}
	}
	return lines
}

// secretWords are the words before a credential, in lower case.
var secretWords = []string{"password", "passwd", "secret", "secretkey", "secret_key", "secret-key", "token", "apikey", "api_key", "api-key", "accesskey", "access_key", "access-key"}

// holdsCredential guesses whether a text has a credential in it, as opposed to a
// reference to one such as $TOKEN or a file's name: a private key, a key identifier of
// Tencent Cloud or AWS, a user and password in a URL, an Authorization header, or
// password=… and its like. Cost: linear; of a text that is too long to be accepted,
// only the beginning is looked at.
func holdsCredential(s string) bool {
	s = s[:min(len(s), maxEnvVar)]
	if strings.Contains(s, "PRIVATE KEY-----") || hasKeyID(s, "AKID", 32) || hasKeyID(s, "AKIA", 16) || hasUserInURL(s) {
		return true
	}
	lower := strings.ToLower(s)
	if at := strings.Index(lower, "authorization:"); at >= 0 {
		rest := strings.TrimLeft(window(lower[at+len("authorization:"):]), " ")
		for _, scheme := range [...]string{"bearer ", "basic "} {
			if value, ok := strings.CutPrefix(rest, scheme); ok && isLiteral(value) {
				return true
			}
		}
	}
	for _, word := range secretWords {
		for rest := lower; ; {
			i := strings.Index(rest, word)
			if i < 0 {
				break
			}
			option := i >= 2 && rest[i-2:i] == "--"
			rest = rest[i+len(word):]
			if isAssigned(window(rest), option) {
				return true
			}
		}
	}
	return false
}

// window is as much of a text as is looked at behind a word, so that the whole stays
// linear.
func window(s string) string { return s[:min(len(s), 64)] }

// isAssigned says whether what follows a word gives it a literal value: =value, :value
// or, behind an option, a space and the value.
func isAssigned(s string, option bool) bool {
	s = strings.TrimLeft(s, `"'`)
	value := strings.TrimLeft(s, " ")
	spaced := option && len(value) < len(s)
	if value != "" && (value[0] == '=' || value[0] == ':') {
		return isLiteral(strings.TrimLeft(value[1:], " "))
	}
	return spaced && isLiteral(value)
}

// isLiteral says whether a value is written out: at least 6 characters without a
// space, and neither a reference to something else nor an option nor a file.
func isLiteral(s string) bool {
	s = strings.TrimLeft(s, `"'`)
	end := strings.IndexAny(s, " \t\r\n\"';&|)")
	if end < 0 {
		end = len(s)
	}
	return end >= 6 && !strings.ContainsRune("$<{%/.-*`(@~", rune(s[0]))
}

// hasKeyID looks for a prefix that n or more letters and digits follow.
func hasKeyID(s, prefix string, n int) bool {
	for {
		i := strings.Index(s, prefix)
		if i < 0 {
			return false
		}
		s = s[i+len(prefix):]
		if len(s) >= n && only(s[:n], "") {
			return true
		}
	}
}

// hasUserInURL looks for scheme://user:password@.
func hasUserInURL(s string) bool {
	for {
		i := strings.Index(s, "://")
		if i < 0 {
			return false
		}
		s = s[i+len("://"):]
		authority := s[:min(len(s), 512)]
		if end := strings.IndexAny(authority, "/ \t\n\"'"); end >= 0 {
			authority = authority[:end]
		}
		user, _, ok := strings.Cut(authority, "@")
		if _, password, colon := strings.Cut(user, ":"); ok && colon && password != "" && !strings.ContainsRune("$<{%*", rune(password[0])) {
			return true
		}
	}
}

// isSecretName says whether a variable's name speaks of a credential itself, not of
// the file that has it.
func isSecretName(name string) bool {
	lower := strings.ToLower(name)
	for _, suffix := range [...]string{"file", "path", "name", "id"} {
		if strings.HasSuffix(lower, suffix) {
			return false
		}
	}
	for _, word := range secretWords {
		if strings.Contains(lower, word) {
			return true
		}
	}
	return false
}
