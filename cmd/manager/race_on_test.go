// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build race

package main

// raceDetector says whether the tests, and the manager that they are, carry it.
const raceDetector = true
