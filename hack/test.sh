#!/bin/sh
# Copyright The BatchCompute Operator Authors.
# SPDX-License-Identifier: Apache-2.0
#
# test.sh TARGET...
#
# Makes each target, whatever became of the others, and ends with a table of them. A
# line shows that a silent target is alive: the first build of all of Kubernetes'
# libraries takes its time.
set -u

cd -- "$(dirname -- "$0")/.." || exit 1
make=${MAKE:-make}
logs=$(mktemp -d)
alive=
trap 'rm -rf "$logs"; [ -z "$alive" ] || kill "$alive" 2>/dev/null' EXIT
trap 'exit 130' INT TERM
failed=0

# watch says every 30 s that a target goes on, if nothing else was said.
watch() {
	begin=$(date +%s)
	size=0
	while sleep 30 >/dev/null 2>&1; do
		now=$(wc -c <"$logs/$1")
		[ "$now" != "$size" ] || echo "... $1: $(($(date +%s) - begin)) s"
		size=$now
	done
}

# count prints how many lines of a target's log match.
count() { grep -cE "$2" "$logs/$1" || true; }

for t in "$@"; do
	echo "== $t"
	: >"$logs/$t"
	watch "$t" &
	alive=$!
	begin=$(date +%s)
	{ $make -s "$t" 2>&1; echo $? >"$logs/$t.rc"; } | tee "$logs/$t"
	kill "$alive" 2>/dev/null
	wait "$alive" 2>/dev/null
	alive=
	rc=$(cat "$logs/$t.rc")
	[ "$rc" = 0 ] || failed=1
	{
		[ "$rc" = 0 ] && printf 'ok     ' || printf 'FAILED '
		printf '%-12s %5d s  ' "$t" $(($(date +%s) - begin))
		printf '%d packages ok, %d failed' "$(count "$t" '^ok  	')" "$(count "$t" '^FAIL	')"
		passed=$(count "$t" '^--- PASS') skipped=$(count "$t" '^--- SKIP')
		[ "$passed$skipped" = 00 ] || printf ', %d tests passed, %d left out' "$passed" "$skipped"
		echo
		# What a target wants to have in the summary, it prints like this.
		sed -n "s/^e2e runs on: /       on /p" "$logs/$t"
		sed -n '/^--- SKIP/s/^--- SKIP: \([^ ]*\).*/       left out: \1/p' "$logs/$t"
	} >>"$logs/summary"
done

echo
echo "== summary"
cat "$logs/summary"
exit $failed
