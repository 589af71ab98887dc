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
collected() { # WHAT COUNT
  valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$library" "$1" "$2" 2>&1 >/dev/null |
    sed -n 's/^.*Collected : //p'
}

per_call() { # WHAT COUNT
  echo $((($(collected "$1" "$2") - $(collected nothing "$2")) / $2))
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

show 'GetBuffer, hit' "$(per_call hit 20000)" 510
show 'GetBuffer, miss' "$(per_call miss 20000)" 310
show 'Get and SSL_SESSION_free' "$(per_call get 5000)" 4600
show 'Remove, present' "$(per_call remove 1000)" 1450
show 'Insert, without its encoding' $(($(per_call insert 5000) - $(per_call encode 5000))) 2450
exit $((failures > 0))
