// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"batchcompute.dev/operator/api/v1alpha1"
)

// known is a quota that has seen the namespace ns, with its annotation unless empty, and
// jobs old-0, old-1 and so on.
func known(limit int64, annotation string, jobs int) *quota {
	q := newQuota(jobQuota, amount{objects: limit})
	var annotations map[string]string
	if annotation != "" {
		annotations = map[string]string{v1alpha1.AnnotationJobQuota: annotation}
	}
	q.sawNamespace("ns", annotations)
	for i := range jobs {
		q.saw("ns", fmt.Sprintf("old-%d", i), 100)
	}
	return q
}

func TestQuotaAnswers(t *testing.T) {
	const full = "the namespace keeps %[2]s BatchJobs, including finished ones, and its quota is %[1]s: delete finished ones, " +
		"or raise its annotation batchcompute.dev/job-quota"
	const broken = "the namespace's annotation batchcompute.dev/job-quota must be a number from 0, got %s; the default, 2, applies"
	refusal := func(limit, has string) answer { return answer{refusal: fmt.Sprintf(full, limit, has)} }
	tests := map[string]struct {
		limit      int64
		annotation string
		jobs       int
		name       string
		want       answer
	}{
		"room":                            {2, "", 1, "new", answer{}},
		"full":                            {2, "", 2, "new", refusal("2", "2")},
		"too many already":                {2, "", 9, "new", refusal("2", "9")},
		"full, but the name is taken":     {2, "", 2, "old-1", answer{}},
		"no limit":                        {0, "", 9999, "new", answer{}},
		"a larger one of its own":         {2, "10", 9, "new", answer{}},
		"a larger one of its own is full": {2, "10", 10, "new", refusal("10", "10")},
		"a smaller one of its own":        {2, "1", 1, "new", refusal("1", "1")},
		"none of its own":                 {2, "0", 9999, "new", answer{}},
		"one of its own, no default":      {0, "1", 1, "new", refusal("1", "1")},
		"negative":                        {2, "-1", 1, "new", answer{warning: []string{fmt.Sprintf(broken, `"-1"`)}}},
		"a word": {2, "many\n", 2, "new", answer{
			refusal: fmt.Sprintf(full, "2", "2"), warning: []string{fmt.Sprintf(broken, `"many\n"`)},
		}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := known(tc.limit, tc.annotation, tc.jobs)
				for _, reserve := range []bool{false, true} {
					if got, err := q.admit(t.Context(), claim{"ns", tc.name, 100, reserve}); err != nil || !reflect.DeepEqual(got, tc.want) {
						t.Errorf("reserve %v: %+v, error %v, want %+v", reserve, got, err, tc.want)
					}
				}
			})
		})
	}
}

// TestQuotaRemembers shows what is counted before the informer tells of it.
func TestQuotaRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := known(3, "", 1)
		admit := func(name string, reserve bool) answer {
			t.Helper()
			a, err := q.admit(t.Context(), claim{"ns", name, 100, reserve})
			if err != nil {
				t.Fatal(err)
			}
			return a
		}
		for i := range 5 {
			admit(fmt.Sprint("dry-", i), false)
		}
		if a := admit("a", true); !reflect.DeepEqual(a, answer{}) {
			t.Fatalf("dry runs were counted: %+v", a)
		}
		if a := admit("a", true); !reflect.DeepEqual(a, answer{}) {
			t.Fatalf("the same name again was counted: %+v", a)
		}
		time.Sleep(usualLag) // something behind us refused it
		admit("b", true)
		q.saw("ns", "b", 100)
		if a := admit("dry", false); !reflect.DeepEqual(a, answer{}) {
			t.Errorf("a job that was not seen refuses another: %+v", a)
		}
		if a, err := q.admit(t.Context(), claim{"ns", "c", 100, true}); !errors.Is(err, errBusy) {
			t.Errorf("%+v, error %v: a job that was not seen is not counted", a, err)
		}
		time.Sleep(longestRequest)
		if a := admit("c", true); !reflect.DeepEqual(a, answer{}) {
			t.Errorf("a job that never came is still counted: %+v", a)
		}
		q.saw("ns", "c", 100)
		q.sawGone("ns", "old-0")
		if a := admit("d", true); !reflect.DeepEqual(a, answer{}) {
			t.Errorf("a deleted job is still counted: %+v", a)
		}
	})
}

// TestQuotaOneAtATime shows that near the limit a job waits for the one before it.
func TestQuotaOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := known(100, "", 0)
		begin := time.Now()
		admit := func(name string) error {
			_, err := q.admit(t.Context(), claim{"ns", name, 100, true})
			return err
		}
		if err := admit("a"); err != nil || time.Since(begin) > 0 {
			t.Fatalf("the first waits %s: %v", time.Since(begin), err)
		}
		if err := admit("b"); !errors.Is(err, errBusy) || time.Since(begin) != turnTimeout {
			t.Fatalf("the second waits %s: %v", time.Since(begin), err)
		}
		go func() {
			time.Sleep(10 * time.Millisecond)
			q.saw("ns", "a", 100)
		}()
		begin = time.Now()
		if err := admit("b"); err != nil || time.Since(begin) != 10*time.Millisecond {
			t.Fatalf("the second waits %s: %v", time.Since(begin), err)
		}
		if a, err := q.admit(t.Context(), claim{"ns", "look", 100, false}); err != nil || !reflect.DeepEqual(a, answer{}) {
			t.Fatalf("a dry run waits: %+v %v", a, err)
		}
		time.Sleep(usualLag - 5*time.Millisecond) // b was refused behind us
		begin = time.Now()
		if err := admit("c"); err != nil || time.Since(begin) != 5*time.Millisecond {
			t.Fatalf("the third waits %s for what never comes: %v", time.Since(begin), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := q.admit(ctx, claim{"ns", "d", 100, true}); !errors.Is(err, errBusy) {
			t.Fatalf("error %v", err)
		}
	})
}

// TestQuotaNewNamespace shows that a namespace's limit is waited for.
func TestQuotaNewNamespace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQuota(jobQuota, amount{objects: 1000})
		go func() {
			time.Sleep(time.Millisecond)
			q.sawNamespace("other", nil)
			q.saw("ns", "a", 100)
			q.sawNamespace("ns", map[string]string{v1alpha1.AnnotationJobQuota: "1"})
		}()
		if a, err := q.admit(t.Context(), claim{"ns", "b", 100, true}); err != nil || a.refusal == "" {
			t.Errorf("%+v, error %v: the limit did not come in time", a, err)
		}
		q.sawNoNamespace("ns")
		if _, err := q.admit(t.Context(), claim{"ns", "b", 100, true}); !errors.Is(err, errNoNamespace) {
			t.Errorf("error %v", err)
		}
		q.sawGone("ns", "a")
		q.sawNoNamespace("other")
		if len(q.accounts) > 0 {
			t.Errorf("accounts of namespaces that are gone: %v", q.accounts)
		}
	})
}

// store is a cluster that replicas share: what they let in is stored after a while, and
// each sees it after another, in order.
type store struct {
	mu       sync.Mutex
	jobs     int
	bytes    int64
	replicas []*quota
	events   []chan claim
}

func newStore(t *testing.T, limit amount, jobs int, lag ...func() time.Duration) *store {
	s := &store{jobs: jobs, bytes: 100 * int64(jobs)}
	var done sync.WaitGroup
	for i := range lag {
		q, events := known(limit.objects, "", jobs), make(chan claim, 10_000)
		q.limit = limit
		s.replicas, s.events = append(s.replicas, q), append(s.events, events)
		done.Go(func() {
			for {
				select {
				case job := <-events:
					select {
					case <-time.After(lag[i]()):
						q.saw("ns", job.name, job.bytes)
					case <-t.Context().Done():
						return
					}
				case <-t.Context().Done():
					return
				}
			}
		})
	}
	t.Cleanup(done.Wait)
	return s
}

// create asks a replica and stores the job; it says whether it was refused for good.
func (s *store) create(ctx context.Context, replica int, name string, write time.Duration) (refused bool) {
	return s.createOf(ctx, replica, claim{"ns", name, 100, true}, write)
}

func (s *store) createOf(ctx context.Context, replica int, job claim, write time.Duration) (refused bool) {
	for {
		a, err := s.replicas[replica].admit(ctx, job)
		if err != nil {
			continue // as client-go does
		}
		if a.refusal != "" {
			return true
		}
		time.Sleep(write)
		s.mu.Lock()
		s.jobs++
		s.bytes += job.bytes
		for i := range s.events {
			s.events[i] <- job
		}
		s.mu.Unlock()
		return false
	}
}

// TestQuotaUnderLoad sends many creates at once to some replicas. One alone never lets
// in a job too many; several, one each at most; and all jobs that the quota allows are admitted.
func TestQuotaUnderLoad(t *testing.T) {
	for _, tc := range []struct {
		replicas, creates, jobs int
		limit                   int64
	}{
		{1, 50, 0, 10}, {1, 50, 980, 1000}, {1, 3000, 0, 1000}, {2, 50, 0, 10}, {2, 50, 980, 1000}, {3, 3000, 0, 1000}, {5, 3000, 500, 1000},
	} {
		t.Run(fmt.Sprintf("%+v", tc), func(t *testing.T) {
			for seed := range uint64(5) {
				synctest.Test(t, func(t *testing.T) {
					random := rand.New(rand.NewPCG(seed, 1))
					var mu sync.Mutex
					some := func(n time.Duration) time.Duration {
						mu.Lock()
						defer mu.Unlock()
						return time.Duration(random.Int64N(int64(n)))
					}
					lags := make([]func() time.Duration, tc.replicas)
					for i := range lags {
						lags[i] = func() time.Duration { return some(2 * time.Millisecond) }
					}
					s := newStore(t, amount{objects: tc.limit}, tc.jobs, lags...)
					var wg sync.WaitGroup
					begin := time.Now()
					for i := range tc.creates {
						wg.Go(func() { s.create(t.Context(), i%tc.replicas, fmt.Sprint("new-", i), some(20*time.Millisecond)) })
					}
					wg.Wait()
					over := s.jobs - int(tc.limit)
					t.Logf("%d jobs over the limit, in %s", over, time.Since(begin))
					if over < 0 || over > tc.replicas-1 {
						t.Errorf("%d jobs of %d", s.jobs, tc.limit)
					}
				})
			}
		})
	}
}

// TestQuotaBlindReplica has a replica that sees nothing while the other fills the
// namespace: it lets in what it could before it had to see something.
func TestQuotaBlindReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blind, quick := func() time.Duration { return time.Hour }, func() time.Duration { return 0 }
		s := newStore(t, amount{objects: 1000}, 0, quick, blind)
		for i := 0; ; i++ {
			if s.create(t.Context(), 0, fmt.Sprint("a-", i), 0) {
				break
			}
		}
		let := 0
		for i := range 100 {
			if a, err := s.replicas[1].admit(t.Context(), claim{"ns", fmt.Sprint("b-", i), 100, true}); err != nil || a.refusal != "" {
				break
			}
			let++
		}
		if let > 1000/shareAtOnce {
			t.Errorf("%d let in by a replica that is 1000 jobs behind, want at most %d", let, 1000/shareAtOnce)
		}
	})
}

func BenchmarkQuota(b *testing.B) {
	q := known(1_000_000, "", 10_000)
	for i := range b.N {
		name := fmt.Sprint("new-", i)
		if _, err := q.admit(b.Context(), claim{"ns", name, 100, true}); err != nil {
			b.Fatal(err)
		}
		q.saw("ns", name, 100)
		q.sawGone("ns", name)
	}
}

func TestRefusalIsShort(t *testing.T) {
	q := known(1, strings.Repeat("9", 10_000), 5)
	a, err := q.admit(t.Context(), claim{"ns", "a", 100, true})
	if err != nil || len(a.refusal)+len(strings.Join(a.warning, "")) > 600 {
		t.Errorf("%d and %d bytes, error %v", len(a.refusal), len(strings.Join(a.warning, "")), err)
	}
}
