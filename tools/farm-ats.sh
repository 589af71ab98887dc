#!/usr/bin/env bash
# Two real traffic_server processes, first without the farm plugin, then with it, and then with
# it and this library in the place of their own session caches: a session that a client made at
# one, resumes at the other, both ways, by ID and by ticket.
#
#   farm-ats.sh FOLDER PLUGIN SETTINGS LIBRARY DOCTOR
#
# FOLDER is the script's own: it is made anew. SETTINGS is the plugin's file, in which
# @REDIS@ stands for the URL of the redis-server that the script starts, and @SECRET@ for a file
# with a secret. DOCTOR is tssession-doctor. Ends with 0 if without the plugin nobody resumed at the other, and with
# it everybody.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

folder=$1
plugin=$2
settings=$3
library=$4
doctor=$5
# shellcheck source=tools/ats_lib.sh
source "${0%/*}/ats_lib.sh"

addresses=("$(ats_address 0)" "$(ats_address 1)")
failures=0

start_redis() {
  # Its own address is free, whatever the ports are on others.
  redis-server --bind "${addresses[0]}" --port 6379 --save '' --appendonly no --dir "$folder" \
    >"$folder/redis.log" 2>&1 &
  started+=($!)
  until_true $! redis-cli -h "${addresses[0]}" ping >/dev/null
}

# Shows what resumes. Three ways to resume are tried at the other server, in both directions.
trial() { # RESUMED-AT-THE-OTHER MODE-OF-ATS'S-OWN-CACHE PLUGIN-LINE...
  local expected="$1 of 6" number resumed
  local records="CONFIG proxy.config.ssl.session_cache INT $2"
  shift 2
  for number in 0 1; do
    ats_make "ats$number" "$number" <<<"$records"
    ats_start "ats$number" "$@"
  done
  # Its status is 1 also if a client that hung up is not resumed.
  "$doctor" "${addresses[0]}:8443" --also "${addresses[1]}" | tee "$folder/doctor.txt" || true
  resumed="$(grep -c 'at another address .* resumed' "$folder/doctor.txt") of $(
    grep -c 'at another address' "$folder/doctor.txt"
  )" || true
  if [[ $resumed != "$expected" ]]; then
    echo "not as expected: $resumed cases resume at the other server, should be $expected"
    failures=$((failures + 1))
  fi
}

show_counters() {
  local number
  # ATS brings its numbers up to date every few seconds.
  sleep 6
  for number in 0 1; do
    echo "counters of $number:"
    curl -sS "http://${addresses[number]}:8080/_stats" | grep -o '"plugin.tssession_farm[^,]*' | tr -d '"' |
      sed 's/^/  /' || failures=$((failures + 1))
  done
}

# What the farm answers an operator: one of the two leads, and only that one makes a key.
show_orders() {
  local number order
  for number in 0 1; do
    for order in status rotate; do
      ats_ctl "ats$number" plugin msg tssession "farm $order"
    done
  done
  sleep 2
  grep -h 'tssession_farm: farm ' "$folder"/ats[01]/log/diags.log
  for order in 'a new key is made' 'leads: no key is made here' 'this member leads'; do
    if [[ $(cat "$folder"/ats[01]/log/diags.log | grep -c "farm: farm .*$order") != 1 ]]; then
      echo "not as expected: not one answer with \"$order\""
      failures=$((failures + 1))
    fi
  done
}

rm -rf "$folder"
mkdir -p "$folder"
certificate one.example
certificate two.example
(umask 077 && head -c 32 /dev/urandom >"$folder/secret")
sed "s|@REDIS@|redis://${addresses[0]}:6379|; s|@SECRET@|$folder/secret|" "$settings" >"$folder/farm.toml"

echo 'without the plugin:'
trial 0 2 ''
end_all

echo 'with the plugin:'
start_redis
trial 6 2 "$plugin $folder/farm.toml"
show_counters
end_all

echo "with the plugin, and the library in the place of ATS's own cache:"
start_redis
trial 6 0 "$library" "$plugin $folder/farm.toml"
show_counters
show_orders
exit $((failures > 0))
