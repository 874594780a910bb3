// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/errcode"
)

// Validator validates BatchJobs, ComputeEnvs and TaskTemplates. The zero value works: what only the
// cluster knows is not asked then. A Validator may be used by any number of goroutines if
// its functions may.
type Validator struct {
	// Catalog returns the instance catalogue as it is at the moment, which has the cluster's policy as
	// well; it is called once for each answer. Nil: images and machine types are checked for
	// their form only, and everything of that form is allowed.
	Catalog func() *catalog.Catalog
	// Envs says what an envId stands for in the namespace of the job. Nil: an envId is
	// checked for its form only.
	Envs func(ref string) EnvState
	// Zones returns the zones that nodes are in, sorted; it is called once for each
	// answer. Nil, or a nil answer: any zone will do.
	Zones func() []string
	// Notifications says that topics which the catalogue refuses, and receivers that users must not name, are problems.
	// Only admission asks for it: a job that was admitted runs, whatever becomes of its events.
	Notifications bool
}

// EnvState is what an envId stands for. The zero value is: nothing.
type EnvState int

// What an envId can stand for.
const (
	EnvNotFound EnvState = iota
	EnvFound
	// EnvDeleting is a ComputeEnv that only waits for the jobs that use it already.
	EnvDeleting
)

// offers is what this package asks the instance catalogue.
type offers interface {
	Image(id string) (ref string, ok bool)
	InstanceType(name string) *catalog.InstanceType
	InstanceTypeNames() []string
	Smallest(cpu, memory int64, categories []string) *catalog.InstanceType
	ChargeType(name string) (catalog.ChargeType, bool)
	Policy() *catalog.Policy
	Store(host string) (catalog.Store, bool)
	KnowsHost(host string) bool
	FileSystem(host string) catalog.FileSystem
	Notifications() *catalog.Notifications
}

// offers returns the catalogue as it is at the moment, or nil.
func (v Validator) offers() offers {
	if v.Catalog == nil {
		return nil
	}
	if c := v.Catalog(); c != nil {
		return c
	}
	return nil
}

// checker returns a checker of one object.
func (v Validator) checker(a action) *checker {
	c := &checker{Validator: v, action: a, offers: v.offers()}
	if v.Zones != nil {
		c.zones = v.Zones()
		c.knowsZones = c.zones != nil
	}
	return c
}

// ValidateCreate returns what is wrong with a new BatchJob, in the order of its
// fields; nil when nothing is. The first problem is what SubmitJob would have
// answered. There are at most MaxProblems; if there were more, the last one counts
// them. job is not changed. Cost: linear in the size of the spec.
func (v Validator) ValidateCreate(job *v1alpha1.BatchJob) []Problem {
	c := v.checker(submitJob)
	c.topics = v.topics(c.offers, &job.ObjectMeta, job.Spec.Job.Notifications)
	c.checkBatchJob(job)
	c.checkOwnSink()
	return c.result()
}

func (c *checker) checkBatchJob(job *v1alpha1.BatchJob) {
	spec, path := &job.Spec, field.NewPath("spec")
	c.checkSize(spec, path)
	c.checkPlacement(&spec.Placement, path.Child("placement"), allChooseZones(spec.Job.Tasks), "every task gives computeEnv.envData.zones")
	c.checkJob(&spec.Job, path.Child("job"))
	c.checkToken(spec.ClientToken, path, "clientToken")
	c.checkToken(spec.RetryToken, path, "retryToken")
	c.checkTTL(spec.TTLSecondsAfterFinished, path)
}

// maxHosts counts the hosts, the addresses and the resource packs of a placement.
const maxHosts = 100

// packTenancies are the ways to use a resource pack.
// Source: BatchCompute, Placement.DedicatedResourcePackTenancy.
var packTenancies = []string{"ResourcePool"}

// checkPlacement checks spec.placement. Its zone is required, unless zones are chosen
// elsewhere; otherwise says where.
func (c *checker) checkPlacement(p *v1alpha1.Placement, path *field.Path, chosen bool, otherwise string) {
	switch {
	case p.Zone != "":
		c.checkZone(p.Zone, errcode.InvalidParameterValue, path, "zone", single)
	case !chosen:
		c.fail(errcode.MissingParameter, path, "zone", "must be given, unless %s", otherwise)
	}
	c.notNegative(p.ProjectID, path, "projectId")
	c.atMost(len(p.HostIDs), maxHosts, "hosts", path, "hostIds")
	for i, id := range p.HostIDs {
		c.checkLabelValue(id, errcode.InvalidParameterValue, path, "hostIds", i)
	}
	c.atMost(len(p.HostIPs), maxHosts, "addresses", path, "hostIps")
	for i, ip := range p.HostIPs {
		c.checkIP(ip, errcode.InvalidParameterValue, path, "hostIps", i)
	}
	c.oneOf(p.DedicatedResourcePackTenancy, packTenancies, errcode.InvalidParameterValue, path, "dedicatedResourcePackTenancy")
	if len(p.DedicatedResourcePackIDs) > 0 {
		c.required(p.DedicatedResourcePackTenancy, path, "dedicatedResourcePackTenancy")
	}
	c.atMost(len(p.DedicatedResourcePackIDs), maxHosts, "packs", path, "dedicatedResourcePackIds")
	for i, id := range p.DedicatedResourcePackIDs {
		c.checkLabelValue(id, errcode.InvalidParameterValue, path, "dedicatedResourcePackIds", i)
	}
	c.checkHostsPolicy(p, path)
}

// maxZones is how many of the cluster's zones an answer names.
const maxZones = 10

// checkZone checks a zone, item i of a list or single. It has code when it cannot be a zone.
func (c *checker) checkZone(zone string, code errcode.Code, path *field.Path, name string, i int) {
	if !c.checkLabelValue(zone, code, path, name, i) || !c.knowsZones {
		return
	}
	if _, ok := slices.BinarySearch(c.zones, zone); ok {
		return
	}
	here := "no node here has a zone"
	if n := len(c.zones); n > 0 {
		here = "zones here: " + strings.Join(c.zones[:min(n, maxZones)], ", ")
		if n > maxZones {
			here += fmt.Sprintf(" and %d more", n-maxZones)
		}
	}
	c.failItem(errcode.UnavailableZone, path, name, i, "must be a zone of this cluster: no node is in zone %s; %s", quote(zone), here)
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

// checkToken checks a clientToken or a retryToken. A token is a name for a request, so
// control characters and spaces alone, which nobody could see, are not taken though they
// are ASCII.
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
	if token != "" && strings.TrimLeft(token, " ") == "" {
		c.fail(errcode.InvalidParameterValue, path, name, "must not be only spaces, got %s", quote(token))
	}
}

// checkTTL checks spec.ttlSecondsAfterFinished, which ends where that of a core Job does.
func (c *checker) checkTTL(ttl *int64, path *field.Path) {
	c.within(ttl, 0, math.MaxInt32, errcode.InvalidParameterValue, path, "ttlSecondsAfterFinished")
}
