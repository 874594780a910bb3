// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package metrics has what the manager counts of BatchJobs and of its catalogue, and decides who may read it.
//
// Every label has a closed set of values, and none is the name of a job, a task or a Pod:
// the number of series does not grow with the work. docs/metrics.md lists them all.
//
// The filter does what that of controller-runtime does, within bounds, and without its dependence
// on k8s.io/apiserver, which would double the size of the program and take a quarter of its
// memory budget.
package metrics
