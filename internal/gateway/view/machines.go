// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package view

import (
	"cmp"
	"slices"
	"strings"

	"batchcompute.dev/operator/internal/catalog"
)

// InstanceType is a machine type. Mem is in GB. Source: BatchCompute, InstanceTypeConfig.
type InstanceType struct {
	Mem            int64
	CPU            int64 `json:"Cpu"`
	InstanceType   string
	Zone           string
	InstanceFamily string
}

// InstanceTypeQuota is a machine type with how it is charged. Source: BatchCompute, InstanceTypeQuotaItem.
type InstanceTypeQuota struct {
	Zone               string
	InstanceType       string
	InstanceChargeType string
	CPU                int64 `json:"Cpu"`
	Memory             int64
	InstanceFamily     string
	TypeName           string
	Status             string
	NetworkCard        int64
	LocalDiskTypeList  []string
}

// InstanceCategory is a category of machines with its families. Source: BatchCompute, InstanceCategoryItem.
type InstanceCategory struct {
	InstanceCategory  string
	InstanceFamilySet []string
}

// The values of InstanceChargeType.
const (
	ChargeTypePostpaid = "POSTPAID_BY_HOUR"
	ChargeTypeSpot     = "SPOTPAID"
)

// ChargeTypes are the charge types that a cluster offers: spot machines only if its catalogue says which they are.
func ChargeTypes(offers *catalog.Catalog) []string {
	if _, ok := offers.ChargeType(ChargeTypeSpot); ok {
		return []string{ChargeTypePostpaid, ChargeTypeSpot}
	}
	return []string{ChargeTypePostpaid}
}

// InstanceTypes returns the machine types of the catalogue, by zone and name. A catalogue does not say in which zones
// a type is: each is in all of zones; without zones the field is empty.
func InstanceTypes(offers *catalog.Catalog, zones []string) []InstanceType {
	if len(zones) == 0 {
		zones = []string{""}
	}
	out := []InstanceType{}
	for _, zone := range zones {
		for _, it := range offers.InstanceTypes() {
			cpu, mem := sizes(it.Resources.Cpu(), it.Resources.Memory())
			out = append(out, InstanceType{Mem: mem, CPU: cpu, InstanceType: it.Name, Zone: zone, InstanceFamily: FamilyOf(it.Name)})
		}
	}
	return out
}

// Quotas returns types once for each charge type.
func Quotas(types []InstanceType, chargeTypes []string) []InstanceTypeQuota {
	out := []InstanceTypeQuota{}
	for _, t := range types {
		for _, charge := range chargeTypes {
			out = append(out, InstanceTypeQuota{
				Zone: t.Zone, InstanceType: t.InstanceType, InstanceChargeType: charge, CPU: t.CPU, Memory: t.Mem,
				InstanceFamily: t.InstanceFamily, TypeName: t.InstanceType, Status: "SELL", LocalDiskTypeList: []string{},
			})
		}
	}
	return out
}

// InstanceCategories returns the categories of the catalogue with their families, all sorted.
func InstanceCategories(offers *catalog.Catalog) []InstanceCategory {
	families := map[string][]string{}
	for _, it := range offers.InstanceTypes() {
		if it.Category != "" {
			families[it.Category] = append(families[it.Category], FamilyOf(it.Name))
		}
	}
	out := make([]InstanceCategory, 0, len(families))
	for category, list := range families {
		slices.Sort(list)
		out = append(out, InstanceCategory{category, slices.Compact(list)})
	}
	slices.SortFunc(out, func(a, b InstanceCategory) int { return cmp.Compare(a.InstanceCategory, b.InstanceCategory) })
	return out
}

// FamilyOf returns the family of a machine type: S5 of S5.MEDIUM4.
func FamilyOf(name string) string {
	family, _, _ := strings.Cut(name, ".")
	return family
}
