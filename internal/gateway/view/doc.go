// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package view shows BatchJobs, ComputeEnvs and their Pods as the answers of BatchCompute's API do: each
// structure has the API's field names. It computes only.
//
// A field that the API allows to be null is a pointer, and null where nothing is known: of an instance whose
// Pod is gone, a job keeps the state, and the details of its last failures. Times are ISO 8601 in UTC, in whole
// seconds.
package view
