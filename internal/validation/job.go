// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"strings"
	"unicode"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
)

// The values of the job's enumerations.
var (
	taskExecutionDependOns = []string{
		string(v1alpha1.PreTaskSucceed), string(v1alpha1.PreTaskAtLeastPartlySucceed), string(v1alpha1.PreTaskFinished),
	}
	statesIfCreateCvmFailed = []string{string(v1alpha1.CreateCvmFailedFailed), string(v1alpha1.CreateCvmFailedRunnable)}
)

// checkJob checks spec.job.
func (c *checker) checkJob(job *v1alpha1.Job, path *field.Path) {
	if longerThan(job.JobName, v1alpha1.MaxJobNameLength) {
		c.fail(errcode.JobNameTooLong, path, "jobName", "must be at most %d characters, got %s", v1alpha1.MaxJobNameLength, quote(job.JobName))
	} else {
		c.checkPlainText(job.JobName, "", path, "jobName")
	}
	if longerThan(job.JobDescription, v1alpha1.MaxJobDescriptionLength) {
		c.fail(errcode.JobDescriptionTooLong, path, "jobDescription",
			"must be at most %d characters, got %s", v1alpha1.MaxJobDescriptionLength, quote(job.JobDescription))
	} else {
		c.checkPlainText(job.JobDescription, descriptionSpace, path, "jobDescription")
	}
	c.within(job.Priority, 0, v1alpha1.MaxPriority, errcode.InvalidParameterValue, path, "priority")
	names := c.checkTasks(job.Tasks, path)
	c.checkDependences(job, names, path)
	c.oneOf(string(job.TaskExecutionDependOn), taskExecutionDependOns, errcode.InvalidParameterValue, path, "taskExecutionDependOn")
	c.oneOf(string(job.StateIfCreateCvmFailed), statesIfCreateCvmFailed, errcode.InvalidParameterValue, path, "stateIfCreateCvmFailed")
	c.checkNotifications(job.Notifications, path)
	c.checkTags(job.Tags, path)
	c.oneOf(job.NotificationTarget, notificationTargets, errcode.InvalidParameterValue, path, "notificationTarget")
}

// descriptionSpace are the control characters that a description of several lines has.
const descriptionSpace = "\n\r\t"

// checkPlainText checks a text for people, which terminals print as it is: it has no
// control characters other than those in allowed.
func (c *checker) checkPlainText(text, allowed string, path *field.Path, name string) {
	for _, r := range text {
		if unicode.IsControl(r) && !strings.ContainsRune(allowed, r) {
			c.fail(errcode.InvalidParameterValue, path, name, "must not have line ends or other control characters, got %s", quote(text))
			return
		}
	}
}

// Limits of tags. Source: Tencent Cloud, Tag use limits.
const (
	maxTags           = 10
	maxTagKeyLength   = 127
	maxTagValueLength = 255
)

func (c *checker) checkTags(tags []v1alpha1.Tag, path *field.Path) {
	if len(tags) > maxTags {
		c.fail(errcode.InvalidParameterValue, path, "tags", "must be at most %d tags, got %d", maxTags, len(tags))
	}
	seen := make(map[string]int, min(len(tags), maxTags))
	for i, tag := range tags {
		c.checkTag(tag, seen, i, path)
	}
}

func (c *checker) checkTag(tag v1alpha1.Tag, seen map[string]int, i int, path *field.Path) {
	fail := func(code errcode.Code, name, format string, args ...any) {
		c.fail(code, path.Child("tags").Index(i), name, format, args...)
	}
	first, again := seen[tag.Key]
	switch {
	case tag.Key == "":
		fail(errcode.MissingParameter, "key", "must be given")
	case longerThan(tag.Key, maxTagKeyLength):
		fail(errcode.InvalidParameterValue, "key", "must be at most %d characters, got %s", maxTagKeyLength, quote(tag.Key))
	case strings.HasPrefix(tag.Key, "qcs:"), strings.HasPrefix(tag.Key, "project"):
		fail(errcode.InvalidParameterValue, "key", "must not begin with qcs: or project, got %s", quote(tag.Key))
	case strings.ContainsFunc(tag.Key, unicode.IsControl):
		fail(errcode.InvalidParameterValue, "key", "must not have control characters, got %s", quote(tag.Key))
	case again:
		fail(errcode.InvalidParameterValue, "key", "must be unique, got %s as in tags[%d]", quote(tag.Key), first)
	default:
		seen[tag.Key] = i
	}
	if strings.ContainsFunc(tag.Value, unicode.IsControl) {
		fail(errcode.InvalidParameterValue, "value", "must not have control characters, got %s", quote(tag.Value))
	}
	if longerThan(tag.Value, maxTagValueLength) {
		fail(errcode.InvalidParameterValue, "value", "must be at most %d characters, got %s", maxTagValueLength, quote(tag.Value))
	}
}
