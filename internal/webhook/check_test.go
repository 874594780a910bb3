// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	authnv1 "k8s.io/api/authentication/v1"
)

// live is what the API server has. It answers after 10 ms.
type live struct {
	mu    sync.Mutex
	has   map[string]bool
	err   error
	asked []string
}

func (l *live) exists(_ context.Context, _, name string) (bool, error) {
	time.Sleep(10 * time.Millisecond)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = append(l.asked, name)
	return l.has[name], l.err
}

// TestUnknownNamespacesLeaveNothing sends forged requests about namespaces that are not there.
func TestUnknownNamespacesLeaveNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := known(1000, "", 0)
		var wg sync.WaitGroup
		for i := range 1000 {
			wg.Go(func() {
				if _, err := q.admit(t.Context(), claim{fmt.Sprint("invented-", i), "a", 100, true}); !errors.Is(err, errNoNamespace) {
					t.Errorf("error %v, want %v", err, errNoNamespace)
				}
			})
		}
		wg.Wait()
		if len(q.accounts) != 1 {
			t.Errorf("%d accounts, want 1", len(q.accounts))
		}
	})
}

// TestForgedReservationsRefuseNothing fills a namespace with reservations for jobs that nobody
// creates: a real create is never refused for that, and gets in after storeTime.
func TestForgedReservationsRefuseNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, l := known(3, "", 1), &live{has: map[string]bool{}}
		q.live = l
		for _, name := range []string{"forged-0", "forged-1"} {
			if _, err := q.admit(t.Context(), claim{"ns", name, 100, true}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(usualLag)
		}
		begin := time.Now()
		for {
			a, err := q.admit(t.Context(), claim{"ns", "real", 100, true})
			if a.refusal != "" {
				t.Fatalf("a real create is refused: %s", a.refusal)
			}
			if err == nil {
				break
			}
			time.Sleep(time.Second) // as client-go does
		}
		if took := time.Since(begin); took > storeTime+2*time.Second {
			t.Errorf("a real create waits %s", took)
		}
		if len(l.asked) == 0 || len(l.asked) > 2 {
			t.Errorf("the API server was asked for %q", l.asked)
		}
		q.saw("ns", "real", 100)
		if q.accounts["ns"].stored.objects != 2 {
			t.Errorf("%d jobs are counted, want 2", q.accounts["ns"].stored.objects)
		}
	})
}

// TestReservationsOfStoredJobsStay shows that a job which is stored and not seen, since the watch is
// late, is counted for as long as it takes.
func TestReservationsOfStoredJobsStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, l := known(2, "", 1), &live{has: map[string]bool{"late": true}}
		q.live = l
		if _, err := q.admit(t.Context(), claim{"ns", "late", 100, true}); err != nil {
			t.Fatal(err)
		}
		for range 3 * longestRequest / time.Second {
			a, err := q.admit(t.Context(), claim{"ns", "next", 100, true})
			if !errors.Is(err, errBusy) {
				t.Fatalf("%+v, error %v: one too many", a, err)
			}
			time.Sleep(time.Second)
		}
		if n, most := len(l.asked), int(3*longestRequest/storeTime); n == 0 || n > 2*most {
			t.Errorf("the API server was asked %d times, want at most %d", n, most)
		}
		q.saw("ns", "late", 100)
		want := answer{refusal: "the namespace keeps 2 BatchJobs, including finished ones, and its quota is 2: delete finished ones, or raise its annotation batchcompute.dev/job-quota"}
		if a, err := q.admit(t.Context(), claim{"ns", "next", 100, true}); err != nil || !reflect.DeepEqual(a, want) {
			t.Errorf("%+v, error %v, want %+v", a, err, want)
		}
	})
}

// TestChecksAreBounded floods a namespace without an end, while the API server fails and then
// answers: reservations and calls stay few.
func TestChecksAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, l := known(1_000_000, "", 0), &live{err: errors.New("down")}
		q.live = l
		flood := func() (in int) {
			for i := range 2 * maxReserved {
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				_, err := q.admit(ctx, claim{"ns", fmt.Sprintf("forged-%d-%d", time.Now().UnixNano(), i), 100, true})
				cancel()
				if err != nil {
					break
				}
				in++
			}
			return in
		}
		begin := time.Now()
		if in := flood(); in != maxReserved {
			t.Fatalf("%d reservations, want %d", in, maxReserved)
		}
		for range 20 {
			time.Sleep(time.Second)
			flood()
		}
		if n := len(q.accounts["ns"].reserved); n > maxReserved {
			t.Errorf("%d reservations, want at most %d", n, maxReserved)
		}
		// One that fails ends its round.
		if n, most := len(l.asked), int(time.Since(begin)/checkInterval)+1; n == 0 || n > most {
			t.Errorf("the API server was asked %d times, want at most %d", n, most)
		}
		l.mu.Lock()
		l.err, l.asked = nil, nil
		l.mu.Unlock()
		for range 5 {
			time.Sleep(2 * checkInterval)
			flood()
			time.Sleep(checkTimeout)
		}
		if n := len(l.asked); n == 0 || n > 6*checkCount {
			t.Errorf("the API server was asked %d times, want at most %d", n, 6*checkCount)
		}
		if err := q.checks.enter(t.Context()); err != nil || len(q.checks) != 1 {
			t.Errorf("a check did not leave: %d, %v", len(q.checks), err)
		}
	})
}

// TestReviewsAreBounded asks for more users at once than are reviewed at once.
func TestReviewsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reviewer{says: onlyAlice}
		a := newAccess(r)
		var wg sync.WaitGroup
		var mu sync.Mutex
		refused := 0
		for i := range 10 * maxReviews {
			wg.Go(func() {
				_, err := a.maySubmit(t.Context(), authnv1.UserInfo{Username: fmt.Sprint("forged-", i)}, "ns")
				if errors.Is(err, errManyReviews) {
					mu.Lock()
					refused++
					mu.Unlock()
				} else if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := int(r.asked.Load()); n != maxReviews || refused != 9*maxReviews {
			t.Errorf("%d reviews and %d refused, want %d and %d", n, refused, maxReviews, 9*maxReviews)
		}
		if ok, err := a.maySubmit(t.Context(), authnv1.UserInfo{Username: "alice"}, "ns"); !ok || err != nil {
			t.Errorf("afterwards: allowed %v, error %v", ok, err)
		}
	})
}
