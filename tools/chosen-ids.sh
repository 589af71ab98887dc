#!/usr/bin/env bash
# Counts the instructions of lookups after a peer inserted a million session IDs of its choice, and
# compares them with those after a million random IDs. Fails if they are twice as many or more.
#
#   chosen-ids.sh PROGRAM DIRECTORY [SESSIONS]
#
# libtssession.so.0 must be in LD_LIBRARY_PATH.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

program=$1 folder=$2 sessions=${3:-1000000}

# instructions KIND
instructions() {
  local out=$folder/callgrind.$1
  rm -f "$out"
  valgrind --quiet --tool=callgrind --instr-atstart=no --callgrind-out-file="$out" \
    "$program" "$1" "$sessions" >&2
  sed -n 's/^\(summary\|totals\): //p' "$out" | tail -n 1
}

base=$(instructions random)
((base > 1000000)) || {
  echo "chosen-ids: $base instructions with random IDs: too few, the measurement failed" >&2
  exit 1
}
printf '%-8s %12d instructions for 40000 lookups among %d sessions\n' random "$base" "$sessions"
for kind in prefix suffix low; do
  count=$(instructions "$kind")
  printf '%-8s %12d, %d.%02d times as many\n' "$kind" "$count" $((count / base)) $((count * 100 / base % 100))
  if ((count >= 2 * base)); then
    echo "chosen-ids: lookups take at least twice as many instructions with IDs of kind $kind" >&2
    exit 1
  fi
done
