// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// AnonymousComputeEnv describes the machine of each instance of a task.
// Source: BatchCompute, AnonymousComputeEnv.
type AnonymousComputeEnv struct {
	// envType is MANAGED. Default: MANAGED.
	// Source: BatchCompute, AnonymousComputeEnv.EnvType.
	// +optional
	EnvType string `json:"envType,omitempty"`

	// envData describes the machine. Absent: the operator's defaults.
	// Source: BatchCompute, AnonymousComputeEnv.EnvData.
	// +optional
	EnvData *EnvData `json:"envData,omitempty"`

	// mountDataDisks say where the data disks are mounted, in their order. Without data
	// disks they are directories of the system disk.
	// Source: BatchCompute, AnonymousComputeEnv.MountDataDisks.
	// +listType=atomic
	// +optional
	MountDataDisks []MountDataDisk `json:"mountDataDisks,omitempty"`

	// agentRunningMode is for Windows machines only. No effect on Kubernetes.
	// Source: BatchCompute, AnonymousComputeEnv.AgentRunningMode.
	// +optional
	AgentRunningMode *AgentRunningMode `json:"agentRunningMode,omitempty"`

	// kubernetes has options of the Pods that the BatchCompute API lacks.
	// +optional
	Kubernetes *KubernetesOptions `json:"kubernetes,omitempty"`
}

// EnvData is a machine: its size, image, disks and network.
// Source: BatchCompute, EnvData.
type EnvData struct {
	// instanceType is the machine type, such as S2.SMALL1. At most one of
	// instanceType, instanceTypes and instanceTypeOptions may be given.
	// Source: BatchCompute, EnvData.InstanceType.
	// +optional
	InstanceType string `json:"instanceType,omitempty"`

	// instanceTypes are machine types in order of preference, at most 10.
	// Source: BatchCompute, EnvData.InstanceTypes.
	// +listType=atomic
	// +optional
	InstanceTypes []string `json:"instanceTypes,omitempty"`

	// instanceTypeOptions ask for a size instead of a type.
	// Source: BatchCompute, EnvData.InstanceTypeOptions.
	// +optional
	InstanceTypeOptions *InstanceTypeOptions `json:"instanceTypeOptions,omitempty"`

	// imageId is a machine image: an identifier such as img-bd78fy2t that the
	// operator's configuration maps to a container image, or a container image.
	// Default: the operator's default image. Source: BatchCompute, EnvData.ImageId.
	// +optional
	ImageID string `json:"imageId,omitempty"`

	// systemDisk is the machine's system disk.
	// Source: BatchCompute, EnvData.SystemDisk.
	// +optional
	SystemDisk *SystemDisk `json:"systemDisk,omitempty"`

	// dataDisks are further disks, at most 20. Source: BatchCompute, EnvData.DataDisks.
	// +listType=atomic
	// +optional
	DataDisks []DataDisk `json:"dataDisks,omitempty"`

	// zones are availability zones that may be used, at most 10. They take precedence over
	// placement.zone.
	// At most one of zones, virtualPrivateCloud and virtualPrivateClouds may be given.
	// Source: BatchCompute, EnvData.Zones.
	// +listType=atomic
	// +optional
	Zones []string `json:"zones,omitempty"`

	// virtualPrivateCloud is the machine's network. No effect on Kubernetes.
	// Source: BatchCompute, EnvData.VirtualPrivateCloud.
	// +optional
	VirtualPrivateCloud *VirtualPrivateCloud `json:"virtualPrivateCloud,omitempty"`

	// virtualPrivateClouds are networks that may be used. No effect on Kubernetes.
	// Source: BatchCompute, EnvData.VirtualPrivateClouds.
	// +listType=atomic
	// +optional
	VirtualPrivateClouds []VirtualPrivateCloud `json:"virtualPrivateClouds,omitempty"`

	// internetAccessible is the machine's public bandwidth. No effect on Kubernetes.
	// Source: BatchCompute, EnvData.InternetAccessible.
	// +optional
	InternetAccessible *InternetAccessible `json:"internetAccessible,omitempty"`

	// instanceName is the machine's display name, at most 60 bytes. No effect on
	// Kubernetes. Source: BatchCompute, EnvData.InstanceName.
	// +optional
	InstanceName string `json:"instanceName,omitempty"`

	// loginSettings say who may log in to the machine. No effect on Kubernetes.
	// Source: BatchCompute, EnvData.LoginSettings.
	// +optional
	LoginSettings *LoginSettings `json:"loginSettings,omitempty"`

	// securityGroupIds are the machine's security groups, at most 1. No effect on
	// Kubernetes. Source: BatchCompute, EnvData.SecurityGroupIds.
	// +listType=atomic
	// +optional
	SecurityGroupIDs []string `json:"securityGroupIds,omitempty"`

	// enhancedService are agents on the machine. No effect on Kubernetes.
	// Source: BatchCompute, EnvData.EnhancedService.
	// +optional
	EnhancedService *EnhancedService `json:"enhancedService,omitempty"`

	// instanceChargeType is POSTPAID_BY_HOUR or SPOTPAID: it chooses the node labels and
	// tolerations that the operator's catalogue has for it. Default: POSTPAID_BY_HOUR. Source: BatchCompute, EnvData.InstanceChargeType.
	// +optional
	InstanceChargeType string `json:"instanceChargeType,omitempty"`

	// instanceMarketOptions are the terms of SPOTPAID. No effect on Kubernetes.
	// Source: BatchCompute, EnvData.InstanceMarketOptions.
	// +optional
	InstanceMarketOptions *InstanceMarketOptions `json:"instanceMarketOptions,omitempty"`
}

// InstanceTypeOptions ask for a size instead of a machine type.
// Source: BatchCompute, InstanceTypeOptions.
type InstanceTypeOptions struct {
	// cpu is the number of cores: 1-100000. Required.
	// Source: BatchCompute, InstanceTypeOptions.CPU.
	// +optional
	CPU *int64 `json:"cpu,omitempty"`

	// memory is the amount of memory: 1-1000000. Unit: GB. Required.
	// Source: BatchCompute, InstanceTypeOptions.Memory.
	// +optional
	Memory *int64 `json:"memory,omitempty"`

	// instanceCategories are the kinds of machine that may be used: ALL, GENERAL,
	// GENERAL_2, GENERAL_3, COMPUTE, COMPUTE_2, COMPUTE_3. Default: ALL.
	// Source: BatchCompute, InstanceTypeOptions.InstanceCategories.
	// +listType=atomic
	// +optional
	InstanceCategories []string `json:"instanceCategories,omitempty"`
}

// SystemDisk is the disk that a machine starts from.
// Source: BatchCompute, SystemDisk.
type SystemDisk struct {
	// diskType is LOCAL_BASIC, LOCAL_SSD, CLOUD_BASIC, CLOUD_SSD or CLOUD_PREMIUM.
	// Default: what is in stock. No effect on Kubernetes.
	// Source: BatchCompute, SystemDisk.DiskType.
	// +optional
	DiskType string `json:"diskType,omitempty"`

	// diskSize is the size: 1-1000000. Unit: GB. Default: 50.
	// Source: BatchCompute, SystemDisk.DiskSize.
	// +optional
	DiskSize *int64 `json:"diskSize,omitempty"`

	// diskId is not accepted as input. Source: BatchCompute, SystemDisk.DiskId.
	// +optional
	DiskID string `json:"diskId,omitempty"`

	// cdcId is a dedicated cluster. No effect on Kubernetes.
	// Source: BatchCompute, SystemDisk.CdcId.
	// +optional
	CdcID string `json:"cdcId,omitempty"`

	// diskName is the disk's display name, at most 128 characters. No effect on
	// Kubernetes. Source: BatchCompute, SystemDisk.DiskName.
	// +optional
	DiskName string `json:"diskName,omitempty"`

	// encrypt asks for encryption at rest. Default: false. No effect on Kubernetes.
	// Source: BatchCompute, SystemDisk.Encrypt.
	// +optional
	Encrypt *bool `json:"encrypt,omitempty"`

	// kmsKeyId is the key for encrypt. No effect on Kubernetes.
	// Source: BatchCompute, SystemDisk.KmsKeyId.
	// +optional
	KmsKeyID string `json:"kmsKeyId,omitempty"`
}

// DataDisk is a further disk of a machine. Source: BatchCompute, DataDisk.
type DataDisk struct {
	// diskSize is the size: a multiple of 10, at most 1000000; 0 means no disk. Unit: GB.
	// Required.
	// Source: BatchCompute, DataDisk.DiskSize.
	// +optional
	DiskSize *int64 `json:"diskSize,omitempty"`

	// diskType is LOCAL_BASIC, LOCAL_SSD, CLOUD_BASIC, CLOUD_SSD or CLOUD_PREMIUM.
	// Default: LOCAL_BASIC. Source: BatchCompute, DataDisk.DiskType.
	// +optional
	DiskType string `json:"diskType,omitempty"`

	// diskId is not accepted as input. Source: BatchCompute, DataDisk.DiskId.
	// +optional
	DiskID string `json:"diskId,omitempty"`

	// deleteWithInstance deletes the disk together with the machine. Default: true. No effect
	// on Kubernetes: the disk is always deleted with the Pod.
	// Source: BatchCompute, DataDisk.DeleteWithInstance.
	// +optional
	DeleteWithInstance *bool `json:"deleteWithInstance,omitempty"`

	// snapshotId is a snapshot that the disk starts from. It is refused: this version cannot
	// use snapshots.
	// Source: BatchCompute, DataDisk.SnapshotId.
	// +optional
	SnapshotID string `json:"snapshotId,omitempty"`

	// encrypt asks for encryption at rest. Default: false. No effect on Kubernetes.
	// Source: BatchCompute, DataDisk.Encrypt.
	// +optional
	Encrypt *bool `json:"encrypt,omitempty"`

	// kmsKeyId is the key for encrypt. No effect on Kubernetes.
	// Source: BatchCompute, DataDisk.KmsKeyId.
	// +optional
	KmsKeyID string `json:"kmsKeyId,omitempty"`

	// throughputPerformance is extra throughput: 0-1000000. Unit: MB/s. No effect on
	// Kubernetes.
	// Source: BatchCompute, DataDisk.ThroughputPerformance.
	// +optional
	ThroughputPerformance *int64 `json:"throughputPerformance,omitempty"`

	// cdcId is a dedicated cluster. No effect on Kubernetes.
	// Source: BatchCompute, DataDisk.CdcId.
	// +optional
	CdcID string `json:"cdcId,omitempty"`

	// burstPerformance lets the disk be faster for a while. Default: false. No effect on
	// Kubernetes. Source: BatchCompute, DataDisk.BurstPerformance.
	// +optional
	BurstPerformance *bool `json:"burstPerformance,omitempty"`

	// diskName is the disk's display name, at most 128 characters. No effect on
	// Kubernetes. Source: BatchCompute, DataDisk.DiskName.
	// +optional
	DiskName string `json:"diskName,omitempty"`
}

// MountDataDisk says where a data disk is mounted.
// Source: BatchCompute, MountDataDisk.
type MountDataDisk struct {
	// localPath is an absolute path, at which nothing else is mounted. A path of Windows,
	// such as H: or H:\, is refused. Required.
	// Source: BatchCompute, MountDataDisk.LocalPath.
	// +optional
	LocalPath string `json:"localPath,omitempty"`

	// fileSystemType is EXT3 or EXT4, or NTFS on Windows. Default: EXT3. No effect on
	// Kubernetes.
	// Source: BatchCompute, MountDataDisk.FileSystemType.
	// +optional
	FileSystemType string `json:"fileSystemType,omitempty"`
}

// AgentRunningMode is for Windows machines. Source: BatchCompute, AgentRunningMode.
type AgentRunningMode struct {
	// scene is the operating system: WINDOWS. Required. Source: BatchCompute, AgentRunningMode.Scene.
	// +optional
	Scene string `json:"scene,omitempty"`

	// user is the account that runs the agent. Required.
	// Source: BatchCompute, AgentRunningMode.User.
	// +optional
	User string `json:"user,omitempty"`

	// session is the session that the agent runs in. Required.
	// Source: BatchCompute, AgentRunningMode.Session.
	// +optional
	Session string `json:"session,omitempty"`
}

// VirtualPrivateCloud is a network. Source: BatchCompute, VirtualPrivateCloud.
type VirtualPrivateCloud struct {
	// vpcId is the network: vpc-…, or DEFAULT. Required.
	// Source: BatchCompute, VirtualPrivateCloud.VpcId.
	// +optional
	VpcID string `json:"vpcId,omitempty"`

	// subnetId is the subnet: subnet-…, or DEFAULT. Required.
	// Source: BatchCompute, VirtualPrivateCloud.SubnetId.
	// +optional
	SubnetID string `json:"subnetId,omitempty"`

	// asVpcGateway lets the machine route for others. Default: false.
	// Source: BatchCompute, VirtualPrivateCloud.AsVpcGateway.
	// +optional
	AsVpcGateway *bool `json:"asVpcGateway,omitempty"`

	// privateIpAddresses are addresses for the machines.
	// Source: BatchCompute, VirtualPrivateCloud.PrivateIpAddresses.
	// +listType=atomic
	// +optional
	PrivateIPAddresses []string `json:"privateIpAddresses,omitempty"`

	// ipv6AddressCount is how many IPv6 addresses a machine gets: 0-1000000. Default: 0.
	// Source: BatchCompute, VirtualPrivateCloud.Ipv6AddressCount.
	// +optional
	IPv6AddressCount *int64 `json:"ipv6AddressCount,omitempty"`
}

// InternetAccessible is public bandwidth. Source: BatchCompute, InternetAccessible.
type InternetAccessible struct {
	// internetChargeType is BANDWIDTH_PREPAID, TRAFFIC_POSTPAID_BY_HOUR,
	// BANDWIDTH_POSTPAID_BY_HOUR or BANDWIDTH_PACKAGE.
	// Source: BatchCompute, InternetAccessible.InternetChargeType.
	// +optional
	InternetChargeType string `json:"internetChargeType,omitempty"`

	// internetMaxBandwidthOut is the outgoing bandwidth: 0-1000000. Unit: Mbit/s. Default: 0.
	// Source: BatchCompute, InternetAccessible.InternetMaxBandwidthOut.
	// +optional
	InternetMaxBandwidthOut *int64 `json:"internetMaxBandwidthOut,omitempty"`

	// publicIpAssigned gives the machine a public address. It requires an
	// internetMaxBandwidthOut above 0. Default: false.
	// Source: BatchCompute, InternetAccessible.PublicIpAssigned.
	// +optional
	PublicIPAssigned *bool `json:"publicIpAssigned,omitempty"`

	// bandwidthPackageId is a shared bandwidth package.
	// Source: BatchCompute, InternetAccessible.BandwidthPackageId.
	// +optional
	BandwidthPackageID string `json:"bandwidthPackageId,omitempty"`

	// internetServiceProvider is the kind of line: BGP, CMCC, CTCC or CUCC. Default: BGP.
	// Source: BatchCompute, InternetAccessible.InternetServiceProvider.
	// +optional
	InternetServiceProvider string `json:"internetServiceProvider,omitempty"`

	// ipv4AddressType is the kind of public IPv4 address: WanIP, HighQualityEIP or
	// AntiDDoSEIP. Source: BatchCompute, InternetAccessible.IPv4AddressType.
	// +optional
	IPv4AddressType string `json:"ipv4AddressType,omitempty"`

	// ipv6AddressType is the kind of public IPv6 address: EIPv6 or HighQualityEIPv6.
	// Source: BatchCompute, InternetAccessible.IPv6AddressType.
	// +optional
	IPv6AddressType string `json:"ipv6AddressType,omitempty"`

	// antiDDoSPackageId is the protection package that AntiDDoSEIP needs.
	// Source: BatchCompute, InternetAccessible.AntiDDoSPackageId.
	// +optional
	AntiDDoSPackageID string `json:"antiDDoSPackageId,omitempty"`
}

// LoginSettings say who may log in. Source: BatchCompute, LoginSettings.
type LoginSettings struct {
	// passwordSecretRef names the Secret whose entry password is the password. It
	// replaces LoginSettings.Password. At most one of passwordSecretRef, keyIds
	// and keepImageLogin may be given.
	// +optional
	PasswordSecretRef *SecretRef `json:"passwordSecretRef,omitempty"`

	// keyIds are SSH keys, at most 1. Source: BatchCompute, LoginSettings.KeyIds.
	// +listType=atomic
	// +optional
	KeyIDs []string `json:"keyIds,omitempty"`

	// keepImageLogin keeps the login of the image: TRUE or FALSE, in any case of letters.
	// Default: FALSE.
	// Source: BatchCompute, LoginSettings.KeepImageLogin.
	// +optional
	KeepImageLogin string `json:"keepImageLogin,omitempty"`
}

// EnhancedService are agents on a machine. Source: BatchCompute, EnhancedService.
type EnhancedService struct {
	// securityService is the security agent.
	// Source: BatchCompute, EnhancedService.SecurityService.
	// +optional
	SecurityService *RunService `json:"securityService,omitempty"`

	// monitorService is the monitoring agent.
	// Source: BatchCompute, EnhancedService.MonitorService.
	// +optional
	MonitorService *RunService `json:"monitorService,omitempty"`

	// automationService is the agent that runs commands from the console. Default: that
	// of the image. Source: BatchCompute, EnhancedService.AutomationService.
	// +optional
	AutomationService *RunService `json:"automationService,omitempty"`
}

// RunService switches an agent. Source: BatchCompute, RunSecurityServiceEnabled,
// RunMonitorServiceEnabled and RunAutomationServiceEnabled.
type RunService struct {
	// enabled switches the agent. Default: true.
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
}

// InstanceMarketOptions are the terms of a spot machine.
// Source: BatchCompute, InstanceMarketOptionsRequest.
type InstanceMarketOptions struct {
	// spotOptions are the price and kind. Required.
	// Source: BatchCompute, InstanceMarketOptionsRequest.SpotOptions.
	// +optional
	SpotOptions *SpotOptions `json:"spotOptions,omitempty"`

	// marketType is the kind of market. The only value is spot.
	// Source: BatchCompute, InstanceMarketOptionsRequest.MarketType.
	// +optional
	MarketType string `json:"marketType,omitempty"`
}

// SpotOptions are the price and kind of a spot machine.
// Source: BatchCompute, SpotMarketOptions.
type SpotOptions struct {
	// maxPrice is the highest price, a decimal number such as 0.8. Required.
	// Source: BatchCompute, SpotMarketOptions.MaxPrice.
	// +optional
	MaxPrice string `json:"maxPrice,omitempty"`

	// spotInstanceType is the kind of request. The only value is one-time.
	// Source: BatchCompute, SpotMarketOptions.SpotInstanceType.
	// +optional
	SpotInstanceType string `json:"spotInstanceType,omitempty"`
}
