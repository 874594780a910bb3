// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package membudget bounds the memory that large jobs take.
//
//	Gate    a weighted semaphore for jobs that are in memory for one pass: a call blocks until its turn
//	Shares  quotas for jobs that have started, which stay in memory until they end: a job asks, is queued
//	        if its size does not fit, and is woken later
//
// Both serve the namespaces that wait round-robin or by fair share, so that a namespace with many large
// jobs does not block others. All sizes are in bytes. Both are stateful: they have a lock. Both may be
// used by several goroutines.
package membudget
