// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package actions

import (
	"context"
	"slices"

	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/gateway/refusal"
	"batchcompute.dev/operator/internal/gateway/view"
	"batchcompute.dev/operator/internal/validation"
)

// ofMachines are the parameters of the actions about machine types.
type ofMachines struct {
	Filters []filter `params:"orItem"`
}

// values returns the values of the filters with a name, nil if there is no such filter.
func (in *ofMachines) values(name string) []string {
	var out []string
	for _, f := range in.Filters {
		if f.Name == name {
			out = append(out, f.Values...)
		}
	}
	return out
}

// instanceTypeList is the answer of DescribeAvailableCvmInstanceTypes.
type instanceTypeList struct{ InstanceTypeConfigSet []view.InstanceType }

func describeAvailableCvmInstanceTypes(_ context.Context, c *call, in *ofMachines) (any, error) {
	matches, err := matcherOf(in.Filters, map[string]property[view.InstanceType]{
		"zone":            equal(func(t view.InstanceType) string { return t.Zone }),
		"instance-family": equal(func(t view.InstanceType) string { return t.InstanceFamily }),
	}, nil)
	if err != nil {
		return nil, err
	}
	types := view.InstanceTypes(c.Catalog(), in.values("zone"))
	return instanceTypeList{slices.DeleteFunc(types, func(t view.InstanceType) bool { return !matches(t) })}, nil
}

// quotaList is the answer of DescribeCvmZoneInstanceConfigInfos.
type quotaList struct{ InstanceTypeQuotaSet []view.InstanceTypeQuota }

const chargeTypeFilter = "instance-charge-type"

func describeCvmZoneInstanceConfigInfos(_ context.Context, c *call, in *ofMachines) (any, error) {
	for _, charge := range in.values(chargeTypeFilter) {
		if charge != view.ChargeTypePostpaid && charge != view.ChargeTypeSpot {
			return nil, refusal.New(errcode.UnsupportedInstanceChargeType, "the filter %s must be %s or %s, got %s",
				chargeTypeFilter, view.ChargeTypePostpaid, view.ChargeTypeSpot, validation.Quote(charge))
		}
	}
	matches, err := matcherOf(in.Filters, map[string]property[view.InstanceTypeQuota]{
		"zone":            equal(func(t view.InstanceTypeQuota) string { return t.Zone }),
		"instance-family": equal(func(t view.InstanceTypeQuota) string { return t.InstanceFamily }),
		"instance-type":   equal(func(t view.InstanceTypeQuota) string { return t.InstanceType }),
		chargeTypeFilter:  equal(func(t view.InstanceTypeQuota) string { return t.InstanceChargeType }),
	}, nil)
	if err != nil {
		return nil, err
	}
	offers := c.Catalog()
	quotas := view.Quotas(view.InstanceTypes(offers, in.values("zone")), view.ChargeTypes(offers))
	return quotaList{slices.DeleteFunc(quotas, func(t view.InstanceTypeQuota) bool { return !matches(t) })}, nil
}

// categoryList is the answer of DescribeInstanceCategories.
type categoryList struct{ InstanceCategorySet []view.InstanceCategory }

func describeInstanceCategories(_ context.Context, c *call, _ *struct{}) (any, error) {
	return categoryList{view.InstanceCategories(c.Catalog())}, nil
}
