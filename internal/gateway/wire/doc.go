// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package wire reads requests of the vendor's API from HTTP and writes its answers. It knows neither keys nor actions.
//
//	signature    method  parameters                  common parameters   at most
//	v3           POST    JSON body                   headers             10 MiB
//	v3           GET     query, flattened            headers (or query)  32 KiB
//	v1           POST    form, flattened             form                1 MiB
//	v1           GET     query, flattened            query               32 KiB
//
// A request with the header Authorization has signature v3, any other v1. Every answer has status 200, an error too, as
// the vendor's SDKs look for an error only there.
//
// Of a request with signature v3 the body is not read before its key is known to exist, and what all bodies take together
// has a bound, so that nobody without a key can make the process hold much.
package wire
