#!/bin/sh
# Copyright The BatchCompute Operator Authors.
# SPDX-License-Identifier: Apache-2.0
#
# run.sh [--path] MODULE TOOL [ARGUMENT]...
#
# Runs a tool that the module hack/tools/MODULE pins ("." is hack/tools itself), in the
# current directory; with --path it says where the tool is instead. The binary is built once
# for each version of the module and of Go and kept in the user's cache directory; nothing is
# installed and the tree stays clean.
set -eu

path=
if [ "$1" = --path ]; then
	path=yes
	shift
fi
dir=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)/$1
tool=$2
shift 2

case $(go env GOHOSTOS) in
darwin) cache=$HOME/Library/Caches ;;
*) cache=${XDG_CACHE_HOME:-$HOME/.cache} ;;
esac
# cksum would do for chance, but sums of Go modules are there to be trusted.
sum=$({ cat "$dir/go.mod" "$dir/go.sum"; go env GOVERSION GOHOSTOS GOHOSTARCH; } |
	if command -v sha256sum >/dev/null 2>&1; then sha256sum; else shasum -a 256; fi | cut -c1-16)
bin=$cache/batchcompute/tools/$sum/$tool

if [ ! -x "$bin" ]; then
	package=$(sed -n "s,^tool \(.*/$tool\)\$,\1,p" "$dir/go.mod")
	if [ -z "$package" ]; then
		echo "run.sh: $dir/go.mod pins no tool $tool" >&2
		exit 2
	fi
	echo "Building $tool; this happens once and can take minutes." >&2
	mkdir -p "$(dirname "$bin")"
	# Built beside its place and moved, so that two builds at once do no harm.
	(cd "$dir" && CGO_ENABLED=0 GOFLAGS="${GOFLAGS-}" GOWORK=off go build -o "$bin.$$" "$package")
	mv "$bin.$$" "$bin"
fi
if [ "$path" ]; then
	echo "$bin"
	exit
fi
exec "$bin" "$@"
