// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package naming

import (
	"regexp"
	"strings"
	"testing"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"pgregory.net/rapid"
)

func TestJobID(t *testing.T) {
	form := regexp.MustCompile(`^job-[0-9a-z]{8}$`)
	a, b := JobID("6f1c7d1e-0001"), JobID("6f1c7d1e-0002")
	if !form.MatchString(a) || a == b || a != JobID("6f1c7d1e-0001") {
		t.Errorf("JobID gave %q and %q: want two different, stable identifiers of the form %s", a, b, form)
	}
}

func TestTemplateID(t *testing.T) {
	name := TemplateName("x")
	if !IsTemplateID(name) || TemplateID(name, "uid") != name {
		t.Errorf("the identifier of %s is %s", name, TemplateID(name, "uid"))
	}
	for _, other := range []string{"render", name + "-2", "task-tmpl-"} {
		if id := TemplateID(other, "uid"); id != TemplateName("uid") {
			t.Errorf("the identifier of %s is %s, want that of the UID", other, id)
		}
	}
}

func TestPodNameIsReadable(t *testing.T) {
	for name, tc := range map[string]struct {
		job, task      string
		index, attempt int
		wantPrefix     string
	}{
		"plain":       {"dag", "pre_task", 0, 0, "dag-pre-task-0-"},
		"attempt":     {"dag", "Frames", 17, 2, "dag-frames-17-r2-"},
		"long job":    {strings.Repeat("j", 253), "t", 1, 0, strings.Repeat("j", 48) + "-t-1-"},
		"long task":   {"j", strings.Repeat("t", 60), 1, 0, "j-" + strings.Repeat("t", 48) + "-1-"},
		"both long":   {strings.Repeat("j", 253), strings.Repeat("t", 60), 1, 0, strings.Repeat("j", 24) + "-" + strings.Repeat("t", 25) + "-1-"},
		"ends with _": {"a", "b__", 1, 0, "a-b-1-"},
		"dotted job":  {"a.b", "c", 1, 0, "a-b-c-1-"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := PodName(tc.job, "uid", tc.task, tc.index, tc.attempt, 0); !strings.HasPrefix(got, tc.wantPrefix) {
				t.Errorf("PodName = %q, want prefix %q", got, tc.wantPrefix)
			}
		})
	}
}

var (
	jobNames  = rapid.StringMatching(`[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?`)
	taskNames = rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9_-]{0,59}`)
)

func TestPodNameIsValidAndUnique(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type key struct {
			job                 string
			uid                 types.UID
			task                string
			index, attempt, run int
		}
		draw := func(n string) key {
			return key{jobNames.Draw(t, "job"+n), types.UID(rapid.StringN(1, 8, -1).Draw(t, "uid"+n)), taskNames.Draw(t, "task"+n),
				rapid.IntRange(0, 99999).Draw(t, "index"+n), rapid.IntRange(0, 105).Draw(t, "attempt"+n), rapid.IntRange(0, 3).Draw(t, "run"+n)}
		}
		a, b := draw("A"), draw("B")
		nameA := PodName(a.job, a.uid, a.task, a.index, a.attempt, a.run)
		nameB := PodName(b.job, b.uid, b.task, b.index, b.attempt, b.run)
		if msgs := validation.IsDNS1123Label(nameA); len(msgs) > 0 {
			t.Fatalf("PodName(%+v) = %q: %v", a, nameA, msgs)
		}
		if (nameA == nameB) != (a == b) {
			t.Fatalf("PodName(%+v) = %q and PodName(%+v) = %q", a, nameA, b, nameB)
		}
	})
}

// TestTokenName has names that were given out: changing one would let a repeated
// request make a second job.
func TestTokenName(t *testing.T) {
	for name, tc := range map[string]struct{ generateName, token, want string }{
		"plain":       {"render-", "4a6e2f", "render-poxb9trbuptc"},
		"other token": {"render-", "4a6e2g", "render-vmr0wnlj8oq6"},
		"long": {
			strings.Repeat("x", 200) + "-", "4a6e2f",
			strings.Repeat("x", 51) + "r0bv1g4umfob",
		},
		"long, other end": {
			strings.Repeat("x", 200) + ".", "4a6e2f",
			strings.Repeat("x", 51) + "f9reihi4fnnw",
		},
		"longest token": {"a", strings.Repeat("~", 64), "avsk0nc59g9ig"},
		// Not valid, and for the API server to refuse: but text must stay text.
		"cut in a character": {strings.Repeat("x", 50) + "é", "t", strings.Repeat("x", 50) + "9qjkx60nnk91"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := TokenName(tc.generateName, tc.token); got != tc.want {
				t.Errorf("TokenName = %q, want %q", got, tc.want)
			}
		})
	}
}

func TestTokenNameIsValidAndUnique(t *testing.T) {
	// What the API server takes as generateName: the beginning of a name.
	prefixes := rapid.StringMatching(`[a-z0-9]([a-z0-9-]{0,30}(\.[a-z0-9])?){0,3}-?`)
	tokens := rapid.StringMatching(`[ -~]{1,64}`)
	rapid.Check(t, func(t *rapid.T) {
		type key struct{ generateName, token string }
		a := key{prefixes.Draw(t, "prefixA"), tokens.Draw(t, "tokenA")}
		b := key{prefixes.Draw(t, "prefixB"), tokens.Draw(t, "tokenB")}
		if msgs := apivalidation.NameIsDNSSubdomain(a.generateName, true); len(msgs) > 0 {
			t.Skip(msgs)
		}
		name := TokenName(a.generateName, a.token)
		if msgs := apivalidation.NameIsDNSSubdomain(name, false); len(msgs) > 0 || len(name) > MaxLength {
			t.Fatalf("TokenName(%+v) = %q: %v", a, name, msgs)
		}
		if (name == TokenName(b.generateName, b.token)) != (a == b) {
			t.Fatalf("%+v and %+v are both called %q", a, b, name)
		}
	})
}

func TestTaskLabel(t *testing.T) {
	if got := TaskLabel("pre_task"); got != "pre_task" {
		t.Errorf("TaskLabel(pre_task) = %q, want it unchanged", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := taskNames.Draw(t, "a"), taskNames.Draw(t, "b")
		if msgs := validation.IsValidLabelValue(TaskLabel(a)); len(msgs) > 0 {
			t.Fatalf("TaskLabel(%q) = %q: %v", a, TaskLabel(a), msgs)
		}
		if (TaskLabel(a) == TaskLabel(b)) != (a == b) {
			t.Fatalf("TaskLabel(%q) = TaskLabel(%q) = %q", a, b, TaskLabel(a))
		}
	})
}

func BenchmarkPodName(b *testing.B) {
	for i := range b.N {
		PodName("render-scene", "0d9b8c2e-5f0a-4c55-8a51-6d7a7ad1d0c1", "frames", i, 0, 0)
	}
}
