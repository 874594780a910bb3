// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"batchcompute.dev/operator/internal/testutil/freeport"
)

// Names of what config/ makes.
const (
	Namespace  = "batchcompute-system"
	deployment = "deployment/batchcompute-controller-manager"
	image      = "batchcompute-operator:dev"
	imageFile  = "bin/image.tar"
	agentImage = "batchcompute-agent:dev"
	agentFile  = "bin/agent.tar"
)

// configurations are what points the API server to the webhooks.
var configurations = []string{
	"mutatingwebhookconfiguration/batchcompute-mutating-webhook-configuration",
	"validatingwebhookconfiguration/batchcompute-validating-webhook-configuration",
}

// ManagerPart is the name of a manager that runs beside the cluster, on the host.
const ManagerPart = "manager"

// serveTimeout bounds how long the operator may take to serve.
const serveTimeout = 2 * time.Minute

// Install puts the operator of this source tree into the cluster, replaces one that is
// there already, and returns once its webhook answers.
func (c *Cluster) Install(ctx context.Context) error {
	install := c.installInside
	if c.NodeKind == "process" || c.NodeKind == "fake" {
		install = c.installBeside
	}
	if err := install(ctx); err != nil {
		return err
	}
	return c.waitForWebhook(ctx)
}

// forgetHost removes webhook configurations that point to a manager on the host: they
// cannot be merged with ones that point to a Service, or to another port.
func (c *Cluster) forgetHost(ctx context.Context) error {
	for _, configuration := range configurations {
		url, err := c.Kubectl(ctx, "get", configuration, "--ignore-not-found", "-o", "jsonpath={.webhooks[*].clientConfig.url}").Output()
		if err != nil {
			return fmt.Errorf("looking for a webhook configuration: %w", err)
		}
		if len(url) == 0 {
			continue
		}
		if err := c.run(c.Kubectl(ctx, "delete", configuration)); err != nil {
			return err
		}
	}
	return nil
}

// installInside runs the manager as a Deployment, from an image, and the gateway likewise if it is asked for.
func (c *Cluster) installInside(ctx context.Context) error {
	if c.target.Cluster != "existing" {
		if err := c.loadImage(ctx); err != nil {
			return err
		}
	}
	if err := c.forgetHost(ctx); err != nil {
		return err
	}
	dir, deployments := "config/default", []string{deployment}
	if c.target.Gateway {
		dir, deployments = "config/default-gateway", append(deployments, gatewayDeployment)
	}
	manifests, err := c.Kubectl(ctx, "kustomize", dir).Output()
	if err != nil {
		return fmt.Errorf("building the manifests: %w", err)
	}
	wereThere := map[string]bool{}
	for _, d := range deployments {
		wereThere[d] = c.Kubectl(ctx, "-n", Namespace, "get", d).Run() == nil
	}
	apply := c.Kubectl(ctx, "apply", "--server-side", "-f", "-")
	text, err := c.edited(string(manifests))
	if err != nil {
		return err
	}
	apply.Stdin = strings.NewReader(text)
	if err := c.show(apply, "kubectl apply --server-side -k "+dir); err != nil {
		return err
	}
	if c.target.Gateway {
		if err := c.giveCertificate(ctx); err != nil {
			return err
		}
	}
	return c.rollOut(ctx, deployments, wereThere)
}

// rollOut waits until Deployments have the Pods that they should have. Those that were there before are restarted: the
// image's name is the same, but not what is in it.
func (c *Cluster) rollOut(ctx context.Context, deployments []string, wereThere map[string]bool) error {
	for _, d := range deployments {
		if !wereThere[d] {
			continue
		}
		if err := c.run(c.Kubectl(ctx, "-n", Namespace, "rollout", "restart", d)); err != nil {
			return err
		}
	}
	for _, d := range deployments {
		if err := c.run(c.Kubectl(ctx, "-n", Namespace, "rollout", "status", d, "--timeout", serveTimeout.String())); err != nil {
			return err
		}
	}
	return nil
}

// edited returns the manifests with the images of the target, and with what this program adds to the catalogue.
func (c *Cluster) edited(manifests string) (string, error) {
	for _, r := range []struct{ have, want string }{
		{"image: " + image + "\n", "image: " + c.target.Image + "\n"},
		{"value: " + agentImage + "\n", "value: " + c.target.AgentImage + "\n"},
		{"\n    kind: Catalog\n", "\n    kind: Catalog\n" + indented(c.catalogue())},
	} {
		if strings.HasSuffix(r.want, ": \n") || r.have == r.want {
			continue
		}
		if !strings.Contains(manifests, r.have) {
			return "", fmt.Errorf("the manifests have no %q to replace", strings.TrimSpace(r.have))
		}
		manifests = strings.ReplaceAll(manifests, r.have, r.want)
	}
	return manifests, nil
}

func (c *Cluster) loadImage(ctx context.Context) error {
	for _, cmd := range []*exec.Cmd{
		exec.CommandContext(ctx, "make", "--no-print-directory", "image"),
		exec.CommandContext(ctx, program, "load-image", "--name", c.target.Name, imageFile, agentFile),
	} {
		if err := c.run(cmd); err != nil {
			return err
		}
	}
	return nil
}

// installBeside runs the manager on the host, where Pods are local processes.
func (c *Cluster) installBeside(ctx context.Context) error {
	if err := c.run(exec.CommandContext(ctx, "make", "--no-print-directory", "build")); err != nil {
		return err
	}
	if err := c.forgetHost(ctx); err != nil {
		return err
	}
	apply := c.Kubectl(ctx, "apply", "--server-side", "-k", "config/host")
	if err := c.show(apply, "kubectl apply --server-side -k config/host"); err != nil {
		return err
	}
	manager, err := filepath.Abs("bin/manager")
	if err != nil {
		return err
	}
	catalog, err := c.catalogFile()
	if err != nil {
		return err
	}
	addresses, err := freeport.Addresses(3)
	if err != nil {
		return err
	}
	webhook, probes, metrics := addresses[0], addresses[1], addresses[2]
	args := []string{"run", "--name", c.target.Name, ManagerPart, "--", manager,
		"--kubeconfig", c.Kubeconfig, "--catalog", catalog,
		"--webhook-bind-address", webhook, "--webhook-url", "https://" + webhook,
		"--health-probe-bind-address", probes, "--metrics-bind-address", metrics, "--metrics-secure=false"}
	if c.target.QPS > 0 {
		args = append(args, c.target.limits()...)
	}
	args = append(args, c.target.ManagerArgs...)
	if err := c.run(exec.CommandContext(ctx, program, args...)); err != nil {
		return err
	}
	c.ReadyURL = "http://" + probes + "/readyz"
	if err := c.waitForProbe(ctx, "the operator", c.ReadyURL); err != nil || !c.target.Gateway {
		return err
	}
	return c.gatewayBeside(ctx)
}

// waitForProbe waits until a program says at a URL that it is ready.
func (c *Cluster) waitForProbe(ctx context.Context, who, url string) error {
	return eventually(ctx, who, func() error {
		res, err := http.Get(url)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			body, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10))
			return fmt.Errorf("%s answers %s: %s", url, res.Status, body)
		}
		return nil
	})
}

// waitForWebhook asks for a job without storing it, until the webhook has answered:
// the API server and the Service may be a moment behind the manager.
func (c *Cluster) waitForWebhook(ctx context.Context) error {
	return eventually(ctx, "the operator", func() error {
		out, err := c.Kubectl(ctx, "create", "--dry-run=server", "-f", "hack/internal/install/probe.yaml").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
		}
		return nil
	})
}

// eventually calls try until it succeeds, and returns its last error when it never does. who is what serves then.
func eventually(ctx context.Context, who string, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, serveTimeout)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not serve after %s: %w", who, serveTimeout, err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Main runs fn for a command of this package's callers and ends the program.
func Main(fn func(context.Context) error) {
	if err := fn(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}
