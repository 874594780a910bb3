// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package membudget bounds the memory that large jobs take.
//
//	Gate    jobs that are in memory for one pass: a call waits for its turn
//	Shares  jobs that have started, and stay in memory until they end: they ask, and are told later
//
// Both take turns by namespace, so that one with many large jobs does not keep others from theirs. All
// sizes are in bytes. Both may be used by several goroutines.
package membudget
