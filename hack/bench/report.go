// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// report prints medians, with ranges where they matter.
func report(out io.Writer, list []row, figures []figure, bars []bar) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(columns ...string) { fmt.Fprintln(w, strings.Join(columns, "\t")) }
	line("SHAPE", "BY", "INSTANCES", "SECONDS", "(RANGE)", "A SECOND", "(RANGE)", "OF FLOOR", "OF FLOOR2", "OF JOB")
	for _, r := range list {
		line(r.Shape, r.Subject, fmt.Sprint(r.Instances),
			fmt.Sprintf("%.2f\t(%.2f-%.2f)", r.Seconds.Median, r.Seconds.Min, r.Seconds.Max),
			fmt.Sprintf("%.1f\t(%.1f-%.1f)", r.Rate.Median, r.Rate.Min, r.Rate.Max),
			middle("%.2f", r.OfFloor), middle("%.2f", r.OfFloor2), middle("%.2f", r.OfJob))
	}
	line()
	line("SHAPE", "BY", "CPU s", "ms EACH", "PEAK MiB", "CREATE", "PATCH", "DELETE", "STATUS", "= WRITES", "EVENTS", "STATUS B", "HOP p50/p99 ms", "SMALL JOB p50/p99 ms", "BARE POD p50/p99 ms")
	for _, r := range list {
		if r.CPU == nil {
			continue
		}
		line(r.Shape, r.Subject, middle("%.2f", r.CPU), middle("%.2f", r.CPUEach), middle("%.0f", r.RSS), middle("%.2f", r.Creates),
			middle("%.2f", r.Patches), middle("%.2f", r.Deletes), middle("%.2f", r.Statuses), middle("%.2f", r.Writes), middle("%.2f", r.Events),
			middle("%.0f", r.StatusBytes), pair("%.1f", r.HopP50, r.HopP99), pair("%.0f", r.FairP50, r.FairP99), pair("%.0f", r.BareP50, r.BareP99))
	}
	line()
	programs := programsOf(list)
	line(append([]string{"SHAPE", "BY", "PROCESSOR ms FOR EACH:"}, programs...)...)
	for _, r := range list {
		columns := []string{r.Shape, r.Subject, ""}
		for _, name := range programs {
			columns = append(columns, fmt.Sprintf("%.2f", r.Processor[name].Median))
		}
		line(columns...)
	}
	line()
	for _, f := range figures {
		line(f.Name, fmt.Sprintf("%.4g %s", f.Value, f.Unit))
	}
	if len(figures) > 0 {
		line()
	}
	line("BAR", "WANTED", "GOT", "")
	for _, b := range bars {
		got := "-"
		if b.Got != nil {
			got = fmt.Sprintf("%.4g", *b.Got)
		}
		line(b.Name, b.Want, got, b.Verdict)
	}
	_ = w.Flush()
}

// programsOf are the names of all programs that used the processor.
func programsOf(list []row) []string {
	all := map[string]bool{}
	for _, r := range list {
		for name := range r.Processor {
			all[name] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

func middle(format string, s *spread) string {
	if s == nil {
		return "-"
	}
	return fmt.Sprintf(format, s.Median)
}

// pair is two of them, as in 12/34.
func pair(format string, a, b *spread) string {
	if a == nil {
		return "-"
	}
	return middle(format, a) + "/" + middle(format, b)
}
