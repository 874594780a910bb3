// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"

	"batchcompute.dev/operator/hack/cluster/internal/build"
	"batchcompute.dev/operator/hack/cluster/internal/part"
)

// Status is what "status --json" prints.
type Status struct {
	Name       string         `json:"name"`
	Provider   Provider       `json:"provider"`
	Tier       build.Tier     `json:"tier"`
	NodeKind   string         `json:"nodeKind"` // "node", "process", "fake", or "" where no Pod can go anywhere
	Healthy    bool           `json:"healthy"`
	Problem    string         `json:"problem,omitempty"` // why it is not healthy
	Kubeconfig string         `json:"kubeconfig"`
	API        string         `json:"api,omitempty"`
	HostIP     string         `json:"hostIP,omitempty"` // where Pods reach this machine
	Zone       string         `json:"zone,omitempty"`   // of the real or the process node
	PIDs       map[string]int `json:"pids,omitempty"`   // of the parts that run, by name
	LogDir     string         `json:"logDir,omitempty"`
	BinDir     string         `json:"binDir,omitempty"`
}

// Status looks at the cluster.
func (c *Cluster) Status(ctx context.Context) (*Status, error) {
	s := &Status{Name: c.Name, Provider: c.Provider, Tier: c.Tier, Kubeconfig: c.Kubeconfig()}
	if problem := c.problem(ctx); problem != nil {
		s.Problem = problem.Error()
	}
	s.Healthy = s.Problem == ""
	if c.Provider != Local {
		s.NodeKind = string(build.Node)
		return s, nil
	}
	s.API, s.LogDir, s.BinDir, s.HostIP, s.Zone = c.Server(), c.LogDir(), c.BinDir, c.apiIP(), c.Zone
	switch {
	case c.Tier == build.Node, c.Tier == build.Process:
		s.NodeKind = string(c.Tier)
	case c.Fake.Count > 0:
		s.NodeKind = string(build.Fake)
	}
	records, err := part.List(c.partsDir())
	if err != nil {
		return nil, err
	}
	s.PIDs = map[string]int{}
	for _, r := range records {
		if r.Running(c.self) {
			s.PIDs[r.Name] = r.ID.PID
		}
	}
	return s, nil
}
