#!/usr/bin/env bash
# Two real traffic_server processes, first without the farm plugin and then with it: a session
# that a client made at one, resumes at the other, both ways, by ID and by ticket.
#
#   farm-ats.sh FOLDER PLUGIN SETTINGS
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
# shellcheck source=tools/ats_folder.sh
source "${0%/*}/ats_folder.sh"

# Two addresses that nobody else has: process IDs end below 2^22.
addresses=("127.$(($$ >> 16)).$(($$ >> 8 & 255)).$(($$ & 255))"
  "127.$((64 + ($$ >> 16))).$(($$ >> 8 & 255)).$(($$ & 255))")
started=()
failures=0

end_all() {
  local process
  for process in "${started[@]}"; do
    kill "$process" 2>/dev/null || true
  done
  for process in "${started[@]}"; do
    wait "$process" 2>/dev/null || true
  done
  started=()
}
trap end_all EXIT

# Waits until somebody listens.
until_open() { # ADDRESS PORT PROCESS
  local _
  for _ in {1..600}; do
    if (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; then
      return
    fi
    kill -0 "$3" 2>/dev/null || break
    sleep 0.1
  done
  echo "nobody listens on $1:$2; see $folder" >&2
  exit 1
}

start_redis() {
  # Its own address is free, whatever the ports are on others.
  redis-server --bind "${addresses[0]}" --port 6379 --save '' --appendonly no --dir "$folder" \
    >"$folder/redis.log" 2>&1 &
  started+=($!)
  until_open "${addresses[0]}" 6379 $!
}

start_server() { # NUMBER PLUGIN-LINE
  local address=${addresses[$1]} home=$folder/ats$1
  ats_folder "$home" "$address" '8080 8443:ssl'
  cat >>"$home/config/records.config" <<EOF
CONFIG proxy.config.ssl.server.cert.path STRING $folder
CONFIG proxy.config.ssl.server.private_key.path STRING $folder
EOF
  # One certificate: ATS makes the session ID context of it.
  echo 'dest_ip=* ssl_cert_name=cert.pem ssl_key_name=key.pem' >"$home/config/ssl_multicert.config"
  printf '%s\n' "$2" stats_over_http.so >"$home/config/plugin.config"
  traffic_server --run-root="$home/runroot.yaml" >"$home/log/stdout" 2>&1 &
  started+=($!)
  until_open "$address" 8443 $!
}

# A request over TLS, answered in full; prints "full" or "resumed".
visit() { # NUMBER S_CLIENT-OPTION...
  local address=${addresses[$1]} said
  shift
  said=$(printf 'GET / HTTP/1.0\r\n\r\n' |
    timeout 20 openssl s_client -connect "$address:8443" -ign_eof "$@" 2>&1) || true
  case $said in
  *$'\nReused, '*) echo resumed ;;
  *$'\nNew, '*) echo full ;;
  *) echo failed ;;
  esac
}

# Makes a session at one and resumes it at the other.
pass() { # FROM TO KIND EXPECTED S_CLIENT-OPTION...
  local from=$1 to=$2 kind=$3 expected=$4 session=$folder/session.pem made got _
  shift 4
  rm -f "$session"
  made=$(visit "$from" "$@" -sess_out "$session")
  # It takes its time to the other server. One that expects nothing waits as long as a
  # resumption ever took.
  for _ in {1..20}; do
    got=$(visit "$to" "$@" -sess_in "$session")
    [[ $got != resumed ]] || break
    sleep 0.1
  done
  printf '  %-20s %s -> %s   %-8s %s\n' "$kind" "$from" "$to" "$made" "$got"
  if [[ $made != full || $got != "$expected" ]]; then
    printf '    not as expected: full, %s\n' "$expected"
    failures=$((failures + 1))
  fi
}

trial() { # EXPECTED PLUGIN-LINE
  start_server 0 "$2"
  start_server 1 "$2"
  local way
  for way in '0 1' '1 0'; do
    # shellcheck disable=SC2086 # two numbers
    {
      pass $way 'TLS 1.2, ID' "$1" -tls1_2 -no_ticket
      pass $way 'TLS 1.2, ticket' "$1" -tls1_2
      pass $way 'TLS 1.3, ticket' "$1" -tls1_3
    }
  done
}

rm -rf "$folder"
mkdir -p "$folder"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=farm \
  -keyout "$folder/key.pem" -out "$folder/cert.pem" 2>"$folder/openssl.log"
(umask 077 && head -c 32 /dev/urandom >"$folder/secret")
sed "s|@REDIS@|redis://${addresses[0]}:6379|; s|@SECRET@|$folder/secret|" "$settings" >"$folder/farm.toml"

echo 'without the plugin:'
trial full ''
end_all

echo 'with the plugin:'
start_redis
trial resumed "$plugin $folder/farm.toml"

# ATS brings its numbers up to date every few seconds.
sleep 6
for number in 0 1; do
  echo "counters of $number:"
  curl -sS "http://${addresses[number]}:8080/_stats" | grep -o '"plugin.tssession_farm[^,]*' | tr -d '"' |
    sed 's/^/  /' || failures=$((failures + 1))
done
exit $((failures > 0))
