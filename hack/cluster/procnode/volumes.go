// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// writeVolumes makes a directory below dir for each volume of the Pod.
func (v variables) writeVolumes(ctx context.Context, dir string) error {
	for i := range v.pod.Spec.Volumes {
		vol := &v.pod.Spec.Volumes[i]
		if err := v.writeVolume(ctx, vol, filepath.Join(dir, vol.Name)); err != nil {
			return fmt.Errorf("volume %s: %w", vol.Name, err)
		}
	}
	return nil
}

func (v variables) writeVolume(ctx context.Context, vol *corev1.Volume, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	switch {
	case vol.EmptyDir != nil, hasToken(vol):
		return nil
	case vol.ConfigMap != nil:
		data, err := v.configMap(ctx, vol.ConfigMap.Name, vol.ConfigMap.Optional)
		if err != nil {
			return err
		}
		return writeKeys(dir, data, vol.ConfigMap.Items, vol.ConfigMap.DefaultMode, vol.ConfigMap.Optional)
	case vol.Secret != nil:
		data, err := v.secret(ctx, vol.Secret.SecretName, vol.Secret.Optional)
		if err != nil {
			return err
		}
		return writeKeys(dir, data, vol.Secret.Items, vol.Secret.DefaultMode, vol.Secret.Optional)
	case vol.DownwardAPI != nil:
		for _, item := range vol.DownwardAPI.Items {
			if item.FieldRef == nil {
				return fmt.Errorf("resourceFieldRef is not supported by the process node")
			}
			value, err := v.field(item.FieldRef.FieldPath)
			if err != nil {
				return err
			}
			if err := writeKey(dir, item.Path, value, item.Mode, vol.DownwardAPI.DefaultMode); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("its type is not supported by the process node")
}

// hasToken tells whether a volume is one that the API server adds for the
// service account's token. It stays empty: tokens are not mounted here.
func hasToken(vol *corev1.Volume) bool {
	return vol.Projected != nil && slices.ContainsFunc(vol.Projected.Sources,
		func(s corev1.VolumeProjection) bool { return s.ServiceAccountToken != nil })
}

// writeKeys writes the chosen keys as files, all of them when none is chosen.
func writeKeys(dir string, data map[string]string, items []corev1.KeyToPath, mode *int32, optional *bool) error {
	if len(items) == 0 {
		for key := range data {
			items = append(items, corev1.KeyToPath{Key: key, Path: key})
		}
	}
	for _, item := range items {
		value, ok := data[item.Key]
		if !ok && isTrue(optional) {
			continue
		}
		if !ok {
			return fmt.Errorf("references non-existent key: %s", item.Key)
		}
		if err := writeKey(dir, item.Path, value, item.Mode, mode); err != nil {
			return err
		}
	}
	return nil
}

// writeKey writes one file; the first mode that is set counts. The file is
// replaced as a whole, for an earlier one may be read-only.
func writeKey(dir, path, value string, modes ...*int32) error {
	if !filepath.IsLocal(path) {
		return fmt.Errorf("path %q leaves the volume", path)
	}
	mode := fs.FileMode(0o644)
	if i := slices.IndexFunc(modes, func(m *int32) bool { return m != nil }); i >= 0 {
		mode = fs.FileMode(*modes[i])
	}
	path = filepath.Join(dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path+"~", []byte(value), 0o600); err != nil {
		return err
	}
	return errors.Join(os.Chmod(path+"~", mode), os.Rename(path+"~", path))
}

// linkMounts makes each mountPath of c a symbolic link below root, and names the
// volume's place in e.
func linkMounts(e *environ, c *corev1.Container, volumes, root string) error {
	mounts := slices.Clone(c.VolumeMounts)
	slices.SortFunc(mounts, func(a, b corev1.VolumeMount) int { return len(a.MountPath) - len(b.MountPath) })
	for _, m := range mounts {
		if m.SubPathExpr != "" || (m.SubPath != "" && !filepath.IsLocal(m.SubPath)) {
			return fmt.Errorf("volume %s: subPathExpr, and a subPath outside the volume, are not supported", m.Name)
		}
		target := filepath.Join(volumes, m.Name, m.SubPath)
		if _, err := os.Stat(target); errors.Is(err, fs.ErrNotExist) {
			if err := os.MkdirAll(target, 0o755); err != nil {
				return fmt.Errorf("volume %s: %w", m.Name, err)
			}
		}
		link := filepath.Join(root, m.MountPath)
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			return fmt.Errorf("volume %s: %w", m.Name, err)
		}
		if err := os.Symlink(target, link); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("volume %s: %w", m.Name, err)
		}
		e.set("PROCNODE_MOUNT_"+variableName(m.Name), target)
	}
	return nil
}

// variableName turns a volume's name into a part of a variable's name.
func variableName(s string) string {
	return strings.NewReplacer("-", "_", ".", "_").Replace(strings.ToUpper(s))
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

func isTrue(b *bool) bool { return b != nil && *b }
