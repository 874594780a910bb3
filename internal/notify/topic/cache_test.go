// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestCacheExpires: a sink is closed once it has had no users for a while, and opened again when it is needed.
func TestCacheExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, opened := newCache(), 0
		r := receiver{identity: "a", open: func() (openSink, error) {
			opened++
			return &fakeSink{}, nil
		}}
		get := func() (*fakeSink, func()) {
			s, release, err := c.open(r)
			if err != nil {
				t.Fatal(err)
			}
			return s.(*fakeSink), release
		}
		s, release := get()
		_, second := get()
		time.Sleep(2 * idle)
		release()
		release() // does nothing
		time.Sleep(2 * idle)
		if s.closed.Load() {
			t.Fatal("a sink with a user was closed")
		}
		second()
		time.Sleep(idle - time.Second)
		_, third := get()
		time.Sleep(2 * idle)
		third()
		time.Sleep(idle - time.Second)
		if s.closed.Load() || opened != 1 {
			t.Fatalf("closed: %t; opened %d times", s.closed.Load(), opened)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !s.closed.Load() || len(c.sinks) > 0 {
			t.Fatal("a sink without users was not closed")
		}
		if again, release := get(); again == s || opened != 2 {
			t.Error("a closed sink was returned")
		} else {
			release()
			c.close()
			if !again.closed.Load() {
				t.Error("close left a sink open")
			}
		}
	})
}
