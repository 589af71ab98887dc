#!/usr/bin/env bash
# Two real traffic_server processes, first without the farm plugin, then with it, and then with
# it and this library in the place of their own session caches: a session that a client made at
# one, resumes at the other, both ways, by ID and by ticket.
#
#   farm-ats.sh FOLDER PLUGIN SETTINGS LIBRARY
#
# FOLDER is the script's own: it is made anew. SETTINGS is the plugin's file, in which
# @REDIS@ stands for the URL of the redis-server that the script starts, and @SECRET@ for a file
# with a secret. Ends with 0 if without the plugin nobody resumed at the other, and with
# it everybody.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

folder=$1
plugin=$2
settings=$3
library=$4
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

# Makes a session at one and resumes it at the other.
pass() { # FROM TO KIND EXPECTED S_CLIENT-OPTION...
  local from=$1 to=$2 kind=$3 expected=$4 session=$folder/session.pem made got _
  shift 4
  rm -f "$session"
  made=$(visit "${addresses[$from]}" "$@" -sess_out "$session")
  # It takes its time to the other server. One that expects nothing waits as long as a
  # resumption ever took.
  for _ in {1..20}; do
    got=$(visit "${addresses[$to]}" "$@" -sess_in "$session")
    [[ $got != Reused ]] || break
    sleep 0.1
  done
  printf '  %-20s %s -> %s   %-8s %s\n' "$kind" "$from" "$to" "$made" "$got"
  if [[ $made != New || $got != "$expected" ]]; then
    printf '    not as expected: New, %s\n' "$expected"
    failures=$((failures + 1))
  fi
}

trial() { # EXPECTED MODE-OF-ATS'S-OWN-CACHE PLUGIN-LINE...
  local expected=$1 number way
  local records="CONFIG proxy.config.ssl.session_cache INT $2"
  shift 2
  for number in 0 1; do
    ats_make "ats$number" "$number" <<<"$records"
    ats_start "ats$number" "$@"
  done
  for way in '0 1' '1 0'; do
    # shellcheck disable=SC2086 # two numbers
    {
      pass $way 'TLS 1.2, ID' "$expected" -tls1_2 -no_ticket
      pass $way 'TLS 1.2, ticket' "$expected" -tls1_2
      pass $way 'TLS 1.3, ticket' "$expected" -tls1_3
    }
  done
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

rm -rf "$folder"
mkdir -p "$folder"
certificate one.example
certificate two.example
(umask 077 && head -c 32 /dev/urandom >"$folder/secret")
sed "s|@REDIS@|redis://${addresses[0]}:6379|; s|@SECRET@|$folder/secret|" "$settings" >"$folder/farm.toml"

echo 'without the plugin:'
trial New 2 ''
end_all

echo 'with the plugin:'
start_redis
trial Reused 2 "$plugin $folder/farm.toml"
show_counters
end_all

echo "with the plugin, and the library in the place of ATS's own cache:"
start_redis
trial Reused 0 "$library" "$plugin $folder/farm.toml"
show_counters
exit $((failures > 0))
