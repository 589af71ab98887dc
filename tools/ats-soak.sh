#!/usr/bin/env bash
# Many clients visit a real traffic_server with this library as a plugin, while it is told every
# second to reload its certificates, which are renewed every other time. (The server acts on that only
# every few seconds.)
#
#   ats-soak.sh DIRECTORY PLUGIN CLIENT HANDSHAKES SECONDS
#
# DIRECTORY is deleted and made again. The exit status is 0 if no handshake failed, every client was
# resumed by ID, and the server has freed all contexts but the newest in the end.
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
echo "certificates reloaded $(($(certificates_loaded soak) - loaded)) times after $told orders; at most $most contexts at a time"
echo "resident memory $memory before, $(resident) after"
((status == 0)) || fail "a handshake failed"
grep -q '^TLS 1.2 by ID .*(100.000 %)$' "$folder/visits" || fail "not every client was resumed by ID"

# ATS keeps replaced contexts for a minute.
((most > 2)) || fail 'no certificates were reloaded during the visits'
for _ in {1..90}; do
  [[ $(contexts) != 2 ]] || break
  sleep 1
done
echo "$(contexts) contexts a minute later, resident memory $(resident)"
[[ $(contexts) == 2 ]] || fail 'the server still has contexts that it has replaced'
