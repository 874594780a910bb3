// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package nodepool

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"batchcompute.dev/operator/internal/plan"
)

var pool = types.NamespacedName{Namespace: "default", Name: "pool"}

// testJob is a job by its name; age orders equals, the smallest first.
func testJob(name string, priority, age int) Job {
	return Job{
		Name:          types.NamespacedName{Namespace: "default", Name: name},
		QueuePosition: plan.QueuePosition{UID: types.UID(name), Priority: priority, Created: time.Unix(int64(age), 0)},
	}
}

var generation int64

// sized is the next size of a ComputeEnv.
func sized(n int) Size {
	generation++
	return Size{Generation: generation, Nodes: n}
}

// ledger returns a ledger with a pool of size nodes, and the names of those it wakes.
func ledger(size int) (l *Ledger, woken *[]string) {
	l, woken = NewLedger(), new([]string)
	l.OnGrant(func(p Job) { *woken = append(*woken, p.Name.Name) })
	l.Resize(pool, sized(size))
	return l, woken
}

func TestOffer(t *testing.T) {
	a, b := testJob("a", 1, 1), testJob("b", 1, 2)
	l, _ := ledger(3)
	if o := l.Reserve(pool, a, 0, 2); o != (Offer{Limit: 2, Grant: 2}) {
		t.Errorf("a is offered %+v of 3 nodes, wanting 2", o)
	}
	if o := l.Reserve(pool, b, 0, 5); o != (Offer{Limit: 1, Grant: 1}) {
		t.Errorf("b is offered %+v of the third node", o)
	}
	l.Settle(pool, a, 1, 0) // it took one of two
	if o := l.Reserve(pool, b, 0, 5); o != (Offer{Limit: 2, Grant: 2}) {
		t.Errorf("b is offered %+v after a gave one back", o)
	}
	if s := l.Stats(pool); s != (Stats{Size: 3, InUse: 1}) {
		t.Errorf("figures are %+v", s)
	}
	if claims := l.Claims("a"); len(claims) != 1 || claims[pool] != 1 {
		t.Errorf("a has %v", claims)
	}
	l.Settle(pool, a, 0, 0)
	if claims := l.Claims("a"); len(claims) > 0 {
		t.Errorf("a, which is done, has %v", claims)
	}
}

// TestQueue: a free node goes to the job with the highest priority, of equals to the oldest, and is
// reserved for it; no other job gets it meanwhile.
func TestQueue(t *testing.T) {
	l, woken := ledger(1)
	runs := testJob("runs", 1, 1)
	l.Reserve(pool, runs, 0, 1)
	l.Settle(pool, runs, 1, 5)
	for _, p := range []Job{testJob("young", 1, 9), testJob("old", 1, 5), testJob("urgent", 7, 10)} {
		if o := l.Reserve(pool, p, 0, 1); o.Limit != 0 {
			t.Errorf("%s is offered %+v of a full pool", p.Name.Name, o)
		}
		l.Settle(pool, p, 0, 1)
	}
	if o := l.Reserve(pool, runs, 1, 5); !o.Closed || o.Limit != 1 {
		t.Errorf("the job that has the node is offered %+v while a more urgent one waits", o)
	}
	for _, want := range []string{"urgent", "runs", "old", "young"} {
		*woken = nil
		have := map[string]Job{"urgent": testJob("urgent", 7, 10), "runs": runs, "old": testJob("old", 1, 5), "young": testJob("young", 1, 9)}
		current := slices.Collect(func(yield func(string) bool) {
			for name := range have {
				if l.Claims(types.UID(name))[pool] == 1 {
					yield(name)
				}
			}
		})[0]
		wanted := 0
		if current == "runs" && want == "urgent" {
			wanted = 1
		}
		l.Settle(pool, have[current], 0, wanted)
		if len(*woken) != 1 || (*woken)[0] != want {
			t.Fatalf("after %s, %v are woken, want %s", current, *woken, want)
		}
		if o := l.Reserve(pool, testJob("thief", 100, 0), 0, 1); o.Limit != 0 {
			t.Errorf("a newcomer is offered the node that is reserved for %s", want)
		}
		l.Settle(pool, testJob("thief", 100, 0), 0, 0)
		if o := l.Reserve(pool, have[want], 0, 1); o.Grant != 1 {
			t.Errorf("%s, which was woken, is offered %+v", want, o)
		}
		l.Settle(pool, have[want], 1, 0)
	}
}

func TestResize(t *testing.T) {
	l, woken := ledger(4)
	a, b := testJob("a", 1, 1), testJob("b", 1, 2)
	l.Reserve(pool, a, 0, 4)
	l.Settle(pool, a, 4, 0)
	l.Resize(pool, sized(2))
	if o := l.Reserve(pool, a, 4, 4); o != (Offer{Limit: 2}) {
		t.Errorf("with 2 nodes, a, which has 4, is offered %+v", o)
	}
	l.Settle(pool, a, 2, 0)
	l.Reserve(pool, b, 0, 1)
	l.Settle(pool, b, 0, 1)
	if len(*woken) > 0 {
		t.Errorf("%v are woken while the pool is full", *woken)
	}
	l.Resize(pool, sized(3))
	if len(*woken) != 1 || (*woken)[0] != "b" {
		t.Errorf("%v are woken by the third node, want b", *woken)
	}
	l.Resize(pool, sized(2)) // before b got to it
	if o := l.Reserve(pool, b, 0, 1); o.Limit != 0 {
		t.Errorf("b is offered %+v, whose reservation was taken back", o)
	}
}

// TestLedger plays jobs that come, run, crash and go against the rules in the package's
// comment.
func TestLedger(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		size := rapid.IntRange(0, 4).Draw(r, "size")
		l, _ := ledger(size)
		type job struct {
			Job
			have, left int
		}
		var jobs []*job
		for i := range rapid.IntRange(1, 5).Draw(r, "jobs") {
			jobs = append(jobs, &job{Job: testJob(fmt.Sprint(i), rapid.IntRange(0, 2).Draw(r, "priority"), i), left: rapid.IntRange(1, 5).Draw(r, "instances")})
		}
		shrunk := 0 // instances that were active when the pool was scaled down
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
				o := l.Reserve(pool, j.Job, j.have, rapid.IntRange(1, 5).Draw(r, "most"))
				j.have -= ended
				left := o.Limit - j.have
				if o.Closed {
					left = min(left, o.Grant)
				}
				n := max(min(left, j.left), 0)
				j.have, j.left = j.have+n, j.left-n
				l.Settle(pool, j.Job, j.have, j.left)
				shrunk = min(shrunk, sum())
			}
			s := l.Stats(pool)
			if total := sum(); total > max(size, shrunk) || s.InUse != total {
				r.Fatalf("%d instances on %d nodes, %d of before it was scaled down; the ledger says %+v", total, size, shrunk, s)
			}
		}
		// All jobs end: each job that is woken is served.
		l.Resize(pool, sized(1))
		for range 1000 {
			for _, j := range jobs {
				o := l.Reserve(pool, j.Job, j.have, 5)
				j.have = 0
				n := max(min(o.Limit, j.left), 0)
				if o.Closed {
					n = min(n, o.Grant)
				}
				j.have, j.left = n, j.left-n
				l.Settle(pool, j.Job, j.have, j.left)
			}
		}
		for _, j := range jobs {
			if j.have+j.left > 0 {
				r.Fatalf("job %s has %d instances left that never got a node", j.Name.Name, j.left)
			}
		}
	})
}

// BenchmarkSettle frees a node for which 1,000 jobs wait, in each of 100 pools.
func BenchmarkSettle(b *testing.B) {
	l := NewLedger()
	names := make([]types.NamespacedName, 100)
	for i := range names {
		names[i] = types.NamespacedName{Namespace: "default", Name: fmt.Sprint("pool-", i)}
		l.Resize(names[i], sized(1))
		for k := range 1000 {
			p := testJob(fmt.Sprint(i, "-", k), k%100, k)
			l.Reserve(names[i], p, 0, 1)
			l.Settle(names[i], p, 0, 1)
		}
	}
	var next Job
	l.OnGrant(func(p Job) { next = p })
	holder := testJob("holder", 100, 0)
	for _, n := range names {
		l.Settle(n, holder, 0, 0)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		env := names[i%len(names)]
		l.Resize(env, sized(2))
		l.Reserve(env, next, 0, 1)
		l.Settle(env, next, 0, 1)
		l.Resize(env, sized(1))
	}
}
