// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// imagesFile is the file below Root that adds images at run time.
const imagesFile = "images.json"

// findImage returns the host directory that stands for an image, "" when there
// is none. Root/images.json is read each time, so that images can be added while
// the process node runs; it wins over Config.Images.
func findImage(cfg Config, ref string) (string, error) {
	added := map[string]string{}
	data, err := os.ReadFile(filepath.Join(cfg.Root, imagesFile))
	if err == nil {
		err = json.Unmarshal(data, &added)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("reading %s: %w", imagesFile, err)
	}
	want := normalizeImage(ref)
	for _, images := range []map[string]string{added, cfg.Images} {
		for ref, dir := range images {
			if normalizeImage(ref) == want {
				return dir, nil
			}
		}
	}
	return "", nil
}

// normalizeImage writes an image reference in full: registry, path, and tag or
// digest. busybox:1.37 becomes docker.io/library/busybox:1.37.
func normalizeImage(ref string) string {
	domain, path, ok := strings.Cut(ref, "/")
	if !ok || (!strings.ContainsAny(domain, ".:") && domain != "localhost") {
		domain, path = "docker.io", ref
	}
	if domain == "index.docker.io" {
		domain = "docker.io"
	}
	if domain == "docker.io" && !strings.Contains(path, "/") {
		path = "library/" + path
	}
	if !strings.Contains(path, "@") && !strings.Contains(path[strings.LastIndex(path, "/")+1:], ":") {
		path += ":latest"
	}
	return domain + "/" + path
}
