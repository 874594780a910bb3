// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"batchcompute.dev/operator/internal/catalog"
)

const rendered = `    apiVersion: config.batchcompute.dev/v1alpha1
    kind: Catalog
    # The container image of a task that names none.
          value: batchcompute-agent:dev
        image: batchcompute-operator:dev
`

// TestEdited: the images of the target and the store are in the manifests, which otherwise stay as they are.
func TestEdited(t *testing.T) {
	for name, tc := range map[string]struct {
		cluster Cluster
		want    string
	}{
		"as they are": {Cluster{}, rendered},
		"the same":    {Cluster{target: Target{Image: image, AgentImage: agentImage}}, rendered},
		"own images":  {Cluster{target: Target{Image: "example.com/o:1", AgentImage: "example.com/a:1"}}, strings.NewReplacer(image, "example.com/o:1", agentImage, "example.com/a:1").Replace(rendered)},
		"with a store": {Cluster{Store: &Store{Endpoint: "http://10.0.0.1:1"}}, strings.Replace(rendered, "kind: Catalog\n", `kind: Catalog
    stores:
    - {match: "*.myqcloud.com", endpoint: "http://10.0.0.1:1", region: us-east-1, style: path, secretName: store-keys}
`, 1)},
		"with a topic": {Cluster{Topics: []string{Topic("done", "http://10.0.0.1:1/hook?a=b")}}, strings.Replace(rendered, "kind: Catalog\n", `kind: Catalog
    notifications:
      topics:
      - {name: "done", http: {url: "http://10.0.0.1:1/hook?a=b"}}
`, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := tc.cluster.edited(rendered)
			if err != nil || got != tc.want {
				t.Errorf("edited() = %v\n%s\nwant\n%s", err, got, tc.want)
			}
		})
	}
	if _, err := (&Cluster{target: Target{AgentImage: "a"}}).edited("kind: Deployment\n"); err == nil {
		t.Error("edited() succeeds where there is nothing to replace")
	}
}

// TestCatalogFile: the catalogue of programs beside the cluster has what is added, and is valid.
func TestCatalogFile(t *testing.T) {
	t.Chdir("../../..")
	c := &Cluster{Kubeconfig: filepath.Join(t.TempDir(), "kubeconfig")}
	if file, err := c.catalogFile(); err != nil || !strings.HasSuffix(file, shippedCatalogue) {
		t.Errorf("nothing is to be added, and the catalogue is %s: %v", file, err)
	}
	c.Store = &Store{Endpoint: "http://10.0.0.1:1"}
	c.Topics = []string{Topic("done", "http://10.0.0.1:1/hook?a=b"), Topic("failed", "http://10.0.0.1:2/")}
	file, err := c.catalogFile()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := catalog.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if names := got.Notifications().TopicNames("default"); strings.Join(names, " ") != "done failed" {
		t.Errorf("the topics are %q", names)
	}
}
