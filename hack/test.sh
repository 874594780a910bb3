#!/bin/sh
# Copyright The BatchCompute Operator Authors.
# SPDX-License-Identifier: Apache-2.0
#
# test.sh TARGET[+TARGET...]...
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

# watch prints every 30 s that a target is still running, if nothing else was printed.
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

# make_target makes one target and keeps its output, exit code and duration.
make_target() {
	since=$(date +%s)
	{ $make -s "$1" 2>&1; echo $? >"$logs/$1.rc"; } | tee "$logs/$1"
	echo $(($(date +%s) - since)) >"$logs/$1.time"
}

# sum_up adds a target to the table.
sum_up() {
	[ "$(cat "$logs/$1.rc")" = 0 ] && printf 'ok     ' || printf 'FAILED '
	printf '%-12s %5d s  ' "$1" "$(cat "$logs/$1.time")"
	printf '%d packages ok, %d failed' "$(count "$1" '^ok  	')" "$(count "$1" '^FAIL	')"
	passed=$(count "$1" '^--- PASS') skipped=$(count "$1" '^--- SKIP')
	[ "$passed$skipped" = 00 ] || printf ', %d tests passed, %d left out' "$passed" "$skipped"
	echo
	# What a target wants to have in the summary, it prints like this.
	sed -n "s/^e2e runs on: /       on /p" "$logs/$1"
	sed -n '/^--- SKIP/s/^--- SKIP: \([^ ]*\).*/       left out: \1/p' "$logs/$1"
}

# "a+b" makes a and b at the same time: what mostly waits can wait together. The output of
# a is shown as it comes, that of b when both are done.
for group in "$@"; do
	first=${group%%+*}
	rest=$(echo "${group#"$first"}" | tr + ' ')
	pids=
	for t in $rest; do
		make_target "$t" >/dev/null &
		pids="$pids $!"
	done
	echo "== $first"
	: >"$logs/$first"
	watch "$first" &
	alive=$!
	make_target "$first"
	[ -z "$pids" ] || wait $pids
	kill "$alive" 2>/dev/null
	wait "$alive" 2>/dev/null
	alive=
	for t in $rest; do
		echo "== $t"
		cat "$logs/$t"
	done
	for t in $first $rest; do
		[ "$(cat "$logs/$t.rc")" = 0 ] || failed=1
		sum_up "$t" >>"$logs/summary"
	done
done

echo
echo "== summary"
cat "$logs/summary"
exit $failed
