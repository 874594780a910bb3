// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"sigs.k8s.io/yaml"

	"batchcompute.dev/operator/internal/testutil/mutation"
)

var simMutations = flag.String("sim.mutations", "", "mutations that the simulation must find: \"all\", or parts of their names, with commas between them")

// mutantVariable is the environment variable that selects the mutation.
const mutantVariable = "SIM_MUTANT"

// caught matches the message of a violated invariant.
var caught = regexp.MustCompile(`\bI\d+: .*`)

func loadMutations(t *testing.T) []mutation.Mutation {
	t.Helper()
	text, err := os.ReadFile("testdata/mutations.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var all []mutation.Mutation
	if err := yaml.UnmarshalStrict(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// mutatedDirs has the packages that the mutations change.
var mutatedDirs = []string{"controllers/batchjob", "internal/plan"}

// TestSimMutationsApply: every mutation has one marker in the code, and every marker a mutation.
func TestSimMutationsApply(t *testing.T) {
	if _, err := mutation.Apply("../..", mutatedDirs, loadMutations(t), mutantVariable); err != nil {
		t.Error(err)
	}
}

// TestSimMutations builds the simulation with the mutations, outside the tree. Each mutation must violate an invariant, and
// without a mutation none may be violated.
func TestSimMutations(t *testing.T) {
	if *simMutations == "" {
		t.Skip("make sim runs this; select mutations with -sim.mutations")
	}
	all := loadMutations(t)
	program := buildMutants(t, all)
	var chosen []mutation.Mutation
	for _, m := range all {
		if *simMutations == "all" || slices.ContainsFunc(strings.Split(*simMutations, ","), func(part string) bool { return strings.Contains(m.Name, part) }) {
			chosen = append(chosen, m)
		}
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	found := 0
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for _, m := range append([]mutation.Mutation{{}}, chosen...) {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			broken, err := playMutant(program, m.Name)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				t.Errorf("mutation %q: %v", m.Name, err)
			case m.Name == "" && broken != "":
				t.Errorf("without a mutation: %s", broken)
			case m.Name == "":
			case broken == "":
				t.Errorf("mutation %q is not found: %s", m.Name, m.Why)
			default:
				found++
				t.Logf("mutation %q is found: %s", m.Name, broken)
			}
		})
	}
	wg.Wait()
	t.Logf("sim: mutations: %d of %d caught", found, len(chosen))
}

// buildMutants builds the tests of this package with all mutations in them.
func buildMutants(t *testing.T, all []mutation.Mutation) (program string) {
	t.Helper()
	files, err := mutation.Apply("../..", mutatedDirs, all, mutantVariable)
	if err != nil {
		t.Fatal(err)
	}
	dir, replace := t.TempDir(), map[string]string{}
	for name, text := range files {
		path, err := filepath.Abs(filepath.Join("..", "..", name))
		if err != nil {
			t.Fatal(err)
		}
		replace[path] = filepath.Join(dir, strings.ReplaceAll(name, "/", "_"))
		if err := os.WriteFile(replace[path], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	listing, program := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "sim.test")
	if err := os.WriteFile(listing, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-overlay", listing, "-o", program, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the mutants: %v\n%s", err, out)
	}
	return program
}

// mutantSeeds is how many seeds are played for a mutation that is hard to find. The search is not played: it ends after a time,
// so what it finds depends on the machine.
const mutantSeeds = 6

// playMutant plays the simulation with one mutation, or with none, and returns the violated invariant; "" for none.
func playMutant(program, name string) (broken string, err error) {
	for seed := range mutantSeeds {
		broken, err = playMutantOnce(program, name, 1+uint64(seed))
		if err != nil || broken != "" || name == "" {
			break
		}
	}
	return broken, err
}

func playMutantOnce(program, name string, seed uint64) (broken string, err error) {
	play := exec.Command(program, "-test.run=^TestSim(Cases|Random)$", "-test.failfast", "-rapid.nofailfile", "-rapid.shrinktime=0s",
		"-sim.runs=1500", fmt.Sprintf("-sim.seed=%d", seed))
	play.Env = append(os.Environ(), mutantVariable+"="+name)
	out, err := play.CombinedOutput()
	if err == nil {
		return "", nil
	}
	if broken = string(caught.Find(out)); broken == "" {
		return "", fmt.Errorf("no invariant is named: %w\n%s", err, out)
	}
	return broken, nil
}
