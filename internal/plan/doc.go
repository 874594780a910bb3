// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package plan decides what happens next to a job. It is pure: Compute is a function
// of the job, its Pods and the time, and gives the same answer, byte for byte, for the
// same question.
//
// An instance moves from list to list of its task's status, and is in one at most:
//
//	not issued ──claim──▶ active ──command ended with 0──▶ succeeded
//	                      ▲    │
//	                claim │    ├──failed, retries left──▶ retrying
//	                      └────┼─────────────────────────────┘
//	                           └──failed, none left──▶ failed
//
// The caller carries a plan out in this order, and may crash after any step:
//
//  1. Store Status, under optimistic lock. It holds the claims of Create and the
//     outcomes of the Pods of RemoveFinalizers.
//  2. Create the Pods of Create, and of Adopt once the stored status is known to
//     still claim them. Their names are functions of the claim, so that a second
//     creation is the same Pod.
//  3. Remove the tracking finalizers of the Pods of RemoveFinalizers. This may happen at the same time as 2,
//     except for Pods that are being deleted: their names are free then.
//
// A crash between 1 and 2 leaves a claim without a Pod: the next plan has it in Adopt.
// A crash between 1 and 3 leaves a Pod whose outcome is stored: the next plan has it in
// RemoveFinalizers and does not count it again. A controller whose view of the job is stale
// fails at step 1 and has done nothing.
package plan
