// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import "fmt"

// bar is what a figure has to reach, or must not exceed.
type bar struct {
	Name    string   `json:"name"`
	Want    string   `json:"want"`
	Got     *float64 `json:"got,omitempty"`
	Verdict string   `json:"verdict"`
}

// The verdicts on bars.
const (
	met         = "met"
	notMet      = "not met"
	notMeasured = "not measured"
)

// figure is a number that stands alone.
type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// Names of figures.
const (
	livePod      = "heap for each live Pod"
	finishedJob  = "heap for each finished BatchJob of 10 tasks"
	restart      = "restart with finished jobs kept, until ready"
	restartFirst = "the same, until a new job has its first Pod"
)

// barsOf compares medians with what is asked for.
func barsOf(list []row, figures []figure, results []result) (bars []bar) {
	find := func(shape, subject string) *row {
		for i := range list {
			if list[i].Shape == shape && list[i].Subject == subject {
				return &list[i]
			}
		}
		return &row{}
	}
	judge := func(name string, got *float64, least bool, limit float64, unit string) {
		b := bar{Name: name, Want: fmt.Sprintf("at most %.4g%s", limit, unit), Got: got, Verdict: notMeasured}
		if least {
			b.Want = fmt.Sprintf("at least %.4g%s", limit, unit)
		}
		switch {
		case got == nil:
		case least == (*got >= limit) || *got == limit:
			b.Verdict = met
		default:
			b.Verdict = notMet
		}
		bars = append(bars, b)
	}
	median := func(s *spread) *float64 {
		if s == nil {
			return nil
		}
		return &s.Median
	}
	atLeast := func(name string, got *spread, limit float64) { judge(name, median(got), true, limit, "") }
	atMost := func(name string, got *spread, limit float64, unit string) {
		judge(name, median(got), false, limit, unit)
	}
	value := func(name string, limit float64, unit string) {
		var got *float64
		for i := range figures {
			if figures[i].Name == name {
				got = &figures[i].Value
			}
		}
		judge(name, got, false, limit, unit)
	}

	for _, shape := range []string{"S1-2000", "S1-10000", "S2", "S3"} {
		atLeast(shape+": rate, of floor2's", find(shape, ours).OfFloor2, 0.80)
	}
	atLeast("S4: rate, of floor2's", find("S4", ours).OfFloor2, 0.70)
	for _, shape := range []string{"S1-1000", "S1-2000", "S1-10000"} {
		atLeast(shape+": rate, of the core Job's", find(shape, ours).OfJob, 1)
	}
	atLeast("S1-2000 at 100 QPS: rate, of the core Job's", find("S1-2000", ours+limited).OfJob, 1)
	atLeast("S4: rate, of the core Job's", find("S4", ours).OfJob, 1.5)
	atLeast("S4 at 100 QPS: rate, of the core Job's", find("S4", ours+limited).OfJob, 1.5)
	for _, shape := range []string{"S1-2000", "S1-10000"} {
		atMost(shape+": writes for each instance", find(shape, ours).Writes, 2.1, "")
	}
	atMost("S3: writes for each instance", find("S3", ours).Writes, 2.5, "")
	atMost("S4: writes for each instance", find("S4", ours).Writes, 4, "")
	atMost("S5: hop, 50th percentile", find("S5", ours).HopP50, 30, " ms")
	atMost("S5: hop, 99th percentile", find("S5", ours).HopP99, 150, " ms")
	var growth *spread
	if few, many := find("S1-1000", ours).CPUEach, find("S1-10000", ours).CPUEach; few != nil && many != nil && few.Median > 0 {
		growth = &spread{Median: many.Median / few.Median}
	}
	atMost("S1: processor time for each instance, 10,000 to 1,000", growth, 1.3, "")
	s6 := find("S6", ours)
	var ends *spread
	if s6.Instances > 0 {
		ends = &spread{Median: 1}
	}
	for _, r := range results {
		if r.Shape == "S6" && r.Error != "" {
			ends = &spread{}
		}
	}
	atLeast("S6: ends", ends, 1)
	atMost("S6: status", kibi(s6.StatusBytes), 600, " KiB")
	atMost("S6: resident set", s6.RSS, 400, " MiB")
	atMost("S6: first Pod of a small job, 99th percentile", s6.FairP99, 500, " ms")
	atMost("S8: first Pod of a small job in another namespace, 99th percentile", find(s8, ours).FairP99, 500, " ms")
	value(livePod, 3*1024, " B")
	value(finishedJob, 4*1024, " B")
	var aged *spread
	if before, after := find(s7Before, ours), find(s7After, ours); before.Instances > 0 && after.Instances > 0 {
		aged = &spread{Median: after.Seconds.Median / before.Seconds.Median}
	}
	atMost("S7: time of S4 with finished jobs kept, to that without", aged, 1.15, "")
	value(restart, 5, " s")
	return bars
}

func kibi(s *spread) *spread {
	if s == nil {
		return nil
	}
	return &spread{s.Median / 1024, s.Min / 1024, s.Max / 1024}
}
