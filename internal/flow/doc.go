// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package flow is the flow control of reconcilers: how many calls are in flight, how long events wait
// for the next pass, how often a status is written, how many Events a job may have, and how many Pods
// one pass claims and creates.
//
//	Limiter        adaptive concurrency limit of the calls of one kind
//	Calls          the limiters of all namespaces, by verb
//	SlowStart      window of the Pods of one job that are created at the same time
//	Batch          how many Pods a pass claims
//	Debouncer      delay of a job's events after a pass over many Pods
//	StatusWrites   throttling of status writes, by the size of the job and the load of the process
//	EventBudget    how many Events a job may emit
//
// Each type has one job and can be used and tested alone. All of them keep their state in memory only:
// a process that starts again starts with none, which costs time and nothing else.
package flow
