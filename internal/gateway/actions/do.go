// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package actions

import (
	"context"
	"maps"
	"slices"

	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/gateway/refusal"
	"batchcompute.dev/operator/internal/gateway/tenant"
	"batchcompute.dev/operator/internal/params"
)

// Names returns the names of the actions, sorted.
func Names() []string { return slices.Sorted(maps.Keys(table)) }

// Do does the action that the parameters are of, as an identity. The answer encodes to the fields of the API's answer
// beside RequestId; nil: there are none. The error is a *refusal.Refusal.
func (b *Backend) Do(ctx context.Context, id tenant.Identity, p *params.Object) (any, error) {
	do := table[p.Action()]
	if do == nil {
		return nil, refusal.New(errcode.InvalidAction, "there is no action %s", p.Action())
	}
	client, err := b.Tenants.For(id)
	if err != nil {
		return nil, refusal.From(err)
	}
	answer, err := do(ctx, &call{Backend: b, client: client, params: p})
	if err != nil {
		return nil, refusal.From(err)
	}
	return answer, nil
}
