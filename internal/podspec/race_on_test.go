// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build race

package podspec_test

// slack is how much longer than promised a test may take: the race detector slows all down.
const slack = 10
