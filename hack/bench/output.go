// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/version"
)

// document is what results.json has.
type document struct {
	Machine  machine           `json:"machine"`
	Versions map[string]string `json:"versions"`
	Date     time.Time         `json:"date"`
	Command  string            `json:"command"`
	Small    bool              `json:"small,omitempty"`
	Summary  []row             `json:"summary"`
	Figures  []figure          `json:"figures"`
	Bars     []bar             `json:"bars"`
	Results  []result          `json:"results"`
}

// machine is where it was measured.
type machine struct {
	Cores  int     `json:"cores"`
	Memory float64 `json:"memoryGiB"`
	OS     string  `json:"os"`
}

func thisMachine() machine {
	m := machine{Cores: runtime.NumCPU(), OS: runtime.GOOS + "/" + runtime.GOARCH}
	data, _ := os.ReadFile("/proc/meminfo")
	if fields := strings.Fields(string(data)); len(fields) > 1 {
		kib, _ := strconv.ParseFloat(fields[1], 64)
		m.Memory = float64(int(10*kib/(1<<20))) / 10
	}
	data, _ = os.ReadFile("/etc/os-release")
	for line := range strings.Lines(string(data)) {
		if name, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			m.OS = strings.Trim(strings.TrimSpace(name), `"`) + ", " + m.OS
		}
	}
	return m
}

// versions says what was measured, and against what.
func (b *bench) versionsOf(ctx context.Context) (map[string]string, error) {
	versions := map[string]string{"go": runtime.Version(), "operator": "unknown"}
	if out, err := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty").Output(); err == nil {
		versions["operator"] = strings.TrimSpace(string(out))
	}
	data, err := b.api.Get().AbsPath("/version").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking for the API server's version: %w", err)
	}
	var server version.Info
	if err := json.Unmarshal(data, &server); err != nil {
		return nil, fmt.Errorf("reading the API server's version: %w", err)
	}
	versions["kubernetes"] = server.GitVersion
	return versions, nil
}

// write puts what there is so far into results.json, and a chart beside it.
func (b *bench) write() error {
	list := rows(b.results)
	data, err := json.MarshalIndent(document{
		Machine: thisMachine(), Versions: b.versions, Date: b.began, Command: strings.Join(os.Args, " "), Small: b.small,
		Summary: list, Figures: b.figures, Bars: barsOf(list, b.figures, b.results), Results: b.results,
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the results: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(b.out), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(b.out, append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(strings.TrimSuffix(b.out, ".json")+".svg", chart(list), 0o644)
}
