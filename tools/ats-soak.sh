#!/usr/bin/env bash
# Many clients of a real traffic_server with this library as a plugin, while it is told every
# second to load its certificates again, every other time renewed ones. (It looks every few seconds
# whether it was told.)
#
#   ats-soak.sh FOLDER PLUGIN CLIENT HANDSHAKES SECONDS
#
# FOLDER is the script's own: it is made anew. Ends with 0 if no handshake failed, everybody was
# resumed by ID, and the server has given up all contexts but the last ones in the end.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

folder=$1
plugin=$2
client=$3
handshakes=$4
seconds=$5
# shellcheck source=tools/ats_lib.sh
source "${0%/*}/ats_lib.sh"

address=$(ats_address 0)

resident() {
  sed -n 's/^VmRSS:[^0-9]*//p' "/proc/$(ats_process soak)/status"
}

contexts() {
  ats_ctl soak metric get plugin.tssession.contexts | sed 's/.* //'
}

rm -rf "$folder"
mkdir -p "$folder"
certificate one.example
certificate two.example
(umask 077 && openssl rand 48 >"$folder/tickets")
ats_make soak 0 <<RECORDS
CONFIG proxy.config.ssl.session_cache INT 0
CONFIG proxy.config.exec_thread.limit INT 2
CONFIG proxy.config.ssl.server.ticket_key.filename STRING $folder/tickets
RECORDS
ats_start soak "$plugin --session-cache.size=4K"
"$client" visit "$address" 8443 1000 0 >/dev/null
until_true "${managers[soak]}" has_metric soak plugin.tssession.contexts 2
memory=$(resident) most=0 told=0 loaded=$(certificates_loaded soak)

"$client" visit "$address" 8443 "$handshakes" "$seconds" >"$folder/visits" &
visitors=$!
started+=("$visitors")
while kill -0 "$visitors" 2>/dev/null; do
  told=$((told + 1))
  if ((told % 2)); then
    certificate one.example
    certificate two.example
  fi
  touch "$folder/soak/config/ssl_multicert.config"
  ats_ctl soak config reload
  now=$(contexts)
  most=$((now > most ? now : most))
  sleep 1
done
status=0
wait "$visitors" || status=$?
cat "$folder/visits"
echo "certificates loaded $(($(certificates_loaded soak) - loaded)) times, told $told times; at most $most contexts at a time"
echo "resident memory $memory before, $(resident) after"
((status == 0)) || fail "a handshake failed"
grep -q '^TLS 1.2 by ID .*(100.000 %)$' "$folder/visits" || fail "not all were resumed by ID"

# ATS keeps what it has replaced for a minute.
((most > 2)) || fail 'no certificates were loaded meanwhile'
for _ in {1..90}; do
  [[ $(contexts) != 2 ]] || break
  sleep 1
done
echo "$(contexts) contexts a minute later, resident memory $(resident)"
[[ $(contexts) == 2 ]] || fail 'the server has contexts that it does not use any more'
