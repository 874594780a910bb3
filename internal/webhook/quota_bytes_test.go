// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"batchcompute.dev/operator/api/v1alpha1"
)

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "1k": 1000, "64Mi": 64 << 20, "1.5Gi": 3 << 29, "0.5": 1, "1Pi": 1 << 50, "1125899906842624": 1 << 50,
	} {
		if got, err := ParseBytes(text); got != want || err != nil {
			t.Errorf("%s: %d, error %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "-1", "+1", "a", "1e9", "1E1000000000", "1e-9", "2Pi", "1125899906842625", "9999999999999999Pi", "64mi", "64 Mi", "1m", "1Ei", "64Mi\n", "٣", "1.",
	} {
		if got, err := ParseBytes(text); err == nil {
			t.Errorf("%q is %d, want an error", text, got)
		}
	}
}

// ofBytes is a quota that has seen the namespace ns, with its annotation unless empty, and
// jobs of these sizes.
func ofBytes(limit int64, annotation string, sizes ...int64) *quota {
	q := newQuota(jobQuota, amount{bytes: limit})
	var annotations map[string]string
	if annotation != "" {
		annotations = map[string]string{v1alpha1.AnnotationJobBytesQuota: annotation}
	}
	q.sawNamespace("ns", annotations)
	for i, size := range sizes {
		q.saw("ns", fmt.Sprint("old-", i), size)
	}
	return q
}

func TestBytesQuotaAnswers(t *testing.T) {
	const broken = "the namespace's annotation batchcompute.dev/job-bytes-quota must be a number of bytes such as 64Mi, got %s; the default, 1000 bytes, applies"
	refusal := func(limit, has, size string) string {
		return fmt.Sprintf("the namespace's BatchJobs, including finished ones, take %[2]s; this one takes up to %[3]s more, and the quota is %[1]s: "+
			"delete finished ones, make this one smaller, or raise the namespace's annotation batchcompute.dev/job-bytes-quota", limit, has, size)
	}
	for name, tc := range map[string]struct {
		limit      int64
		annotation string
		sizes      []int64
		name       string
		size       int64
		want       answer
	}{
		"room":                        {1000, "", []int64{400}, "new", 600, answer{}},
		"one byte too many":           {1000, "", []int64{400}, "new", 601, answer{refusal: refusal("1000 bytes", "400 bytes", "601 bytes")}},
		"too many already":            {1000, "", []int64{900, 900}, "new", 1, answer{refusal: refusal("1000 bytes", "1.8 KiB", "1 bytes")}},
		"full, but the name is taken": {1000, "", []int64{1000}, "old-0", 600, answer{}},
		"larger than all":             {64 << 20, "", nil, "new", 65 << 20, answer{refusal: refusal("64.0 MiB", "0 bytes", "65.0 MiB")}},
		"no limit":                    {0, "", []int64{math.MaxInt64 / 2}, "new", 1 << 40, answer{}},
		"a larger one of its own":     {1000, "2k", []int64{1000}, "new", 1000, answer{}},
		"none of its own":             {1000, "0", []int64{1000}, "new", 1 << 40, answer{}},
		"one of its own, no default":  {0, "1Ki", nil, "new", 1025, answer{refusal: refusal("1.0 KiB", "0 bytes", "1.0 KiB")}},
		"a word": {1000, "many\n", nil, "new", 1001, answer{
			refusal: refusal("1000 bytes", "0 bytes", "1001 bytes"), warning: []string{fmt.Sprintf(broken, `"many\n"`)},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := ofBytes(tc.limit, tc.annotation, tc.sizes...)
				for _, reserve := range []bool{false, true} {
					got, err := q.admit(t.Context(), claim{"ns", tc.name, tc.size, reserve})
					if err != nil || !reflect.DeepEqual(got, tc.want) {
						t.Errorf("reserve %v: %+v, error %v, want %+v", reserve, got, err, tc.want)
					}
				}
				if tc.want.refusal != "" && len(tc.want.refusal) > maxSentence {
					t.Errorf("the sentence has %d bytes, want at most %d", len(tc.want.refusal), maxSentence)
				}
			})
		})
	}
}

// TestBytesQuotaCounts follows the sum through what informers tell.
func TestBytesQuotaCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := ofBytes(1000, "", 500, 300)
		acc := q.accounts["ns"]
		expect := func(stored, unseen amount) {
			t.Helper()
			if acc.stored != stored || acc.unseen != unseen {
				t.Fatalf("stored %v, unseen %v, want %v and %v", acc.stored, acc.unseen, stored, unseen)
			}
		}
		expect(amount{2, 800}, amount{})
		q.saw("ns", "old-0", 200) // it has ended
		expect(amount{2, 500}, amount{})
		admit := func(size int64) {
			t.Helper()
			if a, err := q.admit(t.Context(), claim{"ns", "new", size, true}); err != nil || a.refusal != "" {
				t.Fatalf("%+v, %v", a, err)
			}
		}
		admit(100)
		admit(50) // the same request again, or a forged one
		expect(amount{2, 500}, amount{1, 100})
		time.Sleep(usualLag)
		admit(400) // the same name, and larger
		expect(amount{2, 500}, amount{1, 400})
		q.saw("ns", "new", 410)
		expect(amount{3, 910}, amount{})
		q.sawGone("ns", "old-1")
		q.sawGone("ns", "old-1")
		expect(amount{2, 610}, amount{})
	})
}

// TestBytesQuotaUnderLoad sends many creates of all sizes at once to some replicas: one alone
// never lets in a byte too many, several one job each at most.
func TestBytesQuotaUnderLoad(t *testing.T) {
	const largest = 1_000_000
	for _, tc := range []struct {
		replicas, creates int
		limit             int64
	}{{1, 500, 64 << 20}, {1, 50, 3_000_000}, {2, 500, 64 << 20}, {2, 50, 3_000_000}, {3, 500, 20_000_000}} {
		t.Run(fmt.Sprintf("%+v", tc), func(t *testing.T) {
			for seed := range uint64(5) {
				synctest.Test(t, func(t *testing.T) {
					random := rand.New(rand.NewPCG(seed, 2))
					var mu sync.Mutex
					some := func(n int64) int64 {
						mu.Lock()
						defer mu.Unlock()
						return random.Int64N(n)
					}
					lags := make([]func() time.Duration, tc.replicas)
					for i := range lags {
						lags[i] = func() time.Duration { return time.Duration(some(int64(2 * time.Millisecond))) }
					}
					s := newStore(t, amount{bytes: tc.limit}, 0, lags...)
					var wg sync.WaitGroup
					refused := make([]bool, tc.creates)
					for i := range tc.creates {
						job := claim{"ns", fmt.Sprint("new-", i), 1 + some(largest), true}
						write := time.Duration(some(int64(20 * time.Millisecond)))
						wg.Go(func() { refused[i] = s.createOf(t.Context(), i%tc.replicas, job, write) })
					}
					wg.Wait()
					over := s.bytes - tc.limit
					t.Logf("%d jobs, %d bytes over the limit", s.jobs, over)
					if over > int64(tc.replicas-1)*largest || over < -largest {
						t.Errorf("%d bytes of %d", s.bytes, tc.limit)
					}
				})
			}
		})
	}
}

// TestBytesQuotaOneAtATime shows that a large job waits for the one before it, and small ones
// far from the limit do not.
func TestBytesQuotaOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := ofBytes(64<<20, "")
		for i := range 50 {
			if _, err := q.admit(t.Context(), claim{"ns", fmt.Sprint("small-", i), 20 << 10, true}); err != nil {
				t.Fatalf("small job %d waits: %v", i, err)
			}
		}
		large := claim{"ns", "large", 1 << 20, true}
		if _, err := q.admit(t.Context(), large); !errors.Is(err, errBusy) {
			t.Errorf("error %v, want %v", err, errBusy)
		}
		for i := range 50 {
			q.saw("ns", fmt.Sprint("small-", i), 20<<10)
		}
		if _, err := q.admit(t.Context(), large); err != nil {
			t.Error(err)
		}
	})
}
