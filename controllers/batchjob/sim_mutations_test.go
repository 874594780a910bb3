// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"

	"sigs.k8s.io/yaml"
)

var simMutations = flag.String("sim.mutations", "", "mutations that the simulation must find: \"all\", or a part of their names")

// simMutation is a mistake in the protocol.
type simMutation struct {
	Name string `json:"name"`
	File string `json:"file"`
	Old  string `json:"old"`
	New  string `json:"new"`
	Why  string `json:"why"`
}

// caught is what the simulation says of a run that broke an invariant.
var caught = regexp.MustCompile(`\bI\d+: .*`)

func loadMutations(t *testing.T) []simMutation {
	t.Helper()
	text, err := os.ReadFile("testdata/mutations.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var all []simMutation
	if err := yaml.UnmarshalStrict(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestSimMutationsApply holds that every mutation fits the code: its old text is there,
// once.
func TestSimMutationsApply(t *testing.T) {
	for _, m := range loadMutations(t) {
		if _, err := m.apply(); err != nil {
			t.Error(err)
		}
	}
}

// apply returns the text of the mutated file.
func (m *simMutation) apply() ([]byte, error) {
	text, err := os.ReadFile(filepath.Join("..", "..", m.File))
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(text, []byte(m.Old)); n != 1 || m.Old == "" {
		return nil, fmt.Errorf("mutation %q: its old text is in %s %d times, not once", m.Name, m.File, n)
	}
	return bytes.Replace(text, []byte(m.Old), []byte(m.New), 1), nil
}

// TestSimMutations builds the simulation with each mutation, beside the tree and not in
// it, and holds that it breaks an invariant; and that without one it does not.
func TestSimMutations(t *testing.T) {
	if *simMutations == "" {
		t.Skip("make sim does this: -sim.mutations says which")
	}
	var chosen []simMutation
	for _, m := range loadMutations(t) {
		if *simMutations == "all" || strings.Contains(m.Name, *simMutations) {
			chosen = append(chosen, m)
		}
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	found := 0
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for _, m := range append(chosen, simMutation{}) {
		wg.Add(1)
		slots <- struct{}{}
		go func() {
			defer func() { <-slots; wg.Done() }()
			broken, err := m.run(t.TempDir())
			fmt.Fprintf(os.Stderr, "%s: %s\n", cmp.Or(m.Name, "no mutation"), cmp.Or(broken, "nothing is broken")) // it takes minutes
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				t.Errorf("mutation %q: %v", m.Name, err)
			case m.Name == "" && broken != "":
				t.Errorf("without a mutation: %s", broken)
			case m.Name != "" && broken == "":
				t.Errorf("mutation %q is not found: %s", m.Name, m.Why)
			case m.Name != "":
				found++
				t.Logf("mutation %q is found: %s", m.Name, broken)
			}
		}()
	}
	wg.Wait()
	t.Logf("sim: mutations: %d of %d caught", found, len(chosen))
}

// run plays the simulation with the mutation, or as it is if that has no name, and returns
// the invariant that it breaks, "" for none.
func (m *simMutation) run(dir string) (broken string, err error) {
	overlay := map[string]map[string]string{"Replace": {}}
	if m.Name != "" {
		text, err := m.apply()
		if err != nil {
			return "", err
		}
		file := filepath.Join(dir, "mutated.go")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			return "", err
		}
		path, err := filepath.Abs(filepath.Join("..", "..", m.File))
		if err != nil {
			return "", err
		}
		overlay["Replace"][path] = file
	}
	text, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	listing, program := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "sim.test")
	if err := os.WriteFile(listing, text, 0o600); err != nil {
		return "", err
	}
	build := exec.Command("go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-overlay", listing, "-o", program, ".")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("it cannot be built: %w\n%s", err, out)
	}
	defer os.Remove(program)
	play := exec.Command(program, "-test.run=^TestSim(Cases|Random|Search)$", "-test.failfast", "-rapid.nofailfile", "-rapid.shrinktime=0s",
		"-sim.runs=1500", "-sim.time=15s", fmt.Sprintf("-sim.seed=%d", max(*simSeed, 1)))
	out, err := play.CombinedOutput()
	if err == nil {
		return "", nil
	}
	if broken = string(caught.Find(out)); broken == "" {
		return "", fmt.Errorf("it breaks nothing that has a name: %w\n%s", err, out)
	}
	return broken, nil
}
