// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/resolve"
)

// A task with data has, in addition to the container of the command:
//
//	batchcompute-stage     init container   copies inputs and the package into volumes
//	task                                    the command, run by the agent's exec
//	batchcompute-outputs   container        stores outputs and streams when the command has ended
//
// Each is there only if something is for it to do. A task without data has a Pod as if there were no agent, unless
// the container of a command that fails is held: then the agent runs the command, and batchcompute-outputs tells
// the operator that it has ended.
const (
	StageContainer   = "batchcompute-stage"
	OutputsContainer = "batchcompute-outputs"
	// installContainer copies the agent's program, where nodes cannot mount an image.
	installContainer = "batchcompute-agent"
)

// Names of volumes, and directories in the agent's containers.
const (
	agentVolume   = "batchcompute-agent"
	stateVolume   = "batchcompute-state"
	packageVolume = "batchcompute-package"
	inputDir      = "/.batchcompute/inputs"
	outputDir     = "/.batchcompute/outputs"
	// keysPrefix begins the names of volumes with keys.
	keysPrefix = "batchcompute-keys-"
	// packageDir is where the package is unpacked, in the container of the command.
	packageDir = "/.batchcompute/package"
)

// The Pod's grace period is 30 s. A command may take execGrace to end after SIGTERM, outputs are stored until outputsGrace
// is over, and the rest is for aborting what is not stored by then. Unit: seconds.
const (
	execGrace    = 10
	outputsGrace = 22
)

// AgentProgram is the agent in the container of the command.
const AgentProgram = agentapi.AgentDir + "/agent"

// maxContainers is how many containers a Pod with data has at most, and one that the cluster adds.
const maxContainers = 5

// Agent is how Pods get the agent.
type Agent struct {
	// Image is the agent's image, with the program /agent.
	Image string
	// ImageVolumes says that all nodes can mount an image as a volume. Else an init container copies the
	// program.
	ImageVolumes bool
	// Hold is how long the container of a command that failed stays alive if the instance is interrupted, so that
	// somebody can look at it; 0 means that it is not held.
	Hold time.Duration
}

// data adds what a task reads and stores.
type data struct {
	*builder
	in resolve.Instance
	// names expands the placeholders of the API.
	names *strings.Replacer
	// secrets are the names of the volumes with keys, by what they hold.
	secrets map[string]string
	stage   agentapi.Stage
	exec    agentapi.Exec
	outputs agentapi.Outputs
	// mounts are those of the agent's containers.
	stageMounts, outputMounts []corev1.VolumeMount
}

// addData gives the Pod the volumes and containers that the data of the task need. It comes after all other
// volumes, since an output may lie in one of them.
func (b *builder) addData(spec *resolve.Job, in resolve.Instance) error {
	hold := b.mayHold(in)
	if !HasData(b.task.Spec, b.env) && !hold {
		return nil
	}
	own := *b // what is reached by functions is allocated, and most tasks have no data
	d := &data{builder: &own, in: in, secrets: map[string]string{}, names: strings.NewReplacer(
		"${"+v1alpha1.EnvJobID+"}", spec.ID,
		"${"+v1alpha1.EnvTaskName+"}", b.task.Name,
		"${"+v1alpha1.EnvTaskInstanceIndex+"}", strconv.Itoa(in.Index),
	)}
	for _, add := range []func() error{d.addInputs, d.addPackage, d.addOutputs, d.addStreams} {
		if err := add(); err != nil {
			return err
		}
	}
	if hold {
		d.exec.HoldSeconds = int(b.cluster.Agent.Hold / time.Second)
	}
	d.addContainers()
	return nil
}

// mayHold reports whether the instance may be interrupted if this attempt fails. An attempt uses up a retry of the
// command or of the machine, so the number of the attempt is at least the number of those of the command.
func (b *builder) mayHold(in resolve.Instance) bool {
	switch b.task.FailedAction {
	case v1alpha1.FailedActionFastInterrupt:
		return b.cluster.Agent.Hold >= time.Second
	case v1alpha1.FailedActionInterrupt:
		return b.cluster.Agent.Hold >= time.Second && in.Attempt >= b.task.MaxRetryCount
	}
	return false
}

// HasData reports whether a task reads or stores data.
func HasData(t *v1alpha1.Task, env *resolve.Env) bool {
	return len(t.InputMappings)+len(t.OutputMappings) > 0 || t.Application.DeliveryForm == v1alpha1.DeliveryFormPackage ||
		env != nil && len(env.InputMappings) > 0 || hasRedirect(t.RedirectInfo) || hasLocal(t.RedirectLocalInfo)
}

func hasRedirect(r *v1alpha1.RedirectInfo) bool {
	return r != nil && r.StdoutRedirectPath+r.StderrRedirectPath != ""
}

func hasLocal(r *v1alpha1.RedirectLocalInfo) bool {
	return r != nil && r.StdoutLocalPath+r.StderrLocalPath != ""
}

// addInputs adds the mappings of the ComputeEnv, and then those of the task.
func (d *data) addInputs() error {
	for _, list := range []struct {
		field    string
		mappings []v1alpha1.InputMapping
		keys     keys
	}{
		{d.ofEnv("inputMappings"), d.env.InputMappings, keys{d.ofEnv("authentications"), d.env.Authentications}},
		{"inputMappings", d.task.Spec.InputMappings, d.keys()},
	} {
		for i := range list.mappings {
			if err := d.addInput(fmt.Sprintf("%s[%d]", list.field, i), &list.mappings[i], list.keys); err != nil {
				return err
			}
		}
	}
	return nil
}

// ofEnv is a field of the ComputeEnv in a message.
func (d *data) ofEnv(field string) string { return "ComputeEnv " + d.env.Name + ": " + field }

// keys are authentications, and the field that has them.
type keys struct {
	field string
	list  []v1alpha1.Authentication
}

// Key returns the index of the authentication whose key is used; negative for none.
func Key(list []v1alpha1.Authentication) int {
	return slices.IndexFunc(list, func(a v1alpha1.Authentication) bool { return a.Scene == "COS" && a.SecretKeySecretRef != nil })
}

// keys are the authentications that count for the task.
func (d *data) keys() keys {
	if len(d.task.Spec.Authentications) > 0 {
		return keys{"authentications", d.task.Spec.Authentications}
	}
	return keys{d.ofEnv("authentications"), d.env.Authentications}
}

func (d *data) addInput(field string, m *v1alpha1.InputMapping, keys keys) error {
	name := fmt.Sprintf("batchcompute-input-%d", len(d.pod.Spec.Volumes))
	scheme, host, dir := splitRemote(d.names.Replace(m.SourcePath))
	if scheme != "cos" {
		d.mount(d.fileSystem(name, host, dir, m.MountOptionParameter), m.DestinationPath)
		return nil
	}
	store, prefix, err := d.store(field, host, dir, keys)
	if err != nil {
		return err
	}
	d.mount(corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}, m.DestinationPath)
	to := path.Join(inputDir, name)
	d.stageMounts = append(d.stageMounts, corev1.VolumeMount{Name: name, MountPath: to})
	d.stage.Inputs = append(d.stage.Inputs, agentapi.Input{Field: field, Source: m.SourcePath, Store: store, Prefix: prefix, Destination: to, Path: path.Clean(m.DestinationPath)})
	return nil
}

// fileSystem is the volume of a cfs:// or nfs:// path.
func (d *data) fileSystem(name, host, dir, options string) corev1.Volume {
	host = strings.TrimSuffix(host, ":")
	v := corev1.Volume{Name: name}
	if driver := d.cluster.Catalog.FileSystem(host).CSIDriver; driver != "" {
		v.CSI = &corev1.CSIVolumeSource{Driver: driver, VolumeAttributes: map[string]string{"server": host, "share": dir}}
		if options = MountOptions(options); options != "" {
			v.CSI.VolumeAttributes["mountOptions"] = options
		}
		return v
	}
	v.NFS = &corev1.NFSVolumeSource{Server: host, Path: dir}
	return v
}

// MountOptions returns mount options with commas between them, as CSI drivers take them: of "-o nolock,vers=4
// -osoft" it is "nolock,vers=4,soft".
func MountOptions(flags string) string {
	var out []string
	for _, word := range strings.Fields(flags) {
		if word = strings.Trim(strings.TrimPrefix(word, "-o"), ","); word != "" {
			out = append(out, word)
		}
	}
	return strings.Join(out, ",")
}

// addPackage adds the archive with the program of the task, and runs the command in its directory.
func (d *data) addPackage() error {
	a := &d.task.Spec.Application
	if a.DeliveryForm != v1alpha1.DeliveryFormPackage {
		return nil
	}
	p := &agentapi.Package{Field: "application.packagePath", Source: d.names.Replace(a.PackagePath), Destination: packageDir}
	if scheme, host, file := splitRemote(p.Source); scheme == "cos" {
		store, key, err := d.store(p.Field, host, file, d.keys())
		if err != nil {
			return err
		}
		p.Store, p.Key = &store, key
	}
	d.stage.Package = p
	d.mount(corev1.Volume{Name: packageVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}, packageDir)
	d.stageMounts = append(d.stageMounts, corev1.VolumeMount{Name: packageVolume, MountPath: packageDir})
	d.container.WorkingDir = cmp.Or(d.container.WorkingDir, packageDir)
	return nil
}

// addOutputs adds the directories whose files are stored.
func (d *data) addOutputs() error {
	t := d.task.Spec
	order := make([]int, len(t.OutputMappings))
	for i := range order {
		order[i] = i
	}
	// A directory that another has inside it comes first, so that both are in one volume.
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(len(path.Clean(t.OutputMappings[a].SourcePath)), len(path.Clean(t.OutputMappings[b].SourcePath)))
	})
	d.outputs.Outputs = make([]agentapi.Output, len(order))
	for _, i := range order {
		m := &t.OutputMappings[i]
		field := fmt.Sprintf("outputMappings[%d]", i)
		_, host, dir := splitRemote(d.names.Replace(m.DestinationPath))
		store, prefix, err := d.store(field, host, dir, d.keys())
		if err != nil {
			return err
		}
		volume, below := d.writable(m.SourcePath)
		from := path.Join(outputDir, volume.Name)
		if !slices.ContainsFunc(d.outputMounts, func(v corev1.VolumeMount) bool { return v.MountPath == from }) {
			d.outputMounts = append(d.outputMounts, corev1.VolumeMount{Name: volume.Name, MountPath: from, SubPath: volume.SubPath, ReadOnly: true})
		}
		d.outputs.Outputs[i] = agentapi.Output{
			Field: field, Destination: m.DestinationPath, Source: path.Join(from, below), Path: path.Clean(m.SourcePath), Store: store, Prefix: prefix,
		}
	}
	if len(order) == 0 {
		d.outputs.Outputs = nil
	}
	for i := range t.OutputMappingConfigs {
		c := &t.OutputMappingConfigs[i]
		d.outputs.Limits.Workers, d.outputs.Limits.PartBytes = int(min(valueOf(c.WorkerNum), maxWorkers)), min(valueOf(c.WorkerPartSize), maxPart)<<20
	}
	return nil
}

// Bounds of outputMappingConfigs. Units: transfers; MB.
const (
	maxWorkers = 64
	maxPart    = 5 << 10
)

// writable returns the mount that a directory of the command's container lies in, and the directory below it.
// Where it lies in none it gets a volume of its own.
func (d *data) writable(dir string) (m corev1.VolumeMount, below string) {
	dir = path.Clean(dir)
	for _, have := range d.container.VolumeMounts {
		at := path.Clean(have.MountPath)
		if (dir == at || strings.HasPrefix(dir, at+"/")) && len(at) > len(path.Clean(m.MountPath)) {
			m, below = have, strings.TrimPrefix(strings.TrimPrefix(dir, at), "/")
		}
	}
	if m.Name != "" {
		return m, below
	}
	name := fmt.Sprintf("batchcompute-output-%d", len(d.pod.Spec.Volumes))
	d.mount(corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}, dir)
	return corev1.VolumeMount{Name: name, MountPath: dir}, ""
}

// addStreams adds where stdout and stderr go.
func (d *data) addStreams() error {
	t := d.task.Spec
	if r := t.RedirectInfo; hasRedirect(r) {
		for _, s := range []struct {
			field, dir, file, stream string
			to                       **agentapi.Redirect
		}{
			{"redirectInfo.stdoutRedirectPath", r.StdoutRedirectPath, r.StdoutRedirectFileName, "stdout", &d.outputs.Stdout},
			{"redirectInfo.stderrRedirectPath", r.StderrRedirectPath, r.StderrRedirectFileName, "stderr", &d.outputs.Stderr},
		} {
			if s.dir == "" {
				continue
			}
			_, host, dir := splitRemote(d.names.Replace(s.dir))
			store, prefix, err := d.store(s.field, host, dir, d.keys())
			if err != nil {
				return err
			}
			*s.to = &agentapi.Redirect{Field: s.field, Destination: s.dir, Store: store, Key: prefix + d.fileName(s.file, s.stream)}
		}
	}
	if l := t.RedirectLocalInfo; hasLocal(l) {
		if l.StdoutLocalPath != "" {
			d.writable(l.StdoutLocalPath)
			d.exec.LocalStdout = path.Join(l.StdoutLocalPath, d.fileName(l.StdoutLocalFileName, "stdout"))
		}
		if l.StderrLocalPath != "" {
			d.writable(l.StderrLocalPath)
			d.exec.LocalStderr = path.Join(l.StderrLocalPath, d.fileName(l.StderrLocalFileName, "stderr"))
		}
	}
	return nil
}

// fileName is that of a stream. Source: BatchCompute, Quick Start.
func (d *data) fileName(name, stream string) string {
	return d.names.Replace(cmp.Or(name, stream+".${"+v1alpha1.EnvJobID+"}.${"+v1alpha1.EnvTaskName+"}.${"+v1alpha1.EnvTaskInstanceIndex+"}.log"))
}

// store returns the store of a cos:// path and the key that its directory, or file, begins with.
func (d *data) store(field, host, file string, keys keys) (agentapi.Store, string, error) {
	s, ok := d.cluster.Catalog.Store(host)
	if !ok {
		return agentapi.Store{}, "", failure(v1alpha1.ReasonStoreUnknown, "%s: %q is no host with a bucket, and the operator's catalogue has no store for it", field, host)
	}
	out := storeOf(&s, keys)
	switch {
	case out.KeyField != "":
		out.Credentials = d.credentials("key/"+out.KeySecret, corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
			SecretName: out.KeySecret, Items: []corev1.KeyToPath{{Key: agentapi.SecretKeyFile, Path: agentapi.SecretKeyFile}},
		}})
	case out.KeySecret != "":
		out.Credentials = d.credentials("all/"+s.SecretName, corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: s.SecretName}})
	case out.Identity != "":
		out.Credentials = d.credentials("token/"+s.Identity.Audience, corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
				Audience: s.Identity.Audience, ExpirationSeconds: new(int64(3600)), Path: agentapi.TokenFile,
			}}},
		}})
	}
	return out, keyOf(&s, file), nil
}

// StoreOf returns the store of a cos:// path without placeholders, and the key that its directory, or file, begins with,
// as the agent of a Pod gets them, except Credentials, which is empty: KeySecret names the Secret. list are the
// authentications that count for the task. ok is false if the host names no bucket, or if who wrote the path has chosen
// the endpoint: see catalog.Catalog.NamesEndpoint.
func StoreOf(c *catalog.Catalog, remote string, list []v1alpha1.Authentication) (store agentapi.Store, key string, ok bool) {
	scheme, host, file := splitRemote(remote)
	s, ok := c.Store(host)
	if !ok || scheme != "cos" || !c.NamesEndpoint(host) {
		return agentapi.Store{}, "", false
	}
	return storeOf(&s, keys{"authentications", list}), keyOf(&s, file), true
}

// storeOf returns a store of the catalogue with the key that it is asked with, without Credentials.
func storeOf(s *catalog.Store, keys keys) agentapi.Store {
	out := agentapi.Store{Endpoint: s.Endpoint, Bucket: s.Bucket, Region: s.Region, PathStyle: s.PathStyle, CA: s.CA}
	switch i := Key(keys.list); {
	case i >= 0:
		key := &keys.list[i]
		out.KeyField, out.KeySecret, out.SecretID = fmt.Sprintf("%s[%d]", keys.field, i), key.SecretKeySecretRef.Name, key.SecretID
	case s.SecretName != "":
		out.KeySecret = s.SecretName
	case s.Identity != nil:
		out.Identity, out.Role = s.Identity.Endpoint, s.Identity.Role
	}
	return out
}

// keyOf returns the key of the path of a file, or the beginning of those below the path of a directory.
func keyOf(s *catalog.Store, file string) string { return s.Prefix + strings.TrimPrefix(file, "/") }

// credentials returns the directory of a volume with keys, which only the agent's containers mount.
func (d *data) credentials(what string, source corev1.VolumeSource) string {
	name, ok := d.secrets[what]
	if !ok {
		name = fmt.Sprintf("%s%d", keysPrefix, len(d.secrets))
		d.secrets[what] = name
		d.pod.Spec.Volumes = append(d.pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: source})
		m := corev1.VolumeMount{Name: name, MountPath: path.Join(agentapi.CredentialsDir, name), ReadOnly: true}
		d.stageMounts, d.outputMounts = append(d.stageMounts, m), append(d.outputMounts, m)
	}
	return path.Join(agentapi.CredentialsDir, name)
}

// CatalogSecrets are the Secrets with keys of stores that the operator's catalogue has named for a Pod.
func CatalogSecrets(pod *corev1.Pod) []string {
	var names []string
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if strings.HasPrefix(v.Name, keysPrefix) && v.Secret != nil && len(v.Secret.Items) == 0 {
			names = append(names, v.Secret.SecretName)
		}
	}
	return names
}

// addContainers adds the containers of the agent, and has it run the command.
func (d *data) addContainers() {
	spec := &d.pod.Spec
	// The kubelet shares the size of termination messages among the containers.
	bytes := agentapi.MessageBytes(maxContainers)
	d.stage.MessageBytes, d.exec.MessageBytes, d.outputs.MessageBytes = bytes, bytes, bytes
	if len(d.stage.Inputs) > 0 || d.stage.Package != nil {
		d.stage.Version = agentapi.Version
		d.stage.Limits.MaxBytes, d.stage.Limits.MaxBytesField = d.diskBytes()
		spec.InitContainers = append(spec.InitContainers, d.agent(StageContainer, "stage", d.stage, used(d.stageMounts, d.stage), "256Mi"))
	}
	stores := len(d.outputs.Outputs) > 0 || d.outputs.Stdout != nil || d.outputs.Stderr != nil || d.exec.HoldSeconds > 0
	if !stores && d.exec.LocalStdout+d.exec.LocalStderr == "" {
		return
	}
	program := corev1.Volume{Name: agentVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
	if d.cluster.Agent.ImageVolumes {
		program.VolumeSource = corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: d.cluster.Agent.Image, PullPolicy: corev1.PullIfNotPresent}}
	} else {
		install := d.agent(installContainer, "install", nil, []corev1.VolumeMount{{Name: agentVolume, MountPath: agentapi.AgentDir}}, "64Mi")
		install.Command = append(install.Command, agentapi.AgentDir)
		spec.InitContainers = append(spec.InitContainers, install)
	}
	spec.Volumes = append(spec.Volumes, program,
		corev1.Volume{Name: stateVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	state := corev1.VolumeMount{Name: stateVolume, MountPath: agentapi.StateDir}
	d.container.VolumeMounts = append(d.container.VolumeMounts, corev1.VolumeMount{Name: agentVolume, MountPath: agentapi.AgentDir, ReadOnly: true}, state)
	d.exec.Version, d.exec.GraceSeconds = agentapi.Version, execGrace
	d.exec.KeepStdout, d.exec.KeepStderr = d.outputs.Stdout != nil, d.outputs.Stderr != nil
	d.container.Command = append([]string{AgentProgram, "exec", "--"}, d.container.Command...)
	d.container.Env = append(d.container.Env, configuration(d.exec)...)
	if !stores {
		return
	}
	d.outputs.Version, d.outputs.GraceSeconds = agentapi.Version, outputsGrace
	d.outputs.OnFailure = d.env.Kubernetes.OutputsOnFailure == nil || *d.env.Kubernetes.OutputsOnFailure
	c := d.agent(OutputsContainer, "outputs", d.outputs, append(used(d.outputMounts, d.outputs), state), "128Mi")
	spec.Containers = append(spec.Containers, c)
	d.container = &spec.Containers[0]
}

// used leaves out the keys that a container does not need: those of which its configuration has no directory.
func used(mounts []corev1.VolumeMount, config any) []corev1.VolumeMount {
	text, _ := json.Marshal(config) // plain structures can always be encoded
	return slices.DeleteFunc(slices.Clone(mounts), func(m corev1.VolumeMount) bool {
		return strings.HasPrefix(m.MountPath, agentapi.CredentialsDir+"/") && !strings.Contains(string(text), strconv.Quote(m.MountPath))
	})
}

// agent is a container of the agent.
func (d *data) agent(name, command string, config any, mounts []corev1.VolumeMount, memory string) corev1.Container {
	c := corev1.Container{
		Name: name, Image: d.cluster.Agent.Image, ImagePullPolicy: corev1.PullIfNotPresent,
		Command: []string{"/agent", command}, VolumeMounts: mounts,
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("32Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(memory)},
		},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
	}
	if config != nil {
		c.Env = configuration(config)
	}
	return c
}

// configuration is what an agent's container is told.
func configuration(config any) []corev1.EnvVar {
	var out []corev1.EnvVar
	for _, v := range agentapi.Variables(config) {
		out = append(out, corev1.EnvVar{Name: v.Name, Value: literal(v.Value)})
	}
	return out
}

// diskBytes is what the kubelet lets the Pod write to its node's disk, and the field that says so; 0 where nothing is
// limited: only the container of the command has a limit. Unit: bytes.
func (d *data) diskBytes() (n int64, field string) {
	limit, ok := d.container.Resources.Limits[corev1.ResourceEphemeralStorage]
	if !ok || limit.Value() <= 0 {
		return 0, ""
	}
	of := "computeEnv."
	if d.env.Name != "" {
		of = d.ofEnv("")
	}
	switch k := d.env.Kubernetes.Resources; {
	case k != nil && hasKey(k.Limits, corev1.ResourceEphemeralStorage):
		field = of + "kubernetes.resources.limits.ephemeral-storage"
	case d.env.Data.SystemDisk != nil:
		field = of + "envData.systemDisk.diskSize"
	default:
		field = "the machine type"
	}
	return limit.Value(), field
}

func hasKey(list corev1.ResourceList, name corev1.ResourceName) bool {
	_, ok := list[name]
	return ok
}

// splitRemote splits scheme://host/file; file begins with a slash.
func splitRemote(remote string) (scheme, host, file string) {
	scheme, rest, _ := strings.Cut(remote, "://")
	host, file, _ = strings.Cut(rest, "/")
	return scheme, host, "/" + file
}
