// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package fairrate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/utils/clock"
)

var _ flowcontrol.RateLimiter = (*Limiter)(nil)

// wait has n requests of a tenant wait, and calls served for each.
func wait(t *testing.T, l *Limiter, wg *sync.WaitGroup, tenant string, n int, served func()) {
	for range n {
		wg.Go(func() {
			if err := l.Wait(WithTenant(context.Background(), tenant)); err != nil {
				t.Error(err)
			}
			served()
		})
		synctest.Wait()
	}
}

// TestTurns: a request waits for one of each other tenant, and not for all that others have.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(10, 5, clock.RealClock{})
		var wg sync.WaitGroup
		begin := time.Now()
		last := map[string]time.Duration{}
		count := map[string]int{}
		var mu sync.Mutex
		note := func(tenant string) func() {
			return func() {
				mu.Lock()
				defer mu.Unlock()
				last[tenant] = time.Since(begin)
				count[tenant]++
			}
		}
		served := func(tenant string) int {
			mu.Lock()
			defer mu.Unlock()
			return count[tenant]
		}
		wait(t, l, &wg, "hostile", 105, note("hostile"))
		if n := served("hostile"); n != 5 {
			t.Errorf("got %d at once, want the burst, 5", n)
		}
		for i := range 3 {
			wait(t, l, &wg, fmt.Sprint("victim-", i), 2, note(fmt.Sprint("victim-", i)))
		}
		time.Sleep(850 * time.Millisecond) // two rounds of four tenants
		synctest.Wait()
		for i := range 3 {
			if n := served(fmt.Sprint("victim-", i)); n != 2 {
				t.Errorf("after two rounds tenant %d was served %d times, want 2", i, n)
			}
		}
		wg.Wait()
		if got, want := last["hostile"], 106*100*time.Millisecond; got < want || got > want+time.Millisecond {
			t.Errorf("106 requests after the burst took %s, want %s", got, want)
		}
		l.mu.Lock()
		if len(l.queue)+len(l.waiting) > 0 || l.timer != nil {
			t.Errorf("left behind: %v", l.waiting)
		}
		l.mu.Unlock()
		time.Sleep(time.Minute)
		wait(t, l, &wg, "hostile", 5, note("hostile"))
		if l.TryAccept() {
			t.Error("there are more tokens than the burst")
		}
		time.Sleep(100 * time.Millisecond)
		if !l.TryAccept() || l.TryAccept() {
			t.Error("after a tenth of a second there must be one token")
		}
	})
}

// TestCanceled: who gives up costs nobody a token.
func TestCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(1, 1, clock.RealClock{})
		l.Accept()
		ctx, cancel := context.WithCancelCause(context.Background())
		cause := errors.New("enough")
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if err := l.Wait(ctx); !errors.Is(err, cause) {
					t.Errorf("got %v", err)
				}
			})
		}
		synctest.Wait()
		begin := time.Now()
		wg.Go(func() {
			if err := l.Wait(context.Background()); err != nil || time.Since(begin) > 1001*time.Millisecond {
				t.Errorf("got %v after %s", err, time.Since(begin))
			}
		})
		synctest.Wait()
		cancel(cause)
		wg.Wait()
	})
}

// TestManyAtOnce is for the race detector.
func TestManyAtOnce(t *testing.T) {
	l := New(1_000_000, 10, clock.RealClock{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 500 {
				ctx, cancel := context.WithTimeout(WithTenant(context.Background(), fmt.Sprint(i%3)), time.Duration(i)*time.Microsecond)
				_ = l.Wait(ctx)
				cancel()
				l.TryAccept()
			}
		})
	}
	wg.Wait()
	l.Accept()
}
