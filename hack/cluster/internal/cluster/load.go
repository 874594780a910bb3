// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"batchcompute.dev/operator/hack/cluster/internal/build"
	"batchcompute.dev/operator/hack/cluster/internal/image"
)

// LoadImage gives images to the cluster's nodes, which have no registry to get
// them from. archive is what "cluster image" or "docker save" wrote.
func (c *Cluster) LoadImage(ctx context.Context, archive string) error {
	names, err := image.Names(archive)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return fmt.Errorf("%s holds no image with a name", archive)
	}
	switch {
	case c.Provider == Existing:
		return fmt.Errorf("this is somebody else's cluster: push %v to a registry that its nodes can pull from", names)
	case c.Provider == Kind:
		cmd := exec.CommandContext(ctx, "kind", "load", "image-archive", archive, "--name", c.Name)
		cmd.Stdout, cmd.Stderr = c.log, c.log
		err = cmd.Run()
	case c.Tier == build.Node:
		err = c.importImage(ctx, archive)
	case c.Tier == build.Process:
		err = c.addProcessImages(archive, names)
	default:
		err = errors.New("no Pod really runs in a cluster of tier " + string(c.Tier) + ", so it takes no images")
	}
	if err != nil {
		return fmt.Errorf("loading %s: %w", archive, err)
	}
	c.say("Loaded %v", names)
	return nil
}

// addProcessImages unpacks images where the process node finds their programs.
func (c *Cluster) addProcessImages(archive string, names []string) error {
	dirs := map[string]string{}
	data, err := os.ReadFile(c.processImagesFile())
	if err != nil {
		return fmt.Errorf("reading the list of images: %w", err)
	}
	if err := json.Unmarshal(data, &dirs); err != nil {
		return fmt.Errorf("reading the list of images: %w", err)
	}
	content, err := os.ReadFile(archive)
	if err != nil {
		return fmt.Errorf("reading the image: %w", err)
	}
	for _, ref := range names {
		// By its content: an older image of the name may have programs running.
		sum := sha256.Sum256(append([]byte(ref), content...))
		dir := c.path("images", hex.EncodeToString(sum[:8]))
		if _, err := os.Stat(dir); err != nil {
			tmp := dir + ".tmp"
			if err := os.RemoveAll(tmp); err != nil {
				return fmt.Errorf("removing what was half unpacked: %w", err)
			}
			if err := image.Unpack(archive, ref, tmp); err != nil {
				return err
			}
			if err := os.Rename(tmp, dir); err != nil {
				return fmt.Errorf("putting %s in place: %w", filepath.Base(dir), err)
			}
		}
		dirs[ref] = dir
	}
	return c.writeProcessImages(dirs)
}
