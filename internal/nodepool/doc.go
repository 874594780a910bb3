// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package nodepool shares the nodes of ComputeEnvs among jobs.
//
// What a job has is in its stored status: its claims. The Ledger only counts them, so that no two jobs
// get the same node at the same time, and knows whose turn it is. It is lost with the process, and
// rebuilt from the stored claims before any node is reserved. A Pool does that, and keeps the ledger
// right when a job is deleted or the answer to a status write is lost.
//
//	Reserve             before a pass over a job: how many claims may it have?
//	Reservation.Settle  after its status is stored: it has so many, and wants so many more
//	SettleDeparted      after a job was deleted: count its Pods that may still run
//	EnvChanged          when a ComputeEnv changes: set its size, and wake the jobs that name it
//
// The first reservation in a namespace rebuilds the ledger from the claims of all its jobs.
//
// Between Reserve and Settle the nodes that the job may claim are reserved for it. Then, for each
// ComputeEnv,
//
//   - the claims of all jobs and the reserved nodes are at most its nodes; they are more only after it was
//     scaled down, and then no node is reserved;
//   - no node is free, or no job waits.
//
// A free node goes to the job with the highest priority, and among equals to the oldest. It is reserved
// for that job from the moment when it becomes free, and the job is woken, so that no other job takes it
// meanwhile and several jobs can be served at the same time.
package nodepool
