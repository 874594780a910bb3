// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/dockerrun"
	"batchcompute.dev/operator/internal/errcode"
)

// Limits of a task.
const (
	// maxCommand is the length of application.command. Unit: bytes.
	maxCommand = 16 << 10
	// maxCommands counts the commands of one task; the API documents no number.
	maxCommands = 100
	// maxPullRetries and maxPullDelay are the API's. Source: BatchCompute, Docker. The delay
	// is in seconds.
	maxPullRetries = 10
	maxPullDelay   = 360
	// maxMaxConcurrentNum is the API's. Source: BatchCompute, Task.MaxConcurrentNum.
	maxMaxConcurrentNum = 200_000
	// maxTimeout is the longest deadline that a Pod can have. Unit: seconds.
	maxTimeout = math.MaxInt32
	// maxEnvVars and maxMappings count the variables, and the mappings of one kind, of
	// one task.
	maxEnvVars  = 100
	maxMappings = 100
	// maxEnvVar is one less than what Linux takes as one string of an environment: the
	// name, = and the value. Unit: bytes.
	maxEnvVar = 128<<10 - 1
)

var (
	deliveryForms = []string{string(v1alpha1.DeliveryFormLocal), string(v1alpha1.DeliveryFormPackage)}
	failedActions = []string{
		string(v1alpha1.FailedActionTerminate), string(v1alpha1.FailedActionInterrupt), string(v1alpha1.FailedActionFastInterrupt),
	}
)

// taskNames says which task has a name: the first one, if several have it.
type taskNames map[string]int

// checkTasks checks spec.job.tasks.
func (c *checker) checkTasks(tasks []v1alpha1.Task, job *field.Path) taskNames {
	if len(tasks) == 0 {
		c.fail(errcode.MissingParameter, job, "tasks", "must have at least one task")
	}
	c.atMost(len(tasks), v1alpha1.MaxTasks, "tasks", job, "tasks")
	names := make(taskNames, len(tasks))
	instances := sumInstances(tasks)
	path := job.Child("tasks")
	for i := range tasks {
		p := path.Index(i)
		c.checkTaskName(tasks, i, names, p)
		c.checkInstanceNum(tasks, instances, i, p)
		c.checkTask(&tasks[i], p)
	}
	return names
}

// checkTaskName checks the name of task i and adds it to names. The only task of a
// job may be without one, and has the default name then.
func (c *checker) checkTaskName(tasks []v1alpha1.Task, i int, names taskNames, path *field.Path) {
	name := tasks[i].TaskName
	switch {
	case name == "" && len(tasks) > 1:
		c.fail(errcode.TaskName, path, "taskName", "must be given when the job has more than one task")
		return
	case name == "":
		name = v1alpha1.DefaultTaskName
	case longerThan(name, v1alpha1.MaxTaskNameLength):
		c.fail(errcode.TaskNameTooLong, path, "taskName", "must be at most %d characters, got %s", v1alpha1.MaxTaskNameLength, quote(name))
	case !isTaskName(name):
		c.fail(errcode.TaskName, path, "taskName",
			"must be letters, digits, - and _, beginning with a letter or a digit, got %s", quote(name))
	}
	if first, ok := names[name]; ok {
		c.fail(errcode.TaskName, path, "taskName", "must be unique in the job, got %s as in tasks[%d]", quote(name), first)
		return
	}
	names[name] = i
}

// isTaskName is ^[A-Za-z0-9][A-Za-z0-9_-]*$.
func isTaskName(s string) bool {
	for i := range len(s) {
		if ch := s[i]; !isAlphanumeric(ch) && (i == 0 || ch != '-' && ch != '_') {
			return false
		}
	}
	return s != ""
}

func isLetter(ch byte) bool { return 'a' <= ch|0x20 && ch|0x20 <= 'z' }

func isDigit(ch byte) bool { return '0' <= ch && ch <= '9' }

func isAlphanumeric(ch byte) bool { return isLetter(ch) || isDigit(ch) }

// instanceSum is how many instances a job has.
type instanceSum struct {
	sum  int64
	most int // the first task of those with the most instances
}

func sumInstances(tasks []v1alpha1.Task) instanceSum {
	var s instanceSum
	for i := range tasks {
		s.sum += min(instancesOf(&tasks[i]), 1<<40) // so that it cannot overflow
		if instancesOf(&tasks[i]) > instancesOf(&tasks[s.most]) {
			s.most = i
		}
	}
	return s
}

// checkInstanceNum checks the number of instances of task i, and, at the task that has the
// most, the limit of the job.
func (c *checker) checkInstanceNum(tasks []v1alpha1.Task, s instanceSum, i int, path *field.Path) {
	n := int64(1)
	if given := tasks[i].TaskInstanceNum; given != nil {
		var ok bool
		if n, ok = c.notNegative(given, path, "taskInstanceNum"); !ok {
			return
		}
	}
	if n == 0 {
		c.fail(errcode.TaskInstanceNum, path, "taskInstanceNum", "must be 1 or more, got 0")
		return
	}
	if s.sum > v1alpha1.MaxTaskInstances && i == s.most {
		most := ""
		if len(tasks) > 1 {
			most = fmt.Sprintf(", %d of them in this task", n)
		}
		c.fail(errcode.TaskInstanceNum, path, "taskInstanceNum",
			"must be at most %d over all tasks of the job together, got %d%s", v1alpha1.MaxTaskInstances, s.sum, most)
	}
}

// checkTask checks what a task says apart from its name and its number of instances.
func (c *checker) checkTask(t *v1alpha1.Task, path *field.Path) {
	clear(c.mounted)
	c.checkTemplateName(t.TaskTemplate, path)
	c.checkApplication(t, path.Child("application"))
	c.checkEnvironment(t, path)
	c.checkEnvVars(t.EnvVars, path)
	c.within(t.MaxRetryCount, 0, v1alpha1.MaxRetryCountLimit, errcode.MaxRetryCount, path, "maxRetryCount")
	c.within(t.Timeout, 0, maxTimeout, errcode.InvalidParameterValue, path, "timeout")
	c.within(t.MaxConcurrentNum, 0, maxMaxConcurrentNum, errcode.InvalidParameterValue, path, "maxConcurrentNum")
	c.within(t.ResourceMaxRetryCount, 0, v1alpha1.MaxResourceRetryCount, errcode.MaxRetryCount, path, "resourceMaxRetryCount")
	c.oneOf(string(t.FailedAction), failedActions, errcode.InvalidParameterValue, path, "failedAction")
	c.checkStorage(t, path)
}

func (c *checker) checkApplication(t *v1alpha1.Task, path *field.Path) {
	a := &t.Application
	form := string(a.DeliveryForm)
	if c.required(form, path, "deliveryForm") {
		c.oneOf(form, deliveryForms, errcode.InvalidParameterValue, path, "deliveryForm")
	}
	c.checkCommands(a, path)
	c.checkPackage(a, path)
	if d := a.Docker; d != nil {
		c.checkDocker(d, path.Child("docker"))
		if d.DockerRunOption != "" {
			c.checkDockerRunOption(d.DockerRunOption, t, path.Child("docker"))
		}
	}
}

// checkCommands checks that exactly one of command and commands is given, and that one.
func (c *checker) checkCommands(a *v1alpha1.Application, path *field.Path) {
	if len(a.Commands) == 0 {
		if c.required(a.Command, path, "command") {
			c.checkCommand(a.Command, path)
		}
		return
	}
	if a.Command != "" {
		c.fail(errcode.InvalidParameterCombination, path, "commands", "must not be given together with command")
	}
	c.atMost(len(a.Commands), maxCommands, "commands", path, "commands")
	for i := range a.Commands {
		p := path.Child("commands").Index(i)
		if c.required(a.Commands[i].Command, p, "command") {
			c.checkCommand(a.Commands[i].Command, p)
		}
	}
	c.refuse("job.tasks[].application.commands", path, "commands")
}

func (c *checker) checkCommand(command string, path *field.Path) {
	switch {
	case strings.TrimSpace(command) == "":
		c.fail(errcode.InvalidParameterValue, path, "command", "must not be blank")
	case len(command) > maxCommand:
		c.fail(errcode.InvalidParameterValue, path, "command", "must be at most %d bytes, got %d", maxCommand, len(command))
	case strings.IndexByte(command, 0) >= 0:
		c.fail(errcode.InvalidParameterValue, path, "command", "must not have a NUL character")
	}
}

func (c *checker) checkDocker(d *v1alpha1.Docker, path *field.Path) {
	if c.required(d.Image, path, "image") && !isImageReference(d.Image) {
		c.fail(errcode.InvalidParameterValue, path, "image", "must be a container image such as registry.example/team/app:1.2, got %s", quote(d.Image))
	}
	if d.Server != "" && !isRegistry(d.Server) {
		c.fail(errcode.InvalidParameterValue, path, "server", "must be a host name, with a port or without, got %s", quote(redact(d.Server)))
	}
	c.checkSecretRef(d.PasswordSecretRef, path, "passwordSecretRef")
	c.within(d.MaxRetryCount, 0, maxPullRetries, errcode.MaxRetryCount, path, "maxRetryCount")
	c.within(d.DelayOnRetry, 1, maxPullDelay, errcode.InvalidParameterValue, path, "delayOnRetry")
}

// checkDockerRunOption checks the options that a task has for docker run.
func (c *checker) checkDockerRunOption(text string, t *v1alpha1.Task, path *field.Path) {
	o, err := dockerrun.Parse(text)
	if o.ShmSize != nil {
		if c.mounted == nil {
			c.mounted = map[string]bool{}
		}
		c.mounted[samePlace("/dev/shm")] = true
	}
	switch {
	case err != nil:
		c.fail(errcode.InvalidParameterValue, path, "dockerRunOption", "%s", err.Error())
	case o.AllGPUs && !c.haveGPUs(t.ComputeEnv):
		c.fail(errcode.InvalidParameterValue, path, "dockerRunOption",
			"must have a number after --gpus: all works only with instanceType or instanceTypes that all have %s", resourceGPU)
	default:
		c.checkDockerPolicy(o, path)
	}
}

// resourceGPU is the resource that --gpus asks for.
const resourceGPU = "nvidia.com/gpu"

// haveGPUs says whether the machine types of a computeEnv are named, and all have GPUs as
// far as the catalogue knows. A type that it does not know is refused elsewhere.
func (c *checker) haveGPUs(env *v1alpha1.AnonymousComputeEnv) bool {
	if env == nil || env.EnvData == nil || env.EnvData.InstanceType == "" && len(env.EnvData.InstanceTypes) == 0 {
		return false
	}
	if c.offers == nil {
		return true
	}
	without := func(name string) bool {
		t := c.offers.InstanceType(name)
		return t != nil && t.Resources.Name(resourceGPU, resource.DecimalSI).IsZero()
	}
	return !without(env.EnvData.InstanceType) && !slices.ContainsFunc(env.EnvData.InstanceTypes, without)
}

// maxEnvID is the length of envId: that of a label's value.
const maxEnvID = maxLabelValue

// checkEnvID checks that envId names a ComputeEnv.
func (c *checker) checkEnvID(id string, path *field.Path) {
	if len(id) > maxEnvID || !isObjectName(id) {
		c.fail(errcode.EnvIDMalformed, path, "envId",
			"must be the name of a ComputeEnv, or its status.envId: lower-case letters, digits, - and ., at most %d; got %s", maxEnvID, quote(id))
		return
	}
	if c.Envs == nil {
		return
	}
	switch c.Envs(id) {
	case EnvFound:
	case EnvDeleting:
		c.fail(errcode.ComputeEnvNotFound, path, "envId", "must name a ComputeEnv that is not being deleted, got %s", quote(id))
	default:
		c.fail(errcode.ComputeEnvNotFound, path, "envId", "must be the name or the status.envId of a ComputeEnv of the namespace, got %s", quote(id))
	}
}

// checkEnvironment checks that exactly one of computeEnv and envId is given, and
// that one.
func (c *checker) checkEnvironment(t *v1alpha1.Task, path *field.Path) {
	switch {
	case t.ComputeEnv != nil && t.EnvID != "":
		c.fail(errcode.AllowedOneAttributeInEnvIDAndComputeEnv, path, "envId", "must not be given together with computeEnv")
	case t.ComputeEnv == nil && t.EnvID == "":
		c.fail(errcode.AllowedOneAttributeInEnvIDAndComputeEnv, path, "computeEnv", "must be given when envId is not; computeEnv: {} is enough")
	case t.EnvID != "":
		c.checkEnvID(t.EnvID, path)
	}
	if t.ComputeEnv != nil {
		c.checkComputeEnv(t.ComputeEnv, path.Child("computeEnv"))
	}
}

func (c *checker) checkEnvVars(vars []v1alpha1.EnvVar, path *field.Path) {
	c.atMost(len(vars), maxEnvVars, "variables", path, "envVars")
	for i := range vars {
		c.checkEnvVar(&vars[i], i, path)
	}
}

func (c *checker) checkEnvVar(v *v1alpha1.EnvVar, i int, path *field.Path) {
	fail := func(code errcode.Code, name, format string, args ...any) {
		c.fail(code, path.Child("envVars").Index(i), name, format, args...)
	}
	switch {
	case v.Name == "":
		fail(errcode.MissingParameter, "name", "must be given")
	case !isVariableName(v.Name):
		fail(errcode.InvalidParameterValue, "name", "must be letters, digits and _, not beginning with a digit, got %s", quote(v.Name))
	case strings.HasPrefix(v.Name, v1alpha1.EnvReservedPrefix):
		fail(errcode.InvalidParameterValue, "name", "must not begin with %s, which is reserved, got %s", v1alpha1.EnvReservedPrefix, quote(v.Name))
	}
	if strings.IndexByte(v.Value, 0) >= 0 {
		fail(errcode.InvalidParameterValue, "value", "must not have a NUL character")
	} else if n := len(v.Name) + 1 + len(v.Value); n > maxEnvVar {
		fail(errcode.InvalidParameterValue, "value", "must be at most %d bytes together with its name, got %d", maxEnvVar, n)
	}
}

// isVariableName is ^[A-Za-z_][A-Za-z0-9_]*$.
func isVariableName(s string) bool {
	for i := range len(s) {
		if ch := s[i]; !isLetter(ch) && ch != '_' && (i == 0 || !isDigit(ch)) {
			return false
		}
	}
	return s != ""
}
