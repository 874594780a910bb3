// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package params decodes the parameters of one request of the vendor's API into Go structs.
//
//	{"JobIds": ["job-0a1b2c3d"], "Limit": 5}    JSON       --.
//	JobIds.0=job-0a1b2c3d&Limit=5               flattened  ----> Object ----> struct
//
// An Object keeps a request as it came, within bounds on its size and nesting. It is decoded by the
// types of the struct's fields, not by those of the body: in the flattened form every value is a text,
// and a client may write a number as a text in JSON as well.
//
// Decoding is strict, because a field that is silently dropped is a request that silently does
// something else: an unknown field, one that is given twice, a value of another type and the absence
// of a required field are errors. All of them are reported, in the order of the body, each with the
// vendor's code and the name of the field as the vendor writes it (Filters.0.Name). No error
// repeats a value of the body, other than a wrong number.
//
// Package convert decodes the requests that become objects of the cluster with the same Decoder and
// shapes of its own.
package params
