// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"math"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
)

// Images is the image catalogue: it maps an identifier such as img-bd78fy2t to a
// container image.
type Images interface {
	Image(id string) (ref string, ok bool)
}

// Validator validates BatchJobs. The zero value works; a Validator may be used by any
// number of goroutines if its Images may.
type Validator struct {
	// Images is asked for every image identifier. Nil: an identifier is checked for
	// its form only.
	Images Images
}

// ValidateCreate returns what is wrong with a new BatchJob, in the order of its
// fields; nil when nothing is. The first problem is what SubmitJob would have
// answered. There are at most MaxProblems; if there were more, the last one counts
// them. job is not changed. Cost: linear in the size of the spec.
func (v Validator) ValidateCreate(job *v1alpha1.BatchJob) []Problem {
	c := &checker{Validator: v}
	spec, path := &job.Spec, field.NewPath("spec")
	c.checkSize(spec, path)
	c.checkPlacement(&spec.Placement, path.Child("placement"), spec.Job.Tasks)
	c.checkJob(&spec.Job, path.Child("job"))
	c.checkToken(spec.ClientToken, path, "clientToken")
	c.checkToken(spec.RetryToken, path, "retryToken")
	c.checkTTL(spec.TTLSecondsAfterFinished, path)
	return c.result()
}

// checkPlacement checks spec.placement. Its zone is required, unless every task
// chooses its own zones.
func (c *checker) checkPlacement(p *v1alpha1.Placement, path *field.Path, tasks []v1alpha1.Task) {
	switch {
	case p.Zone != "":
		c.checkLabelValue(p.Zone, errcode.InvalidParameterValue, path, "zone", single)
	case !allChooseZones(tasks):
		c.fail(errcode.MissingParameter, path, "zone", "must be given, unless every task gives computeEnv.envData.zones")
	}
	c.notNegative(p.ProjectID, path, "projectId")
	for i, id := range p.HostIDs {
		c.checkLabelValue(id, errcode.InvalidParameterValue, path, "hostIds", i)
	}
	for i, ip := range p.HostIPs {
		c.checkIP(ip, errcode.InvalidParameterValue, path, "hostIps", i)
	}
}

// allChooseZones says whether there is a task and each gives zones.
func allChooseZones(tasks []v1alpha1.Task) bool {
	for i := range tasks {
		env := tasks[i].ComputeEnv
		if env == nil || env.EnvData == nil || len(env.EnvData.Zones) == 0 {
			return false
		}
	}
	return len(tasks) > 0
}

// checkToken checks spec.clientToken or spec.retryToken. A token is a name for a request,
// so control characters, which nobody could see, are not taken though they are ASCII.
func (c *checker) checkToken(token string, path *field.Path, name string) {
	if len(token) > v1alpha1.MaxTokenLength {
		c.fail(errcode.InvalidParameterValue, path, name, "must be at most %d ASCII characters, got %d bytes", v1alpha1.MaxTokenLength, len(token))
		return
	}
	for i := range len(token) {
		if token[i] < ' ' || token[i] > '~' {
			c.fail(errcode.InvalidParameterValue, path, name, "must be printable ASCII characters, got %s", quote(token))
			return
		}
	}
}

// checkTTL checks spec.ttlSecondsAfterFinished, which ends where that of a core Job does.
func (c *checker) checkTTL(ttl *int64, path *field.Path) {
	c.within(ttl, 0, math.MaxInt32, errcode.InvalidParameterValue, path, "ttlSecondsAfterFinished")
}
