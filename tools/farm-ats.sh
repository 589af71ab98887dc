#!/usr/bin/env bash
# Shows that with the farm plugin a session made at one real traffic_server resumes at another, both
# ways, by ID and by ticket. Runs two servers three times: without the plugin, with it, and with it
# and this library in place of their own session caches.
#
#   farm-ats.sh DIRECTORY PLUGIN SETTINGS LIBRARY DOCTOR
#
# DIRECTORY is deleted and made again. SETTINGS is the plugin's file: @REDIS@ in it becomes the URL of
# the redis-server that the script starts, @SECRET@ a file with a secret. DOCTOR is tssession-doctor.
# The exit status is 0 if no session resumed at the other server without the plugin, and all did with it.
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
  # The address belongs to this script, so the port is free.
  redis-server --bind "${addresses[0]}" --port 6379 --save '' --appendonly no --dir "$folder" \
    >"$folder/redis.log" 2>&1 &
  started+=($!)
  until_true $! redis-cli -h "${addresses[0]}" ping >/dev/null
}

# Tries three ways to resume at the other server, in both directions, and prints the results.
trial() { # RESUMED-AT-THE-OTHER MODE-OF-ATS'S-OWN-CACHE PLUGIN-LINE...
  local expected="$1 of 6" number resumed
  local records="CONFIG proxy.config.ssl.session_cache INT $2"
  shift 2
  for number in 0 1; do
    ats_make "ats$number" "$number" <<<"$records"
    ats_start "ats$number" "$@"
  done
  # Its status is 1, too, if a client that hung up is not resumed.
  "$doctor" "${addresses[0]}:8443" --also "${addresses[1]}" | tee "$folder/doctor.txt" || true
  resumed="$(grep -c 'at another address .* resumed' "$folder/doctor.txt") of $(
    grep -c 'at another address' "$folder/doctor.txt"
  )" || true
  if [[ $resumed != "$expected" ]]; then
    echo "WRONG: $resumed sessions resumed at the other server, expected $expected"
    failures=$((failures + 1))
  fi
}

show_counters() {
  local number
  # ATS updates its metrics every few seconds.
  sleep 6
  for number in 0 1; do
    echo "counters of server $number:"
    curl -sS "http://${addresses[number]}:8080/_stats" | grep -o '"plugin.tssession_farm[^,]*' | tr -d '"' |
      sed 's/^/  /' || failures=$((failures + 1))
  done
}

# Shows the farm's answers to orders: one of the two leads, and only that one makes a key.
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
      echo "WRONG: expected exactly one answer with \"$order\""
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

echo "with the plugin, and the library in place of ATS's own cache:"
start_redis
trial 6 0 "$library" "$plugin $folder/farm.toml"
show_counters
show_orders
exit $((failures > 0))
