#!/usr/bin/env bash
# Counts the instructions of a call of each function with callgrind, and fails if one takes more than
# its limit. Unlike times, counts differ by a few percent at most between machines with the same
# compiler and OpenSSL.
#
#   instructions.sh PROGRAM LIBRARY
#
# PROGRAM is made of bench/instructions.c.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

program=$1
library=$2

# Prints the instructions of a run of COUNT calls.
collected() { # WHAT COUNT SESSIONS [OPTION]
  valgrind --tool=callgrind --callgrind-out-file=/dev/null "${@:4}" "$program" "$library" "${@:1:3}" 2>&1 >/dev/null |
    sed -n 's/^.*Collected : //p'
}

per_call() { # WHAT COUNT [SESSIONS]
  echo $((($(collected "$1" "$2" "${3:-1000}") - $(collected nothing "$2" "${3:-1000}")) / $2))
}

# The median of five runs: hash keys are random, so a miss looks at more or fewer places of a table.
median() { # WHAT COUNT
  for _ in 1 2 3 4 5; do
    per_call "$@"
  done | sort -n | sed -n 3p
}

failures=0
show() { # WHAT INSTRUCTIONS LIMIT
  local verdict=''
  if (($2 > $3)); then
    verdict="  ABOVE THE LIMIT OF $3"
    failures=$((failures + 1))
  fi
  printf '%-32s %6d%s\n' "$1" "$2" "$verdict"
}

show 'GetBuffer, hit' "$(median hit 20000)" 420
show 'GetBuffer, miss' "$(median miss 20000)" 245
show 'Get and SSL_SESSION_free' "$(per_call get 5000)" 4200
show 'Get, miss' "$(median lost 20000)" 245
# Only what is inside the function: at the end there are no sessions to be wiped, unlike with "nothing".
inside=$(collected remove 1000 1000 --toggle-collect=TSSslSessionRemove)
((inside > 0)) || { echo 'nothing of TSSslSessionRemove was counted' >&2; exit 1; }
show 'Remove, present' $((inside / 1000)) 670
show 'Insert, without its encoding' $(($(per_call insert 5000) - $(per_call encode 5000))) 2300
exit $((failures > 0))
