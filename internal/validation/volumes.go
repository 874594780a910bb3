// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
)

// Limits of volumes.
const (
	maxVolumes      = 32
	maxVolumeMounts = 64
	maxVolumeItems  = 64
	maxProjections  = 16
	maxFileMode     = 0o777
	maxAttributes   = 64
	// maxFSType and maxAudience bound texts of which Kubernetes bounds none. Unit: bytes.
	maxFSType   = 64
	maxAudience = 1024
	// minTokenSeconds is the API server's; maxTokenSeconds is a day, far below its own.
	minTokenSeconds = 600
	maxTokenSeconds = 86400
)

var (
	accessModes = []string{
		string(corev1.ReadWriteOnce), string(corev1.ReadOnlyMany), string(corev1.ReadWriteMany), string(corev1.ReadWriteOncePod),
	}
	pullPolicies = []string{string(corev1.PullAlways), string(corev1.PullIfNotPresent), string(corev1.PullNever)}
	media        = []string{string(corev1.StorageMediumMemory)}
)

// isDNSLabel is what Kubernetes calls a DNS-1123 label.
func isDNSLabel(s string) bool {
	return len(s) <= maxHostLabel && isObjectName(s) && !strings.Contains(s, ".")
}

// checkDNSLabel checks a name in a list: seen has those before it.
func (c *checker) checkDNSLabel(name string, seen map[string]bool, path *field.Path) {
	switch {
	case !c.required(name, path, "name"):
	case !isDNSLabel(name):
		c.wrong(path, "name", "must be lower-case letters, digits and -, at most %d, got %s", maxHostLabel, quote(name))
	case seen[name]:
		c.wrong(path, "name", "must be unique, got %s again", quote(name))
	}
	seen[name] = true
}

// oneOfValues is oneOf with the code of kubernetes.
func (c *checker) oneOfValues(value string, allowed []string, path *field.Path, name string) {
	c.oneOf(value, allowed, errcode.InvalidParameterValue, path, name)
}

// isOurVolume says whether the operator has volumes of this name.
func isOurVolume(name string) bool {
	return name == "shm" || strings.HasPrefix(name, "data-disk-") || strings.HasPrefix(name, "directory-") || strings.HasPrefix(name, v1alpha1.VolumePrefix)
}

// sourcesOf are the sources that a volume may have.
func sourcesOf(v *v1alpha1.Volume) []choice {
	return []choice{
		{"persistentVolumeClaim", v.PersistentVolumeClaim != nil}, {"configMap", v.ConfigMap != nil}, {"secret", v.Secret != nil},
		{"emptyDir", v.EmptyDir != nil}, {"ephemeral", v.Ephemeral != nil}, {"image", v.Image != nil}, {"csi", v.CSI != nil}, {"projected", v.Projected != nil},
	}
}

// checkVolumes checks kubernetes.volumes and kubernetes.volumeMounts.
func (c *checker) checkVolumes(k *v1alpha1.KubernetesOptions, path *field.Path) {
	names := make(map[string]bool, len(k.Volumes))
	if c.checkCount(len(k.Volumes), maxVolumes, path, "volumes") {
		for i := range k.Volumes {
			v, p := &k.Volumes[i], path.Child("volumes").Index(i)
			c.checkDNSLabel(v.Name, names, p)
			if isOurVolume(v.Name) {
				c.wrong(p, "name", "must not be shm or begin with data-disk-, directory- or %s, which are the operator's, got %s", v1alpha1.VolumePrefix, quote(v.Name))
			}
			c.exactlyOne(sourcesOf(v), p)
			c.checkVolumeType(v, p)
			c.checkSource(v, p)
		}
	}
	if !c.checkCount(len(k.VolumeMounts), maxVolumeMounts, path, "volumeMounts") {
		return
	}
	for i := range k.VolumeMounts {
		m, p := &k.VolumeMounts[i], path.Child("volumeMounts").Index(i)
		if c.required(m.Name, p, "name") && !names[m.Name] {
			c.wrong(p, "name", "must be the name of a volume of volumes, got %s", quote(m.Name))
		}
		if c.required(m.MountPath, p, "mountPath") {
			c.checkMountPath(m.MountPath, p)
		}
		c.failFault(subPathFault(m.SubPath), p, "subPath")
	}
}

// checkSource checks whatever sources a volume has.
func (c *checker) checkSource(v *v1alpha1.Volume, path *field.Path) {
	if s := v.PersistentVolumeClaim; s != nil {
		c.checkRequiredName(s.ClaimName, path.Child("persistentVolumeClaim"), "claimName")
	}
	if s := v.ConfigMap; s != nil {
		p := path.Child("configMap")
		c.checkRequiredName(s.Name, p, "name")
		c.checkItems(s.Items, nil, p)
		c.checkMode(s.DefaultMode, p, "defaultMode")
	}
	if s := v.Secret; s != nil {
		p := path.Child("secret")
		c.checkRequiredName(s.SecretName, p, "secretName")
		c.checkSecretName(s.SecretName, p, "secretName")
		c.checkItems(s.Items, nil, p)
		c.checkMode(s.DefaultMode, p, "defaultMode")
	}
	if s := v.EmptyDir; s != nil {
		p := path.Child("emptyDir")
		c.oneOfValues(s.Medium, media, p, "medium")
		if s.SizeLimit != nil && s.SizeLimit.Sign() < 0 {
			c.wrong(p, "sizeLimit", "must not be negative, got %s", quote(s.SizeLimit.String()))
		}
	}
	if s := v.Ephemeral; s != nil {
		p := path.Child("ephemeral")
		if s.VolumeClaimTemplate == nil {
			c.fail(errcode.MissingParameter, p, "volumeClaimTemplate", "must be given")
		} else {
			c.checkClaimSpec(&s.VolumeClaimTemplate.Spec, p.Child("volumeClaimTemplate", "spec"))
		}
	}
	if s := v.Image; s != nil {
		p := path.Child("image")
		if c.required(s.Reference, p, "reference") && !isImageReference(s.Reference) {
			c.wrong(p, "reference", "must be a container image such as registry.example/team/data:1.2, got %s", quote(s.Reference))
		}
		c.oneOfValues(s.PullPolicy, pullPolicies, p, "pullPolicy")
	}
	if s := v.CSI; s != nil {
		c.checkCSI(s, path.Child("csi"))
	}
	if s := v.Projected; s != nil {
		c.checkProjected(s, path.Child("projected"))
	}
}

func (c *checker) checkMode(mode *int64, path *field.Path, name string) {
	if mode != nil && (*mode < 0 || *mode > maxFileMode) {
		c.wrong(path, name, "must be from 0 to %d, which is octal 0777, got %d", maxFileMode, *mode)
	}
}

// checkItems checks which keys become which files. seen, if not nil, has the files of other
// sources of the same volume.
func (c *checker) checkItems(items []v1alpha1.KeyToPath, seen map[string]bool, path *field.Path) {
	if !c.checkCount(len(items), maxVolumeItems, path, "items") {
		return
	}
	if seen == nil {
		seen = make(map[string]bool, len(items))
	}
	for i := range items {
		item, p := &items[i], path.Child("items").Index(i)
		c.checkDataKey(item.Key, p)
		c.checkFilePath(item.Path, seen, p)
		c.checkMode(item.Mode, p, "mode")
	}
}

// checkFilePath checks where in a volume a file is.
func (c *checker) checkFilePath(value string, seen map[string]bool, at *field.Path) {
	if !c.required(value, at, "path") {
		return
	}
	switch {
	case len(value) > maxPath:
		c.wrong(at, "path", "must be at most %d bytes", maxPath)
	case strings.HasPrefix(value, "/"), strings.HasPrefix(value, ".."), hasBackstep(value):
		c.wrong(at, "path", "must be relative to the volume, without .. segments, got %s", quote(value))
	case seen[path.Clean(value)]:
		c.wrong(at, "path", "must be unique in the volume, got %s again", quote(value))
	}
	seen[path.Clean(value)] = true
}

func hasBackstep(value string) bool {
	for segment := range strings.SplitSeq(value, "/") {
		if segment == ".." {
			return true
		}
	}
	return false
}

// checkClaimSpec checks a claim that is to be created for a Pod.
func (c *checker) checkClaimSpec(s *v1alpha1.VolumeClaimSpec, path *field.Path) {
	if c.checkCount(len(s.AccessModes), len(accessModes), path, "accessModes") {
		for i, mode := range s.AccessModes {
			if !slices.Contains(accessModes, mode) {
				c.wrong(path.Child("accessModes").Index(i), "", "must be %s, got %s", either(accessModes), quote(mode))
			}
			if mode == string(corev1.ReadWriteOncePod) && len(s.AccessModes) > 1 {
				c.wrong(path.Child("accessModes").Index(i), "", "must be the only one if it is %s", mode)
			}
		}
	}
	if s.StorageClassName != nil {
		c.checkName(*s.StorageClassName, path, "storageClassName")
	}
	p := path.Child("resources", "requests")
	size, ok := s.Resources.Requests[corev1.ResourceStorage]
	switch {
	case !ok:
		c.fail(errcode.MissingParameter, p, "storage", "must be given")
	case size.Sign() <= 0:
		c.wrong(p, "storage", "must be more than 0, got %s", quote(size.String()))
	case len(s.Resources.Requests) > 1:
		c.wrong(p, "", "must have nothing but storage")
	}
}

func (c *checker) checkCSI(s *v1alpha1.CSIVolume, path *field.Path) {
	if c.required(s.Driver, path, "driver") && (len(s.Driver) > maxHostLabel || !isObjectName(s.Driver)) {
		c.wrong(path, "driver", "must be the name of a CSI driver: lower-case letters, digits, - and ., at most %d, got %s", maxHostLabel, quote(s.Driver))
	}
	c.checkDriver(s.Driver, path)
	if len(s.FSType) > maxFSType || !only(s.FSType, "-_.") {
		c.wrong(path, "fsType", "must be letters, digits, -, _ and ., at most %d, got %s", maxFSType, quote(s.FSType))
	}
	c.checkCount(len(s.VolumeAttributes), maxAttributes, path, "volumeAttributes")
	c.checkSecretRef(s.NodePublishSecretRef, path, "nodePublishSecretRef")
	if s.NodePublishSecretRef != nil {
		c.checkSecretName(s.NodePublishSecretRef.Name, path.Child("nodePublishSecretRef"), "name")
	}
}

func (c *checker) checkProjected(s *v1alpha1.ProjectedVolume, path *field.Path) {
	c.checkMode(s.DefaultMode, path, "defaultMode")
	if len(s.Sources) == 0 {
		c.fail(errcode.MissingParameter, path, "sources", "must have at least one source")
	}
	if !c.checkCount(len(s.Sources), maxProjections, path, "sources") {
		return
	}
	seen := map[string]bool{}
	for i := range s.Sources {
		src, p := &s.Sources[i], path.Child("sources").Index(i)
		c.exactlyOne([]choice{{"secret", src.Secret != nil}, {"configMap", src.ConfigMap != nil}, {"serviceAccountToken", src.ServiceAccountToken != nil}}, p)
		if k := src.Secret; k != nil {
			c.checkRequiredName(k.Name, p.Child("secret"), "name")
			c.checkSecretName(k.Name, p.Child("secret"), "name")
			c.checkItems(k.Items, seen, p.Child("secret"))
		}
		if k := src.ConfigMap; k != nil {
			c.checkRequiredName(k.Name, p.Child("configMap"), "name")
			c.checkItems(k.Items, seen, p.Child("configMap"))
		}
		if t := src.ServiceAccountToken; t != nil {
			p = p.Child("serviceAccountToken")
			c.checkTokenFor(t.Audience, t.ExpirationSeconds, p)
			c.checkFilePath(t.Path, seen, p)
		}
	}
}

// checkTokenFor checks whom a token is for, and how long.
func (c *checker) checkTokenFor(audience string, seconds *int64, path *field.Path) {
	if len(audience) > maxAudience || !isPrintable(audience) {
		c.wrong(path, "audience", "must be at most %d characters that print, got %s", maxAudience, quote(audience))
	}
	c.within(seconds, minTokenSeconds, maxTokenSeconds, errcode.InvalidParameterValue, path, "expirationSeconds")
	c.checkTokens(path)
}

// checkServiceAccountToken checks kubernetes.serviceAccountToken.
func (c *checker) checkServiceAccountToken(t *v1alpha1.ServiceAccountToken, path *field.Path) {
	if t == nil {
		return
	}
	path = path.Child("serviceAccountToken")
	c.checkTokenFor(t.Audience, t.ExpirationSeconds, path)
	c.checkMountPath(cmp.Or(t.MountPath, v1alpha1.DefaultTokenPath), path)
}

// checkMountPath checks where something is mounted; nothing else of the task may be there.
func (c *checker) checkMountPath(value string, at *field.Path) {
	if sentence := mountPathFault(value); sentence != "" {
		c.wrong(at, "mountPath", "%s, got %s", sentence, quote(value))
		return
	}
	place := samePlace(value)
	if c.mounted[place] {
		c.wrong(at, "mountPath", "must be used once, by a disk, a mapping or a volume, got %s again", quote(value))
	}
	if c.mounted == nil {
		c.mounted = map[string]bool{}
	}
	c.mounted[place] = true
}

// mountPathFault says what is wrong with where a volume is mounted, "" if nothing is. A
// runtime refuses mounts in /proc.
func mountPathFault(value string) string {
	clean := path.Clean(value)
	switch {
	case len(value) > maxPath:
		return fmt.Sprintf("must be at most %d bytes", maxPath)
	case !strings.HasPrefix(value, "/") || clean == "/":
		return "must be an absolute path, such as /data, and not the root directory"
	case hasBackstep(value):
		return "must not have a .. segment"
	case strings.Contains(value, ":") || !isPrintable(value):
		return "must not have : or control characters"
	case isBelow(clean, "/proc"):
		return "must not be in /proc"
	case isBelow(clean, v1alpha1.OperatorDir):
		return "must not be in " + v1alpha1.OperatorDir + ", which is the operator's"
	}
	return ""
}

func isBelow(clean, dir string) bool { return clean == dir || strings.HasPrefix(clean, dir+"/") }

// isPrintable says whether s is text without control characters.
func isPrintable(s string) bool {
	for _, r := range s {
		if r != ' ' && !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return false
		}
	}
	return true
}

// subPathFault checks a path in a volume, in which the system variables may stand as
// placeholders. Their values have no slash and are not "..".
func subPathFault(value string) fault {
	bad := func(detail string) fault {
		return fault{errcode.InvalidParameterValue, detail + ", got " + quote(value)}
	}
	rest := value
	for _, name := range systemVariables {
		rest = strings.ReplaceAll(rest, "${"+name+"}", "x")
	}
	switch {
	case len(value) > maxPath:
		return bad(fmt.Sprintf("must be at most %d bytes", maxPath))
	case strings.HasPrefix(value, "/"):
		return bad("must be relative to the volume")
	case hasBackstep(value):
		return bad("must not have a .. segment")
	case strings.Contains(rest, "${"), strings.Contains(rest, "$("):
		return bad("must have no ${…} or $(…) but ${" + strings.Join(systemVariables, "}, ${") + "}")
	case !isPrintable(value):
		return bad("must not have control characters")
	}
	return fault{}
}

// systemVariables are those of every instance.
var systemVariables = []string{v1alpha1.EnvJobID, v1alpha1.EnvTaskName, v1alpha1.EnvTaskInstanceNum, v1alpha1.EnvTaskInstanceIndex}
