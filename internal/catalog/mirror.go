// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package catalog

import "strings"

// dockerHub is the registry of images that name none; its own index is an alias.
const (
	dockerHub      = "docker.io"
	dockerHubIndex = "index.docker.io"
)

// Mirror returns the name under which an image is pulled: its registry replaced where a
// mirror is configured for it. An image without a registry is one of docker.io.
func (c *Catalog) Mirror(image string) string {
	if len(c.mirrors) == 0 {
		return image
	}
	host, name := registryOf(image)
	prefix, ok := c.mirrors[host]
	if !ok || name == "" {
		return image
	}
	if host == dockerHub && !strings.Contains(name, "/") {
		return prefix + "/library/" + name // as docker.io has what is in no organization
	}
	return prefix + "/" + name
}

// registryOf splits an image into the registry's host, docker.io if it names none, and
// the rest.
func registryOf(image string) (host, name string) {
	first, rest, found := strings.Cut(image, "/")
	switch {
	case !found || !isRegistry(first):
		return dockerHub, image
	case first == dockerHubIndex:
		return dockerHub, rest
	}
	return first, rest
}

// isRegistry reports whether the first of several segments of an image is the host of a
// registry and no part of a path.
func isRegistry(segment string) bool {
	return strings.ContainsAny(segment, ".:") || segment == "localhost"
}
