// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
)

// The enumerations of a machine, in the API's spelling, later additions included.
// Source: BatchCompute, EnvData and the structures in it.
var (
	envTypes           = []string{v1alpha1.EnvTypeManaged}
	linuxFileSystems   = []string{"EXT3", "EXT4"}
	windowsFileSystems = []string{"NTFS"}
	fileSystems        = []string{"EXT3", "EXT4", "NTFS"}
	agentScenes        = []string{"WINDOWS"}
	instanceCategories = []string{"ALL", "GENERAL", "GENERAL_2", "GENERAL_3", "COMPUTE", "COMPUTE_2", "COMPUTE_3"}
	diskTypes          = []string{
		"LOCAL_BASIC", "LOCAL_SSD", "CLOUD_BASIC", "CLOUD_SSD", "CLOUD_PREMIUM", "CLOUD_BSSD", "CLOUD_HSSD", "CLOUD_TSSD",
	}
	internetChargeTypes = []string{
		"BANDWIDTH_PREPAID", "TRAFFIC_POSTPAID_BY_HOUR", "BANDWIDTH_POSTPAID_BY_HOUR", "BANDWIDTH_PACKAGE",
	}
	instanceChargeTypes = []string{"POSTPAID_BY_HOUR", "SPOTPAID"}
	marketTypes         = []string{"spot"}
	spotInstanceTypes   = []string{"one-time"}
	keepImageLogins     = []string{"TRUE", "FALSE"}
	serviceProviders    = []string{"BGP", "CMCC", "CTCC", "CUCC"}
	ipv4AddressTypes    = []string{"WanIP", "HighQualityEIP", antiDDoSAddress}
	ipv6AddressTypes    = []string{"EIPv6", "HighQualityEIPv6"}
)

// antiDDoSAddress is the kind of IPv4 address that needs a package.
const antiDDoSAddress = "AntiDDoSEIP"

// Limits of a machine.
const (
	// maxInstanceTypes is the API's. Source: BatchCompute, EnvData.InstanceTypes.
	maxInstanceTypes = 10
	// maxDataDisks is that of a CVM instance; the API documents no number.
	maxDataDisks = 20
	// maxInstanceName is the API's. Unit: bytes. Source: BatchCompute, EnvData.InstanceName.
	maxInstanceName = 60
	// maxDiskName is the API's, in characters. Source: BatchCompute, SystemDisk.DiskName.
	maxDiskName = 128
	// diskStep is the step of a data disk's size. Unit: GB. Source: BatchCompute, DataDisk.DiskSize.
	diskStep = 10
	// maxCPU, maxGB and maxRate are far above any machine, and far below where a
	// conversion to bytes overflows. The API documents no number.
	maxCPU  = 100_000
	maxGB   = 1_000_000
	maxRate = 1_000_000
)

// checkComputeEnv checks a task's computeEnv. An empty one is complete: the operator's
// defaults are used.
func (c *checker) checkComputeEnv(env *v1alpha1.AnonymousComputeEnv, path *field.Path) {
	c.oneOf(env.EnvType, envTypes, errcode.ComputeEnv, path, "envType")
	disks := c.checkEnvData(env.EnvData, env.AgentRunningMode != nil, path)
	c.checkMountDataDisks(env.MountDataDisks, disks, path)
	if mode := env.AgentRunningMode; mode != nil {
		c.checkAgentRunningMode(mode, path.Child("agentRunningMode"))
	}
	c.checkKubernetes(env.Kubernetes, path)
}

// checkEnvData returns how many data disks there are.
func (c *checker) checkEnvData(data *v1alpha1.EnvData, windows bool, path *field.Path) (disks int) {
	if data == nil {
		return 0
	}
	path = path.Child("envData")
	c.checkMachine(data, path)
	disks = c.checkDisks(data, path)
	c.checkNetwork(data, path)
	c.checkLogin(data, windows, path)
	c.checkCharge(data, path)
	return disks
}

// checkMachine checks how the machine is chosen, and its image.
func (c *checker) checkMachine(data *v1alpha1.EnvData, path *field.Path) {
	ways := 0
	for _, given := range [...]bool{data.InstanceType != "", len(data.InstanceTypes) > 0, data.InstanceTypeOptions != nil} {
		if given {
			ways++
		}
	}
	if ways > 1 {
		c.fail(errcode.ComputeEnv, path, "", "must have at most one of instanceType, instanceTypes and instanceTypeOptions")
	}
	if data.InstanceType != "" {
		c.checkInstanceType(data.InstanceType, path, "instanceType", single)
	}
	c.checkInstanceTypes(data.InstanceTypes, path)
	if o := data.InstanceTypeOptions; o != nil {
		c.checkInstanceTypeOptions(o, path.Child("instanceTypeOptions"))
	}
	if data.ImageID != "" {
		c.checkImageID(data.ImageID, path)
	}
}

func (c *checker) checkInstanceTypes(types []string, path *field.Path) {
	if len(types) == 0 {
		return
	}
	if len(types) > maxInstanceTypes {
		c.fail(errcode.ComputeEnv, path, "instanceTypes", "must be at most %d machine types, got %d", maxInstanceTypes, len(types))
	}
	seen := make(map[string]bool, min(len(types), maxInstanceTypes))
	for i, t := range types {
		if seen[t] {
			c.failItem(errcode.InstanceTypeDuplicate, path, "instanceTypes", i, "must be given once, got %s again", quote(t))
		} else {
			c.checkInstanceType(t, path, "instanceTypes", i)
		}
		seen[t] = true
	}
}

func (c *checker) checkInstanceType(t string, path *field.Path, name string, i int) {
	switch {
	case len(t) > maxLabelValue || t == "" || !only(t, "._-"):
		c.failItem(c.action.instanceType, path, name, i, "must be a machine type such as S5.MEDIUM4, got %s", quote(t))
	case c.offers == nil || c.offers.InstanceType(t) != nil:
	case c.full():
		c.total++
	default:
		near := ""
		if n := c.nearestType(t); n != "" {
			near = "; did you mean " + quote(n) + "?"
		}
		c.failItem(c.action.instanceType, path, name, i, "must be a machine type of the operator's catalogue, got %s%s", quote(t), near)
	}
}

func (c *checker) nearestType(t string) string {
	if c.types == nil {
		c.types = &nearest{known: c.offers.InstanceTypeNames(), budget: nearestBudget}
	}
	return c.types.to(t)
}

func (c *checker) checkInstanceTypeOptions(o *v1alpha1.InstanceTypeOptions, path *field.Path) {
	before := c.total
	c.requiredSize(o.CPU, 1, maxCPU, path, "cpu")
	c.requiredSize(o.Memory, 1, maxGB, path, "memory")
	for i, category := range o.InstanceCategories {
		if !contains(instanceCategories, category) {
			c.failItem(errcode.CvmParameters, path, "instanceCategories", i, "must be %s, got %s", either(instanceCategories), quote(category))
		}
	}
	if c.total == before {
		c.checkFits(*o.CPU, *o.Memory, o.InstanceCategories, path)
	}
}

// checkFits checks that the catalogue has a machine type in one of the categories that is
// large enough. Without categories, and with ALL, no type is needed: a size is enough.
func (c *checker) checkFits(cpu, memory int64, categories []string, path *field.Path) {
	if c.offers == nil || len(categories) == 0 || contains(categories, "ALL") || c.offers.Smallest(cpu, memory, categories) != nil {
		return
	}
	given := slices.DeleteFunc(slices.Clone(instanceCategories), func(name string) bool { return !contains(categories, name) })
	c.fail(errcode.CvmParameters, path, "", "must fit a machine type of the catalogue in %s, got %d cores and %d GB", either(given), cpu, memory)
}

// requiredSize checks a number that must be given and be from low to high.
func (c *checker) requiredSize(v *int64, low, high int64, path *field.Path, name string) {
	if v == nil {
		c.fail(errcode.MissingParameter, path, name, "must be given")
	}
	c.within(v, low, high, errcode.CvmParameters, path, name)
}

// checkImageID checks an image: an entry of the catalogue, or a container image. What
// begins with img- and could be an identifier is meant as one, though it could be the
// name of a container image too.
func (c *checker) checkImageID(id string, path *field.Path) {
	known := false
	if c.offers != nil {
		_, known = c.offers.Image(id)
	}
	name, identifier := strings.CutPrefix(id, "img-")
	identifier = identifier && !strings.ContainsAny(name, "/:@")
	switch {
	case known:
	case identifier && (name == "" || !only(name, "-")), !identifier && !isImageReference(id):
		c.fail(c.action.imageID, path, "imageId",
			"must be an identifier such as img-bd78fy2t or a container image such as registry.example/app:1.2, got %s", quote(id))
	case identifier && c.offers != nil:
		c.fail(errcode.CvmParameters, path, "imageId", "must be in the image catalogue or be a container image, got %s", quote(id))
	}
}

// checkDisks returns how many data disks there are; one of size 0 is none.
func (c *checker) checkDisks(data *v1alpha1.EnvData, path *field.Path) int {
	if d := data.SystemDisk; d != nil {
		p := path.Child("systemDisk")
		c.oneOf(d.DiskType, diskTypes, errcode.CvmParameters, p, "diskType")
		c.within(d.DiskSize, 1, maxGB, errcode.CvmParameters, p, "diskSize")
		c.notAccepted(d.DiskID, p, "diskId")
		c.checkDiskName(d.DiskName, p)
	}
	if n := len(data.DataDisks); n > maxDataDisks {
		c.fail(errcode.CvmParameters, path, "dataDisks", "must be at most %d disks, got %d", maxDataDisks, n)
		return n
	}
	count := 0
	for i := range data.DataDisks {
		if isDisk(data.DataDisks[i]) {
			count++
		}
		c.checkDataDisk(&data.DataDisks[i], path.Child("dataDisks").Index(i))
	}
	return count
}

func (c *checker) checkDataDisk(d *v1alpha1.DataDisk, path *field.Path) {
	if n, ok := c.requiredNumber(d.DiskSize, path, "diskSize"); ok && (n%diskStep != 0 || n > maxGB) {
		c.fail(errcode.CvmParameters, path, "diskSize", "must be a multiple of %d, at most %d, got %d", diskStep, maxGB, n)
	}
	c.oneOf(d.DiskType, diskTypes, errcode.CvmParameters, path, "diskType")
	c.notAccepted(d.DiskID, path, "diskId")
	if d.SnapshotID != "" {
		c.refuse("job.tasks[].computeEnv.envData.dataDisks[].snapshotId", path, "snapshotId")
	}
	c.within(d.ThroughputPerformance, 0, maxRate, errcode.CvmParameters, path, "throughputPerformance")
	c.checkDiskName(d.DiskName, path)
}

// isDisk says whether a data disk is one: size 0 means none.
func isDisk(d v1alpha1.DataDisk) bool { return d.DiskSize == nil || *d.DiskSize != 0 }

func (c *checker) checkDiskName(name string, path *field.Path) {
	if longerThan(name, maxDiskName) {
		c.fail(errcode.CvmParameters, path, "diskName", "must be at most %d characters, got %s", maxDiskName, quote(name))
	}
}

// notAccepted refuses a field that the API has for answers only.
func (c *checker) notAccepted(value string, path *field.Path, name string) {
	if value != "" {
		c.fail(errcode.CvmParameters, path, name, "must not be given: it is not accepted as input, got %s", quote(value))
	}
}

// checkNetwork checks zones, private networks and public bandwidth.
func (c *checker) checkNetwork(data *v1alpha1.EnvData, path *field.Path) {
	ways := 0
	for _, given := range [...]bool{len(data.Zones) > 0, data.VirtualPrivateCloud != nil, len(data.VirtualPrivateClouds) > 0} {
		if given {
			ways++
		}
	}
	if ways > 1 {
		c.fail(errcode.InvalidParameterCombination, path, "", "must have at most one of zones, virtualPrivateCloud and virtualPrivateClouds")
	}
	for i, zone := range data.Zones {
		c.checkZone(zone, errcode.CvmParameters, path, "zones", i)
	}
	if vpc := data.VirtualPrivateCloud; vpc != nil {
		c.checkVPC(vpc, path.Child("virtualPrivateCloud"))
	}
	for i := range data.VirtualPrivateClouds {
		c.checkVPC(&data.VirtualPrivateClouds[i], path.Child("virtualPrivateClouds").Index(i))
	}
	if in := data.InternetAccessible; in != nil {
		c.checkInternet(in, path.Child("internetAccessible"))
	}
	if len(data.InstanceName) > maxInstanceName {
		c.fail(errcode.CvmParameters, path, "instanceName", "must be at most %d bytes, got %s", maxInstanceName, quote(data.InstanceName))
	}
}

func (c *checker) checkVPC(vpc *v1alpha1.VirtualPrivateCloud, path *field.Path) {
	c.checkNetworkID(vpc.VpcID, "vpc-", path, "vpcId")
	c.checkNetworkID(vpc.SubnetID, "subnet-", path, "subnetId")
	if vpc.VpcID != "" && vpc.SubnetID != "" && (vpc.VpcID == defaultNetwork) != (vpc.SubnetID == defaultNetwork) {
		c.fail(errcode.CvmParameters, path, "", "must have %s for both vpcId and subnetId, or for neither", defaultNetwork)
	}
	for i, ip := range vpc.PrivateIPAddresses {
		c.checkIP(ip, errcode.CvmParameters, path, "privateIpAddresses", i)
	}
	c.within(vpc.IPv6AddressCount, 0, maxRate, errcode.CvmParameters, path, "ipv6AddressCount")
}

// defaultNetwork is the account's default network, where an identifier could stand.
const defaultNetwork = "DEFAULT"

func (c *checker) checkNetworkID(id, prefix string, path *field.Path, name string) {
	if !c.required(id, path, name) || id == defaultNetwork {
		return
	}
	if rest, ok := strings.CutPrefix(id, prefix); !ok || rest == "" || len(id) > maxLabelValue || !only(rest, "") {
		c.fail(errcode.CvmParameters, path, name, "must be %s and letters or digits, or %s, got %s", prefix, defaultNetwork, quote(id))
	}
}

func (c *checker) checkInternet(in *v1alpha1.InternetAccessible, path *field.Path) {
	c.oneOf(in.InternetChargeType, internetChargeTypes, errcode.CvmParameters, path, "internetChargeType")
	c.within(in.InternetMaxBandwidthOut, 0, maxRate, errcode.CvmParameters, path, "internetMaxBandwidthOut")
	if in.PublicIPAssigned != nil && *in.PublicIPAssigned && (in.InternetMaxBandwidthOut == nil || *in.InternetMaxBandwidthOut == 0) {
		c.fail(errcode.CvmParameters, path, "publicIpAssigned", "must not be true without internetMaxBandwidthOut")
	}
	c.oneOf(in.InternetServiceProvider, serviceProviders, errcode.CvmParameters, path, "internetServiceProvider")
	c.oneOf(in.IPv4AddressType, ipv4AddressTypes, errcode.CvmParameters, path, "ipv4AddressType")
	c.oneOf(in.IPv6AddressType, ipv6AddressTypes, errcode.CvmParameters, path, "ipv6AddressType")
	if in.IPv4AddressType == antiDDoSAddress && in.AntiDDoSPackageID == "" {
		c.fail(errcode.MissingParameter, path, "antiDDoSPackageId", "must be given when ipv4AddressType is %s", antiDDoSAddress)
	}
}

// checkLogin checks who may log in to the machine.
func (c *checker) checkLogin(data *v1alpha1.EnvData, windows bool, path *field.Path) {
	if l := data.LoginSettings; l != nil {
		p := path.Child("loginSettings")
		ways := 0
		for _, given := range [...]bool{l.PasswordSecretRef != nil, len(l.KeyIDs) > 0, strings.EqualFold(l.KeepImageLogin, "TRUE")} {
			if given {
				ways++
			}
		}
		if ways > 1 {
			c.fail(errcode.CvmParameters, p, "", "must have at most one of passwordSecretRef, keyIds and keepImageLogin")
		}
		c.checkSecretRef(l.PasswordSecretRef, p, "passwordSecretRef")
		if n := len(l.KeyIDs); n > 1 {
			c.fail(errcode.CvmParameters, p, "keyIds", "must be at most 1 key, got %d", n)
		} else if n == 1 && windows {
			c.fail(errcode.CvmParameters, p, "keyIds", "must not be given for a Windows machine")
		} else if n == 1 {
			c.checkLabelValue(l.KeyIDs[0], errcode.CvmParameters, p, "keyIds", 0)
		}
		// The vendor's pages write TRUE, its samples True.
		c.oneOf(strings.ToUpper(l.KeepImageLogin), keepImageLogins, errcode.CvmParameters, p, "keepImageLogin")
	}
	if n := len(data.SecurityGroupIDs); n > 1 {
		c.fail(errcode.CvmParameters, path, "securityGroupIds", "must be at most 1 security group, got %d", n)
	} else if n == 1 {
		c.checkLabelValue(data.SecurityGroupIDs[0], errcode.CvmParameters, path, "securityGroupIds", 0)
	}
}

// checkCharge checks how the machine is paid for.
func (c *checker) checkCharge(data *v1alpha1.EnvData, path *field.Path) {
	c.oneOf(data.InstanceChargeType, instanceChargeTypes, errcode.CvmParameters, path, "instanceChargeType")
	market := data.InstanceMarketOptions
	if market == nil {
		return
	}
	path = path.Child("instanceMarketOptions")
	if spot := market.SpotOptions; spot == nil {
		c.fail(errcode.MissingParameter, path, "spotOptions", "must be given")
	} else {
		p := path.Child("spotOptions")
		if c.required(spot.MaxPrice, p, "maxPrice") && !isDecimal(spot.MaxPrice) {
			c.fail(errcode.CvmParameters, p, "maxPrice", "must be a decimal number such as 0.8, got %s", quote(spot.MaxPrice))
		}
		c.oneOf(spot.SpotInstanceType, spotInstanceTypes, errcode.CvmParameters, p, "spotInstanceType")
	}
	c.oneOf(market.MarketType, marketTypes, errcode.CvmParameters, path, "marketType")
}

// isDecimal is ^[0-9]+(\.[0-9]+)?$, of at most 32 characters.
func isDecimal(s string) bool {
	whole, fraction, dot := strings.Cut(s, ".")
	return len(s) <= 32 && isDigits(whole) && (!dot || isDigits(fraction))
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

func (c *checker) checkMountDataDisks(mounts []v1alpha1.MountDataDisk, disks int, path *field.Path) {
	if len(mounts) == 0 {
		return
	}
	// Without any disk the mounts are directories of the system disk, as in the vendor's own
	// samples. With too few, nobody knows which of the mounts was meant to have one.
	if len(mounts) > disks && disks > 0 {
		c.fail(errcode.ComputeEnv, path, "mountDataDisks", "must be at most as many as envData.dataDisks has disks, %d, got %d", disks, len(mounts))
	}
	for i := range mounts {
		m, p := &mounts[i], path.Child("mountDataDisks").Index(i)
		if c.checkMountPoint(m.LocalPath, p, "localPath") && isWindowsPath(m.LocalPath) {
			c.refuse("job.tasks[].computeEnv.mountDataDisks[].localPath", p, "localPath")
		}
		allowed := fileSystems
		switch {
		case isWindowsPath(m.LocalPath):
			allowed = windowsFileSystems
		case strings.HasPrefix(m.LocalPath, "/"):
			allowed = linuxFileSystems
		}
		c.oneOf(m.FileSystemType, allowed, errcode.ComputeEnv, p, "fileSystemType")
	}
}

// checkAgentRunningMode reports what is missing as a compute environment that does not
// hold together, not as a missing parameter: the API does.
func (c *checker) checkAgentRunningMode(mode *v1alpha1.AgentRunningMode, path *field.Path) {
	for _, f := range [...]struct{ name, value string }{{"scene", mode.Scene}, {"user", mode.User}, {"session", mode.Session}} {
		if f.value == "" {
			c.fail(errcode.ComputeEnv, path, f.name, "must be given")
		}
	}
	c.oneOf(mode.Scene, agentScenes, errcode.ComputeEnv, path, "scene")
}
