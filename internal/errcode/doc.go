// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package errcode has every BatchCompute error code that a BatchJob can be answered
// with: one constant each, and one table that says when it comes, for which field,
// and what to do. The table is the source of docs/error-codes.md, and the tests of
// package validation take their list of codes from it.
//
// A code has one or two parts. The part before the dot is the family, and clients may
// match by it. Messages are for people and may change; only the codes are stable.
package errcode
