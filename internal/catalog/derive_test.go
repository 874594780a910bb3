// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

func TestDerivedInstanceTypes(t *testing.T) {
	for _, tc := range []struct {
		name string
		want string // cores and GiB, or none
	}{
		{"SA5.MEDIUM4", "2 4"}, {"S7.SMALL1", "1 1"}, {"S10.LARGE16", "4 16"}, {"S8.2XLARGE32", "8 32"}, {"C6.23MEDIUM216", "46 216"}, {"BS1.LARGE8", "4 8"}, {"M8.128XLARGE4096", "512 4096"},
		{"GN7.2XLARGE32", ""}, {"PNV4.7XLARGE116", ""}, {"FX4.7XLARGE116", ""}, {"IT5.4XLARGE64", ""}, {"S5.HUGE4", ""}, {"S5.MEDIUM", ""}, {"S5.MEDIUM0", ""}, {"S5.0XLARGE4", ""},
		{"S5MEDIUM4", ""}, {"s5.medium4", ""}, {"S5.MEDIUM4 ", ""}, {"S5.MEDIUM400000", ""}, {"", ""},
	} {
		c, err := Parse([]byte(head + "deriveInstanceTypes: true\n"))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if it := c.InstanceType(tc.name); it != nil {
			got = fmt.Sprint(it.Resources.Cpu().Value(), it.Resources.Memory().Value()>>30)
			if !it.Derived || it.Name != tc.name || len(it.Resources) != 2 {
				t.Errorf("%+v", it)
			}
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
		if off := Default().InstanceType(tc.name); off != nil {
			t.Errorf("%s is derived unasked: %+v", tc.name, off)
		}
	}
	c, err := Parse([]byte(head + "deriveInstanceTypes: true\ninstanceTypes: {S5.MEDIUM4: {cpu: 3, memory: 5Gi}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if it := c.InstanceType("S5.MEDIUM4"); it.Derived || it.Resources.Cpu().Value() != 3 {
		t.Errorf("the file does not win: %+v", it)
	}
	if _, err := Parse([]byte(head + "deriveInstanceTypes: \"yes\"\n")); err == nil || err.Error() != `line 3: deriveInstanceTypes: must be true or false, got "yes"` {
		t.Errorf("%v", err)
	}
}

// The catalogue that is shipped has the vendor's current families, and a size that is not
// what the name says is marked.
func TestShippedCatalogue(t *testing.T) {
	c, data := shipped(t)
	for _, name := range []string{"SA5.MEDIUM4", "BS1.LARGE8", "S8.LARGE16", "SA9.2XLARGE16", "M8.LARGE32", "C6.LARGE8", "PNV4.7XLARGE116", "S2.SMALL1"} {
		if c.InstanceType(name) == nil {
			t.Errorf("no %s", name)
		}
	}
	if c.InstanceType("S77.MEDIUM4") != nil {
		t.Error("unknown types are derived")
	}
	entry := regexp.MustCompile(`^  ([A-Za-z0-9]+)\.(\S+): .*memory`)
	for line := range strings.Lines(string(data)) {
		m := entry.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		it, named := c.InstanceType(m[1]+"."+m[2]), derived("S1."+m[2])
		same := named != nil && it.Resources.Cpu().Cmp(*named.Resources.Cpu()) == 0 && it.Resources.Memory().Cmp(*named.Resources.Memory()) == 0
		if marked := strings.Contains(line, "# not as it is named"); marked == same {
			t.Errorf("%s: has the size in its name: %t, is marked: %t", it.Name, same, marked)
		}
	}
}
