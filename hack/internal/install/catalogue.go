// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// shippedCatalogue is the catalogue that the operator comes with.
const shippedCatalogue = "config/manager/catalog.yaml"

// Topic is an entry of the catalogue's topics that has events of a topic posted to a URL, one in each request.
func Topic(name, url string) string { return fmt.Sprintf("{name: %q, http: {url: %q}}", name, url) }

// catalogue are the lines that this program adds to the catalogue: the store beside the cluster, and Topics.
func (c *Cluster) catalogue() string {
	out := c.Store.catalogue()
	if len(c.Topics) > 0 {
		out += "notifications:\n  topics:\n  - " + strings.Join(c.Topics, "\n  - ") + "\n"
	}
	return out
}

// catalogFile returns the path of the catalogue for programs beside the cluster. If something is to be added to the one
// that the operator comes with, it is a copy.
func (c *Cluster) catalogFile() (string, error) {
	more := c.catalogue()
	if more == "" {
		return filepath.Abs(shippedCatalogue)
	}
	text, err := os.ReadFile(shippedCatalogue)
	if err != nil {
		return "", fmt.Errorf("reading the catalogue: %w", err)
	}
	file := filepath.Join(filepath.Dir(c.Kubeconfig), "catalog.yaml")
	if err := os.WriteFile(file, append(text, more...), 0o600); err != nil {
		return "", fmt.Errorf("writing the catalogue: %w", err)
	}
	return file, nil
}

// indented returns lines as they are in the ConfigMap of the catalogue.
func indented(lines string) string {
	var out strings.Builder
	for line := range strings.Lines(lines) {
		out.WriteString("    " + line)
	}
	return out.String()
}
