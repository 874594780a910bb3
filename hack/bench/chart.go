// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"html"
	"strings"
)

// Sizes of the chart, in pixels.
const (
	lineHeight, gap     = 18, 10
	labelWidth, barsEnd = 150, 720
	chartWidth          = 800
)

var colours = map[string]string{floor: "#c8c8c8", floor2: "#9a9a9a", ours: "#2f6fb7", job: "#d08a2e"}

// chart draws rates as bars, with a whisker from the least to the largest, as SVG.
func chart(list []row) []byte {
	most, y := 0.0, gap
	for _, r := range list {
		most = max(most, r.Rate.Max)
	}
	var body bytes.Buffer
	for i, r := range list {
		if i > 0 && r.Shape != list[i-1].Shape {
			y += gap
		}
		at := func(rate float64) float64 { return labelWidth + rate/most*(barsEnd-labelWidth) }
		subject, _, _ := strings.Cut(r.Subject, "@")
		fmt.Fprintf(&body, `<text x="%d" y="%d" text-anchor="end">%s %s</text>`+"\n", labelWidth-6, y+13, html.EscapeString(r.Shape), html.EscapeString(r.Subject))
		fmt.Fprintf(&body, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", labelWidth, y+2, at(r.Rate.Median)-labelWidth, lineHeight-4, colours[subject])
		fmt.Fprintf(&body, `<path d="M%.1f %dV%dM%.1f %dH%.1fM%.1f %dV%d" stroke="black"/>`+"\n",
			at(r.Rate.Min), y+5, y+13, at(r.Rate.Min), y+9, at(r.Rate.Max), at(r.Rate.Max), y+5, y+13)
		fmt.Fprintf(&body, `<text x="%.1f" y="%d">%.0f</text>`+"\n", at(r.Rate.Max)+5, y+13, r.Rate.Median)
		y += lineHeight
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", chartWidth, y+gap+lineHeight)
	out.WriteString(`<rect width="100%" height="100%" fill="white"/>` + "\n")
	out.Write(body.Bytes())
	fmt.Fprintf(&out, `<text x="%d" y="%d">instances a second: median, and range</text>`+"\n</svg>\n", labelWidth, y+lineHeight)
	return out.Bytes()
}
