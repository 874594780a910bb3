#!/bin/sh
# Copyright The BatchCompute Operator Authors.
# SPDX-License-Identifier: Apache-2.0
#
# verify.sh [CHECK]...
#
# Checks that the tree is as `make generate`, `go mod tidy` and `gofmt` would leave it,
# and that vet, lint and the rules of the house find nothing. All checks run, whatever
# the others say. Nothing is written to the tree; the work is done in a copy.
set -eu

cd -- "$(dirname -- "$0")/.."
top=$(pwd)
make=${MAKE:-make}
modules=${MODULES:-. hack/cluster}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
only=$*
failed=

# files prints what belongs to the tree: tracked or new, not ignored, not deleted.
files() {
	git ls-files --cached --others --exclude-standard "$@" | sort -u | while IFS= read -r f; do
		if [ -f "$f" ]; then printf '%s\n' "$f"; fi
	done
}

generated() {
	files | tar -cf - -T - | (mkdir "$scratch/tree" && cd "$scratch/tree" && tar -xf -)
	(cd "$scratch/tree" && find . -type f | sort >"$scratch/before" && $make -s generate >/dev/null &&
		find . -type f | sort >"$scratch/after")
	status=0
	sort -u "$scratch/before" "$scratch/after" >"$scratch/all"
	while IFS= read -r f; do
		if ! cmp -s "$f" "$scratch/tree/$f"; then
			diff -uN "$f" "$scratch/tree/$f" || true
			status=1
		fi
	done <"$scratch/all"
	[ $status = 0 ] || echo "run: make generate"
	return $status
}

tidy() {
	status=0
	for m in $modules hack/tools hack/tools/*/ hack/sdk/*/; do
		[ -f "$m/go.mod" ] || continue
		(cd "$m" && go mod tidy -diff) || { echo "run: (cd $m && go mod tidy)"; status=1; }
	done
	return $status
}

# none fails when its input has a line, and shows it under a sentence.
none() {
	cat >"$scratch/found"
	[ ! -s "$scratch/found" ] || { echo "$1"; sed 's/^/  /' "$scratch/found"; return 1; }
}

formatted() { files '*.go' | xargs gofmt -l | none "not formatted; run: make fmt"; }

vetted() { $make -s vet; }

linted() { $make -s lint; }

licensed() {
	files '*.go' | xargs awk -v one="$(sed -n 1p hack/boilerplate.go.txt)" -v two="$(sed -n 2p hack/boilerplate.go.txt)" '
		function done() { if (name != "" && !(has1 && has2)) print name }
		FNR == 1 { done(); name = FILENAME; has1 = has2 = 0 }
		FNR <= 8 && $0 == one { has1 = 1 }
		FNR <= 8 && $0 == two { has2 = 1 }
		END { done() }' | none "without the lines of hack/boilerplate.go.txt at the top:"
}

# The tree must mean the same wherever it lies: it names no directory of the machine that
# it was written on, nor a module proxy that only that machine knows.
placeless() {
	{
		printf '%s\n' "$top" '[^a-zA-Z.]/(home|Users)/[a-z]'
		[ "${HOME:-/}" = / ] || [ "$HOME" = /root ] || printf '%s\n' "$HOME"
		go env GOPROXY | tr ',|' '\n\n' | sed -n 's#^[a-z]*://\([^@/]*@\)\{0,1\}\([^/]*\).*#\2#p' | grep -vx 'proxy.golang.org' || true
	} >"$scratch/patterns"
	files | grep -vx hack/verify.sh | xargs grep -nIEf "$scratch/patterns" | none "names a place on one machine:"
}

finished() {
	files | grep -vx hack/verify.sh | xargs grep -nIE '^(<<<<<<<|>>>>>>>) |FIXME|DO NOT (MERGE|SUBMIT)' |
		none "left unfinished:"
	files '*.fail' '*.orig' '*.rej' | none "not part of the tree:"
}

# Retired words (hack/vocabulary.yaml) and links between pages.
worded() { go test -count=1 -run='^(TestVocabulary|TestLinks)$' ./internal/archtest; }

check() {
	case " ${only:-$1} " in
	*" $1 "*) ;;
	*) return 0 ;;
	esac
	printf '%-58s' "$2"
	if (set -e; "$1") >"$scratch/out" 2>&1; then
		echo ok
	else
		echo FAILED
		sed 's/^/    /' "$scratch/out"
		failed="$failed $1"
	fi
}

check generated 'generated files are up to date'
check tidy 'go.mod and go.sum are tidy'
check formatted 'Go files are formatted'
check licensed 'Go files carry the licence'
check placeless 'nothing names a place on one machine'
check finished 'nothing is marked as unfinished'
check worded 'no retired words, no dead links'
check vetted 'go vet'
check linted 'golangci-lint'

if [ -n "$failed" ]; then
	echo "verify: failed:$failed"
	exit 1
fi
echo "verify: all is well"
