// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package part runs the long-lived programs of a cluster ("parts": etcd,
// kube-apiserver, the node ...) so that they outlive the program that started
// them, and ends them again without ever ending somebody else's process.
package part

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Record tells which process a part is and how to start it again. It is stored
// as JSON, one file for each part.
type Record struct {
	Name string   `json:"name"`
	Exe  string   `json:"exe"`  // absolute path
	Args []string `json:"args"` // without the program's name
	Env  []string `json:"env,omitempty"`
	Log  string   `json:"log"` // standard output and error are appended here

	// Restart has the part started again whenever it ends by itself. The process
	// on record then is the one that does so, and the part is its child.
	Restart bool `json:"restart,omitempty"`

	// ID is empty while the part is stopped on purpose.
	ID *ID `json:"id,omitempty"`
}

const suffix = ".json"

func recordPath(dir, name string) string { return filepath.Join(dir, name+suffix) }

// Load returns the record of a part; the error is fs.ErrNotExist when there is none.
func Load(dir, name string) (*Record, error) {
	data, err := os.ReadFile(recordPath(dir, name))
	if err != nil {
		return nil, fmt.Errorf("reading the record of %s: %w", name, err)
	}
	r := &Record{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("reading the record of %s: %w", name, err)
	}
	return r, nil
}

// List returns every record in dir in the order of their names. A directory
// that does not exist has none.
func List(dir string) ([]*Record, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the parts: %w", err)
	}
	var records []*Record
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok {
			continue
		}
		r, err := Load(dir, name)
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	slices.SortFunc(records, func(a, b *Record) int { return strings.Compare(a.Name, b.Name) })
	return records, nil
}

// Save stores r in dir; a reader sees the old record or the new one, never half of one.
func (r *Record) Save(dir string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the record of %s: %w", r.Name, err)
	}
	path := recordPath(dir, r.Name)
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return fmt.Errorf("writing the record of %s: %w", r.Name, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("writing the record of %s: %w", r.Name, err)
	}
	return nil
}
