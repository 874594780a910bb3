// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	corev1 "k8s.io/api/core/v1"
)

// imagesFile is the file below Root that adds images at run time.
const imagesFile = "images.json"

// command prepares all that c's process needs.
func (p *pod) command(c *corev1.Container, image string) (*exec.Cmd, error) {
	if len(c.Command) == 0 {
		return nil, errors.New("no command specified: the process node doesn't know an image's entrypoint, so command must be set")
	}
	if c.RestartPolicy != nil {
		return nil, errors.New("a restartPolicy of a container is not supported by the process node")
	}
	root := filepath.Join(p.containerDir(c.Name), "root")
	if err := p.linkMounts(c, root); err != nil {
		return nil, err
	}
	env, err := p.environment(c, map[string]string{
		"PATH": filepath.Join(image, "bin") + string(filepath.ListSeparator) + os.Getenv("PATH"),
		"HOME": root, "HOSTNAME": p.obj.Name,
	})
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{Dir: filepath.Join(root, c.WorkingDir)}
	for _, arg := range slices.Concat(c.Command, c.Args) {
		cmd.Args = append(cmd.Args, expand(arg, env))
	}
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	if err := os.MkdirAll(cmd.Dir, 0o755); err != nil {
		return nil, err
	}
	cmd.Path, err = findProgram(cmd.Args[0], image, env["PATH"])
	return cmd, err
}

func (p *pod) containerDir(name string) string { return filepath.Join(p.dir, "containers", name) }

func (p *pod) logPath(name string) string { return filepath.Join(p.containerDir(name), "log") }

// environment adds the variables of c to env, in their order: a later one may
// use an earlier one.
func (p *pod) environment(c *corev1.Container, env map[string]string) (map[string]string, error) {
	if len(c.EnvFrom) > 0 {
		return nil, errors.New("envFrom is not supported by the process node")
	}
	for _, v := range c.Env {
		switch {
		case v.ValueFrom == nil:
			env[v.Name] = expand(v.Value, env)
		case v.ValueFrom.FieldRef == nil:
			return nil, fmt.Errorf("variable %s: of valueFrom, only fieldRef is supported by the process node", v.Name)
		default:
			value, err := p.field(v.ValueFrom.FieldRef.FieldPath)
			if err != nil {
				return nil, fmt.Errorf("variable %s: %w", v.Name, err)
			}
			env[v.Name] = value
		}
	}
	return env, nil
}

var reference = regexp.MustCompile(`\$\$|\$\([^)]*\)`)

// expand replaces $(NAME) by the variable's value. An unknown name stays as it
// is, and $$ stands for one $. Source: the Container.command field.
func expand(s string, env map[string]string) string {
	return reference.ReplaceAllStringFunc(s, func(ref string) string {
		if ref == "$$" {
			return "$"
		}
		if value, ok := env[ref[2:len(ref)-1]]; ok {
			return value
		}
		return ref
	})
}

// field returns the value of a downward API field path.
func (p *pod) field(path string) (string, error) {
	what, key, _ := strings.Cut(strings.TrimSuffix(path, "']"), "['")
	switch what {
	case "metadata.name":
		return p.obj.Name, nil
	case "metadata.namespace":
		return p.obj.Namespace, nil
	case "metadata.uid":
		return string(p.obj.UID), nil
	case "metadata.labels":
		return p.obj.Labels[key], nil
	case "metadata.annotations":
		return p.obj.Annotations[key], nil
	case "spec.nodeName":
		return p.obj.Spec.NodeName, nil
	case "status.podIP", "status.hostIP":
		return p.n.ip, nil
	}
	return "", fmt.Errorf("field %q is not supported by the process node", path)
}

// linkMounts makes root, and in it each mountPath of c a symbolic link to the
// volume's directory.
func (p *pod) linkMounts(c *corev1.Container, root string) error {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	for _, m := range c.VolumeMounts {
		i := slices.IndexFunc(p.obj.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		// The API server adds a projected volume with a token; it stays empty.
		if v := p.obj.Spec.Volumes[i]; v.EmptyDir == nil && v.Projected == nil || m.SubPathExpr != "" {
			return fmt.Errorf("volume %s: only emptyDir, without subPathExpr, is supported by the process node", m.Name)
		}
		target := filepath.Join(p.dir, "volumes", m.Name, m.SubPath)
		link := filepath.Join(root, m.MountPath)
		if err := errors.Join(os.MkdirAll(target, 0o755), os.MkdirAll(filepath.Dir(link), 0o755)); err != nil {
			return err
		}
		if err := os.Symlink(target, link); err != nil && !errors.Is(err, fs.ErrExist) { // of an earlier start
			return err
		}
	}
	return nil
}

// findImage returns the host directory that stands for an image. images.json is
// read each time, so that images can be added while the process node runs; it
// wins over Config.Images.
func findImage(cfg Config, ref string) (string, error) {
	want, err := name.ParseReference(ref)
	if err != nil {
		return "", err
	}
	added := map[string]string{}
	data, err := os.ReadFile(filepath.Join(cfg.Root, imagesFile))
	if err == nil {
		err = json.Unmarshal(data, &added)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("reading %s: %w", imagesFile, err)
	}
	for _, images := range []map[string]string{added, cfg.Images} {
		for ref, dir := range images {
			if have, err := name.ParseReference(ref); err == nil && have.Name() == want.Name() {
				return dir, nil
			}
		}
	}
	return "", errors.New("not found: the process node has no directory for it")
}

// findProgram returns the file of a command. An absolute one is looked for below
// the image's directory, then on the host; a bare name in the directories of path.
func findProgram(command, image, path string) (string, error) {
	if filepath.IsAbs(command) {
		if file, err := exec.LookPath(filepath.Join(image, command)); err == nil {
			return file, nil
		}
		return exec.LookPath(command)
	}
	if strings.Contains(command, "/") {
		return command, nil // relative to the working directory
	}
	for _, dir := range filepath.SplitList(path) {
		if file, err := exec.LookPath(filepath.Join(dir, command)); err == nil {
			return file, nil
		}
	}
	return "", &exec.Error{Name: command, Err: exec.ErrNotFound}
}
