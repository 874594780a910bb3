// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"batchcompute.dev/operator/api/v1alpha1"
)

// The programs of the part with the gateway, as make builds them.
const (
	plugin     = "bin/kubectl-batchjob"
	sdkProgram = "bin/sdk-demo"
)

// tenant is the namespace that the program's requests act in, and keyName the name of the Secret with its key.
const (
	tenant  = "batchcompute-demo"
	keyName = "demo"
)

// showSDK runs a program with the vendor's SDK against the gateway, in a namespace that is made for it and removed
// afterwards, with its key.
func (d *demo) showSDK(ctx context.Context, zone string) error {
	// One that was left by a run that has failed.
	if out, err := d.cluster.Kubectl(ctx, "delete", "namespace", tenant, "--ignore-not-found").CombinedOutput(); err != nil {
		return fmt.Errorf("deleting the namespace of an earlier run: %w\n%s", err, out)
	}
	account := v1alpha1.DefaultAPIServiceAccount
	for _, args := range [][]string{
		{"create", "namespace", tenant},
		{"-n", tenant, "create", "serviceaccount", account},
		{"-n", tenant, "create", "rolebinding", account, "--clusterrole=batchcompute-gateway-client", "--serviceaccount=" + tenant + ":" + account},
	} {
		if err := d.kubectl(ctx, "", nil, args...); err != nil {
			return err
		}
	}
	fmt.Fprintf(d.out, "$ kubectl batchjob key create %s -n %s\n", keyName, tenant)
	id, key, err := d.makeKey(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "secretId: %s\nsecretKey: (not shown here)\n", id)
	if err := d.runSDK(ctx, zone, "TENCENTCLOUD_SECRET_ID="+id, "TENCENTCLOUD_SECRET_KEY="+key); err != nil {
		return err
	}
	return d.kubectl(ctx, "", nil, "delete", "namespace", tenant, "--wait=false")
}

// runSDK runs the program with the SDK, whose key is in its environment.
func (d *demo) runSDK(ctx context.Context, zone string, environment ...string) error {
	gateway, err := d.cluster.Gateway(ctx)
	if err != nil {
		return err
	}
	defer gateway.Close()
	dir, err := os.MkdirTemp("", "demo-")
	if err != nil {
		return fmt.Errorf("making a directory: %w", err)
	}
	defer os.RemoveAll(dir)
	ca := filepath.Join(dir, "ca.crt")
	if err := os.WriteFile(ca, gateway.CA, 0o600); err != nil {
		return fmt.Errorf("writing the gateway's certificate: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, jobTimeout)
	defer cancel()
	fmt.Fprintf(d.out, "$ %s --endpoint=%s --zone=%s    # hack/sdk/demo/main.go, with the vendor's SDK\n", sdkProgram, gateway.Endpoint, zone)
	cmd := exec.CommandContext(ctx, sdkProgram, "--endpoint", gateway.Endpoint, "--ca", ca, "--zone", zone)
	cmd.Env = append(os.Environ(), environment...)
	cmd.Stdout, cmd.Stderr = d.out, d.out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", sdkProgram, err)
	}
	return nil
}

// makeKey makes a key with the plugin of kubectl.
func (d *demo) makeKey(ctx context.Context) (id, key string, err error) {
	cmd := exec.CommandContext(ctx, plugin, "key", "create", keyName, "-n", tenant, "--expires", "1h", "--kubeconfig", d.cluster.Kubeconfig)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", "", fmt.Errorf("making a key: %w\n%s", err, &errs)
	}
	return parseKey(string(out))
}

// parseKey reads what the plugin prints of a new key.
func parseKey(out string) (id, key string, err error) {
	for line := range strings.Lines(out) {
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), ": "); name {
		case "secretId":
			id = value
		case "secretKey":
			key = value
		}
	}
	if id == "" || key == "" {
		return "", "", errors.New("making a key: the plugin has printed no secretId and secretKey")
	}
	return id, key, nil
}
