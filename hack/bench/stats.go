// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"time"
)

// spread is the middle of some values, and the ends.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	values = slices.Sorted(slices.Values(values))
	n := len(values)
	return spread{(values[(n-1)/2] + values[n/2]) / 2, values[0], values[n-1]}
}

// percentile is the least value that so many of a hundred are not above.
func percentile(values []time.Duration, percent int) time.Duration {
	if len(values) == 0 {
		return 0
	}
	values = slices.Sorted(slices.Values(values))
	return values[(len(values)*percent+99)/100-1]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// row is all that a subject did with a shape. What was not measured is nil.
type row struct {
	Shape     string  `json:"shape"`
	Subject   string  `json:"subject"`
	Instances int     `json:"instances"`
	Seconds   spread  `json:"seconds"`
	Rate      spread  `json:"instancesPerSecond"`
	OfFloor   *spread `json:"ofFloor,omitempty"`
	OfFloor2  *spread `json:"ofFloor2,omitempty"`
	OfJob     *spread `json:"ofJob,omitempty"`

	// Processor is what each program used of it, in milliseconds for each instance.
	Processor map[string]spread `json:"processorMillisecondsPerInstance,omitempty"`

	CPU         *spread `json:"cpuSeconds,omitempty"`
	CPUEach     *spread `json:"cpuMillisecondsPerInstance,omitempty"`
	RSS         *spread `json:"peakRSSMiB,omitempty"`
	Creates     *spread `json:"podCreatesPerInstance,omitempty"`
	Patches     *spread `json:"podPatchesPerInstance,omitempty"`
	Deletes     *spread `json:"podDeletesPerInstance,omitempty"`
	Statuses    *spread `json:"statusWritesPerInstance,omitempty"`
	Writes      *spread `json:"writesPerInstance,omitempty"`
	Events      *spread `json:"eventWritesPerInstance,omitempty"`
	StatusBytes *spread `json:"maxStatusBytes,omitempty"`
	HopP50      *spread `json:"hopP50ms,omitempty"`
	HopP99      *spread `json:"hopP99ms,omitempty"`
	FairP50     *spread `json:"fairnessP50ms,omitempty"`
	FairP99     *spread `json:"fairnessP99ms,omitempty"`
	BareP50     *spread `json:"fairnessBareP50ms,omitempty"`
	BareP99     *spread `json:"fairnessBareP99ms,omitempty"`
}

// rows sums the results up, in the order in which they came. Ratios are those to the other
// subject in the same round, since the machine is not always equally fast.
func rows(results []result) (list []row) {
	type key struct{ shape, subject string }
	groups, order := map[key][]result{}, []key{}
	rates := map[key]map[int]float64{}
	for _, r := range results {
		if r.Error != "" {
			continue
		}
		k := key{r.Shape, r.Subject}
		if groups[k] == nil {
			order, rates[k] = append(order, k), map[int]float64{}
		}
		groups[k] = append(groups[k], r)
		rates[k][r.Round] = r.rate()
	}
	for _, k := range order {
		g := groups[k]
		sum := func(of func(result) (float64, bool)) *spread {
			var values []float64
			for _, r := range g {
				if v, ok := of(r); ok {
					values = append(values, v)
				}
			}
			if values == nil {
				return nil
			}
			s := spreadOf(values)
			return &s
		}
		against := func(subject string) *spread {
			return sum(func(r result) (float64, bool) {
				other := rates[key{k.shape, subject}][r.Round]
				return r.rate() / other, other > 0 && subject != k.subject
			})
		}
		took := func(of func(*cost) float64) *spread {
			return sum(func(r result) (float64, bool) {
				if r.Cost == nil {
					return 0, false
				}
				return of(r.Cost), true
			})
		}
		row := row{
			Shape: k.shape, Subject: k.subject, Instances: g[0].Instances,
			Seconds: *sum(func(r result) (float64, bool) { return r.Seconds, true }),
			Rate:    *sum(func(r result) (float64, bool) { return r.rate(), true }),
			OfFloor: against(floor), OfFloor2: against(floor2),
			CPU:      took(func(c *cost) float64 { return c.CPU }),
			CPUEach:  took(func(c *cost) float64 { return c.CPUEach }),
			RSS:      took(func(c *cost) float64 { return c.RSS }),
			Creates:  took(func(c *cost) float64 { return c.Creates }),
			Patches:  took(func(c *cost) float64 { return c.Patches }),
			Deletes:  took(func(c *cost) float64 { return c.Deletes }),
			Statuses: took(func(c *cost) float64 { return c.Statuses }),
			Writes:   took(func(c *cost) float64 { return c.writes() }),
			Events:   took(func(c *cost) float64 { return c.Events }),

			StatusBytes: took(func(c *cost) float64 { return float64(c.StatusBytes) }),
			HopP50:      sum(func(r result) (float64, bool) { return r.HopP50, r.HopP50 > 0 }),
			HopP99:      sum(func(r result) (float64, bool) { return r.HopP99, r.HopP99 > 0 }),
			FairP50:     sum(func(r result) (float64, bool) { return r.FairP50, r.Probes > 0 }),
			FairP99:     sum(func(r result) (float64, bool) { return r.FairP99, r.Probes > 0 }),
			BareP50:     sum(func(r result) (float64, bool) { return r.BareP50, r.Probes > 0 }),
			BareP99:     sum(func(r result) (float64, bool) { return r.BareP99, r.Probes > 0 }),
		}
		row.Processor = map[string]spread{}
		for name := range g[0].Processor {
			row.Processor[name] = *sum(func(r result) (float64, bool) { return r.Processor[name], true })
		}
		switch k.subject {
		case ours:
			row.OfJob = against(job)
		case ours + limited:
			row.OfJob = against(job + limited)
		}
		list = append(list, row)
	}
	return list
}
