// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"regexp"
	"strings"
)

// Sample is a manifest of a page: what a reader would copy and apply.
type Sample struct {
	// Section is the heading above it.
	Section string
	// Objects are the objects of the manifest, in order, as YAML.
	Objects []string
}

var sampleBlock = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```\n")

// ParseSamples returns the blocks of YAML in a page whose first object is one of our kinds.
func ParseSamples(page string) []Sample {
	var out []Sample
	for _, at := range sampleBlock.FindAllStringSubmatchIndex(page, -1) {
		text := page[at[2]:at[3]]
		if !strings.HasPrefix(text, "apiVersion: batchcompute.dev/") {
			continue
		}
		_, section, _ := strings.Cut(page[strings.LastIndex(page[:at[0]], "\n#")+1:at[0]], " ")
		section, _, _ = strings.Cut(section, "\n")
		out = append(out, Sample{Section: section, Objects: strings.Split(text, "\n---\n")})
	}
	return out
}
