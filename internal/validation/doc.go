// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package validation decides whether a BatchJob is a request that SubmitJob would
// have accepted, and says what is wrong with it in BatchCompute's own error codes.
//
// It is pure: the admission webhook, the reconciler (for an object that got past the
// webhook), the gateway and the tests call the same functions and add no rule.
//
//	BatchJob --> ValidateCreate --> []Problem   refused; the first is SubmitJob's answer
//	             ValidateUpdate --> []Problem   refused; what changed and may not
//	             Warnings       --> []string    accepted, but mind this
//
// Problems come in the order in which the API types declare their fields, so the same
// request always gets the same answer. A value gets one problem, the first of its
// rules that it breaks, except that a field which is well-formed but not built yet is
// refused after its own checks.
//
// Users choose the input. Nothing recurses along it, every cost is linear in its size
// (the two searches that are not, for a shortest cycle and for the nearest name, have
// budgets), answers are bounded in number and length, and what they quote is escaped
// and cut. No answer repeats a command, a variable's value or the user part of a URL:
// they may hold credentials.
package validation
