// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package actions

import (
	"context"
	"errors"

	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/gateway"
	"batchcompute.dev/operator/internal/gateway/refusal"
	"batchcompute.dev/operator/internal/gateway/tenant"
	"batchcompute.dev/operator/internal/gateway/wire"
	"batchcompute.dev/operator/internal/params"
)

// Table returns the actions for a gateway.
func (b *Backend) Table() map[string]gateway.Action {
	out := make(map[string]gateway.Action, len(table))
	for name := range table {
		out[name] = func(ctx context.Context, c *gateway.Call) (any, error) {
			answer, err := b.Do(ctx, tenant.Identity(c.Tenant), c.Params)
			return answer, asWireError(err)
		}
	}
	return out
}

// asWireError gives a refusal the form that the gateway answers with; of an InternalError the cause is kept for the log.
func asWireError(err error) error {
	var r *refusal.Refusal
	if !errors.As(err, &r) {
		return err
	}
	answer := wire.NewError(r.Code, "%s", r.Message)
	if r.Code == errcode.InternalError && r.Cause != nil {
		return errors.Join(answer, r.Cause)
	}
	return answer
}

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
