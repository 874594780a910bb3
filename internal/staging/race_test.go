//go:build race

// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package staging

// raceEnabled tells whether the race detector is on.
const raceEnabled = true
