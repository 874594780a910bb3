#!/bin/sh
# Copyright The BatchCompute Operator Authors.
# SPDX-License-Identifier: Apache-2.0
#
# progress.sh WHAT COMMAND...
#
# Runs the command, and says every 20 s that it is still at it: on a machine with empty
# caches a first build takes minutes, and says nothing itself.
set -u

what=$1
shift
(
	passed=0
	while sleep 20 >/dev/null 2>&1; do # so that the sleeper, which may outlive us, holds no output open
		passed=$((passed + 20))
		echo "  still building $what: $passed s" >&2
	done
) &
ticker=$!
trap 'kill "$ticker" 2>/dev/null' EXIT
trap 'exit 130' INT TERM
"$@"
