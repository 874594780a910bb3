// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package slots_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"batchcompute.dev/operator/internal/slots"
)

var pool = types.NamespacedName{Namespace: "default", Name: "pool"}

// place is that of a job by its name; age orders equals, the smallest first.
func place(name string, priority, age int) slots.Place {
	return slots.Place{
		Job: types.NamespacedName{Namespace: "default", Name: name}, UID: types.UID(name),
		Priority: priority, Created: time.Unix(int64(age), 0),
	}
}

var generation int64

// sized is the next size of a ComputeEnv.
func sized(n int) slots.Size {
	generation++
	return slots.Size{Generation: generation, Nodes: n}
}

// ledger returns a ledger with a pool of size nodes, and the names of those it wakes.
func ledger(size int) (l *slots.Ledger, woken *[]string) {
	l, woken = slots.New(), new([]string)
	l.OnWake(func(p slots.Place) { *woken = append(*woken, p.Job.Name) })
	l.Resize(pool, sized(size))
	return l, woken
}

func TestOffer(t *testing.T) {
	a, b := place("a", 1, 1), place("b", 1, 2)
	l, _ := ledger(3)
	if o := l.Ask(pool, a, 0, 2); o != (slots.Offer{Limit: 2, Grant: 2}) {
		t.Errorf("a is offered %+v of 3 nodes, wanting 2", o)
	}
	if o := l.Ask(pool, b, 0, 5); o != (slots.Offer{Limit: 1, Grant: 1}) {
		t.Errorf("b is offered %+v of the third node", o)
	}
	l.Settle(pool, a, 1, 0) // it took one of two
	if o := l.Ask(pool, b, 0, 5); o != (slots.Offer{Limit: 2, Grant: 2}) {
		t.Errorf("b is offered %+v after a gave one back", o)
	}
	if s := l.Stats(pool); s != (slots.Stats{Size: 3, InUse: 1}) {
		t.Errorf("figures are %+v", s)
	}
	if held := l.Held("a"); len(held) != 1 || held[pool] != 1 {
		t.Errorf("a holds %v", held)
	}
	l.Settle(pool, a, 0, 0)
	if held := l.Held("a"); len(held) > 0 {
		t.Errorf("a, which is done, holds %v", held)
	}
}

// TestLine: a free node goes to the highest priority, of equals to the oldest, and is kept
// for it; nobody else gets it meanwhile.
func TestLine(t *testing.T) {
	l, woken := ledger(1)
	runs := place("runs", 1, 1)
	l.Ask(pool, runs, 0, 1)
	l.Settle(pool, runs, 1, 5)
	for _, p := range []slots.Place{place("young", 1, 9), place("old", 1, 5), place("urgent", 7, 10)} {
		if o := l.Ask(pool, p, 0, 1); o.Limit != 0 {
			t.Errorf("%s is offered %+v of a full pool", p.Job.Name, o)
		}
		l.Settle(pool, p, 0, 1)
	}
	if o := l.Ask(pool, runs, 1, 5); !o.Closed || o.Limit != 1 {
		t.Errorf("the job that has the node is offered %+v while a more urgent one waits", o)
	}
	for _, want := range []string{"urgent", "runs", "old", "young"} {
		*woken = nil
		have := map[string]slots.Place{"urgent": place("urgent", 7, 10), "runs": runs, "old": place("old", 1, 5), "young": place("young", 1, 9)}
		current := slices.Collect(func(yield func(string) bool) {
			for name := range have {
				if l.Held(types.UID(name))[pool] == 1 {
					yield(name)
				}
			}
		})[0]
		rest := 0
		if current == "runs" && want == "urgent" {
			rest = 1
		}
		l.Settle(pool, have[current], 0, rest)
		if len(*woken) != 1 || (*woken)[0] != want {
			t.Fatalf("after %s, %v are woken, want %s", current, *woken, want)
		}
		if o := l.Ask(pool, place("thief", 100, 0), 0, 1); o.Limit != 0 {
			t.Errorf("a newcomer is offered the node that is kept for %s", want)
		}
		l.Settle(pool, place("thief", 100, 0), 0, 0)
		if o := l.Ask(pool, have[want], 0, 1); o.Grant != 1 {
			t.Errorf("%s, which was woken, is offered %+v", want, o)
		}
		l.Settle(pool, have[want], 1, 0)
	}
}

func TestResize(t *testing.T) {
	l, woken := ledger(4)
	a, b := place("a", 1, 1), place("b", 1, 2)
	l.Ask(pool, a, 0, 4)
	l.Settle(pool, a, 4, 0)
	l.Resize(pool, sized(2))
	if o := l.Ask(pool, a, 4, 4); o != (slots.Offer{Limit: 2}) {
		t.Errorf("with 2 nodes, a, which has 4, is offered %+v", o)
	}
	l.Settle(pool, a, 2, 0)
	l.Ask(pool, b, 0, 1)
	l.Settle(pool, b, 0, 1)
	if len(*woken) > 0 {
		t.Errorf("%v are woken while the pool is full", *woken)
	}
	l.Resize(pool, sized(3))
	if len(*woken) != 1 || (*woken)[0] != "b" {
		t.Errorf("%v are woken by the third node, want b", *woken)
	}
	l.Resize(pool, sized(2)) // before b got to it
	if o := l.Ask(pool, b, 0, 1); o.Limit != 0 {
		t.Errorf("b is offered %+v, which was taken back", o)
	}
}

// TestLedger plays jobs that come, run, crash and go against the rules in the package's
// comment.
func TestLedger(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		size := rapid.IntRange(0, 4).Draw(r, "size")
		l, _ := ledger(size)
		type job struct {
			slots.Place
			have, left int
		}
		var jobs []*job
		for i := range rapid.IntRange(1, 5).Draw(r, "jobs") {
			jobs = append(jobs, &job{Place: place(fmt.Sprint(i), rapid.IntRange(0, 2).Draw(r, "priority"), i), left: rapid.IntRange(1, 5).Draw(r, "instances")})
		}
		shrunk := 0 // instances that were under way when the pool was made smaller
		sum := func() (n int) {
			for _, j := range jobs {
				n += j.have
			}
			return n
		}
		for range rapid.IntRange(1, 60).Draw(r, "steps") {
			j := rapid.SampledFrom(jobs).Draw(r, "job")
			switch rapid.IntRange(0, 9).Draw(r, "step") {
			case 0:
				size = rapid.IntRange(0, 4).Draw(r, "size")
				l.Resize(pool, sized(size))
				shrunk = sum()
			default:
				ended := rapid.IntRange(0, j.have).Draw(r, "ended")
				o := l.Ask(pool, j.Place, j.have, rapid.IntRange(1, 5).Draw(r, "most"))
				j.have -= ended
				room := o.Limit - j.have
				if o.Closed {
					room = min(room, o.Grant)
				}
				n := max(min(room, j.left), 0)
				j.have, j.left = j.have+n, j.left-n
				l.Settle(pool, j.Place, j.have, j.left)
				shrunk = min(shrunk, sum())
			}
			s := l.Stats(pool)
			if total := sum(); total > max(size, shrunk) || s.InUse != total {
				r.Fatalf("%d instances on %d nodes, %d of before it was smaller; the ledger says %+v", total, size, shrunk, s)
			}
		}
		// All come to their end: whoever is woken is served.
		l.Resize(pool, sized(1))
		for range 1000 {
			for _, j := range jobs {
				o := l.Ask(pool, j.Place, j.have, 5)
				j.have = 0
				n := max(min(o.Limit, j.left), 0)
				if o.Closed {
					n = min(n, o.Grant)
				}
				j.have, j.left = n, j.left-n
				l.Settle(pool, j.Place, j.have, j.left)
			}
		}
		for _, j := range jobs {
			if j.have+j.left > 0 {
				r.Fatalf("job %s has %d instances left that never got a node", j.Job.Name, j.left)
			}
		}
	})
}

// BenchmarkRelease frees a node for which 1,000 jobs wait, in each of 100 pools.
func BenchmarkRelease(b *testing.B) {
	l := slots.New()
	names := make([]types.NamespacedName, 100)
	for i := range names {
		names[i] = types.NamespacedName{Namespace: "default", Name: fmt.Sprint("pool-", i)}
		l.Resize(names[i], sized(1))
		for k := range 1000 {
			p := place(fmt.Sprint(i, "-", k), k%100, k)
			l.Ask(names[i], p, 0, 1)
			l.Settle(names[i], p, 0, 1)
		}
	}
	var next slots.Place
	l.OnWake(func(p slots.Place) { next = p })
	holder := place("holder", 100, 0)
	for _, n := range names {
		l.Settle(n, holder, 0, 0)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		env := names[i%len(names)]
		l.Resize(env, sized(2))
		l.Ask(env, next, 0, 1)
		l.Settle(env, next, 0, 1)
		l.Resize(env, sized(1))
	}
}
