#!/usr/bin/env bash
# Shows which returning clients two real traffic_servers resume. One has this library as a plugin and
# its own session cache off, the other uses its own cache. Each runs under its traffic_manager.
#
#   ats-demo.sh DIRECTORY PLUGIN CLIENT
#
# DIRECTORY is deleted and made again. The exit status is 0 if the server with the plugin resumed
# every client. The results of the other server are only shown.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

folder=$1
plugin=$2
client=$3
# shellcheck source=tools/ats_lib.sh
source "${0%/*}/ats_lib.sh"

servers=(plugin own)
declare -A addresses=([plugin]=$(ats_address 0) [own]=$(ats_address 1))
failures=0

wrong() {
  echo "    WRONG: $*"
  failures=$((failures + 1))
}

# Visits each server, and keeps the sessions under a name.
make_sessions() { # SESSION S_CLIENT-OPTION...
  local session=$1 server said
  shift
  for server in "${servers[@]}"; do
    said=$(visit "${addresses[$server]}" "$@" -sess_out "$folder/$server.$session")
    [[ $said == New ]] || wrong "the first visit of $session, $server: $said"
  done
}

# Visits each server again with the sessions of that name, and prints a row.
come_back() { # WHAT SESSION S_CLIENT-OPTION...
  local what=$1 session=$2 server results=()
  shift 2
  for server in "${servers[@]}"; do
    results+=("$(visit "${addresses[$server]}" "$@" -sess_in "$folder/$server.$session")")
  done
  printf '  %-54s %-8s %s\n' "$what" "${results[0]}" "${results[1]-}"
  [[ ${results[0]} == Reused ]] || wrong 'the server with the plugin did not resume it'
}

come_back_by_id() {
  come_back 'a client' plain "${id[@]}"
  come_back 'one with a client certificate' certified "${certified[@]}"
  come_back 'one of the second certificate, chosen by SNI' second "${second[@]}"
}

come_back_by_ticket() {
  make_sessions ticket12 -tls1_2
  make_sessions ticket13 -tls1_3
  come_back 'TLS 1.2' ticket12 -tls1_2
  come_back 'TLS 1.3' ticket13 -tls1_3
}

# The certificate in a file, in a session, and the one that the server with the plugin sends.
in_file() { # CERTIFICATE
  openssl x509 -in "$folder/$1.pem" -noout -fingerprint -sha256
}

behind() { # SESSION
  openssl sess_id -in "$folder/$1" -cert | openssl x509 -noout -fingerprint -sha256
}

shown() { # S_CLIENT-OPTION...
  s_client "${addresses[plugin]}" "$@" | openssl x509 -noout -fingerprint -sha256
}

rm -rf "$folder"
mkdir -p "$folder"
certificate one.example
certificate two.example
certificate client
common="CONFIG proxy.config.ssl.client.certification_level INT 1
CONFIG proxy.config.ssl.CA.cert.path STRING $folder
CONFIG proxy.config.ssl.CA.cert.filename STRING client.pem"
ats_make plugin 0 <<<"$common"$'\nCONFIG proxy.config.ssl.session_cache INT 0'
ats_make own 1 <<<"$common"$'\nCONFIG proxy.config.ssl.session_cache INT 2'
ats_start plugin "$plugin --session-cache.size=4K"
ats_start own

id=(-tls1_2 -no_ticket)
certified=("${id[@]}" -cert "$folder/client.pem" -key "$folder/client.key")
second=("${id[@]}" -servername two.example)

printf '%-56s %-8s %s\n' 'TLS 1.2, by session ID, when this client returns:' plugin "ATS's own cache"
make_sessions plain "${id[@]}"
make_sessions certified "${certified[@]}"
make_sessions second "${second[@]}"
[[ $(behind plugin.plain) == "$(in_file one.example)" ]] || wrong 'a wrong certificate without SNI'
[[ $(behind plugin.second) == "$(in_file two.example)" ]] || wrong 'a wrong certificate for two.example'
come_back_by_id
for moment in response middle; do
  for server in "${servers[@]}"; do
    "$client" hang-up "${addresses[$server]}" 8443 "$moment" "$folder/$server.$moment"
  done
done
come_back 'one that hung up after the response' response "${id[@]}"
come_back 'one that hung up in the middle of the response' middle "${id[@]}"

echo 'after traffic_ctl config reload:'
ats_reload "${servers[@]}"
come_back_by_id

echo 'after a reload with renewed certificates:'
certificate one.example
certificate two.example
ats_reload "${servers[@]}"
[[ $(shown) == "$(in_file one.example)" ]] || wrong 'the certificate without SNI is not the renewed one'
[[ $(shown -servername two.example) == "$(in_file two.example)" ]] || wrong 'the certificate of two.example is not the renewed one'
come_back_by_id

echo "by ticket, with ATS's keys:"
come_back_by_ticket

echo
echo 'traffic_ctl metric match plugin.tssession, without those that are 0:'
# Exactly the visits above.
until_true "${managers[plugin]}" has_metric plugin plugin.tssession.ssl_session_cache_hit 11
has_metric plugin plugin.tssession.session_cache.entries 5 || wrong 'the cache does not hold the five sessions of the first visits'
has_metric plugin plugin.tssession.total_tickets_created 0 || wrong 'the plugin made tickets'
ats_ctl plugin metric match '^plugin\.tssession' | sed '/ 0$/d; s/^/  /'

ats_stop plugin
ats_stop own
servers=(plugin)
ats_start plugin "$plugin --session-cache.size=4K --session-ticket.mode=1"
echo
echo 'by ticket, with --session-ticket.mode=1:'
come_back_by_ticket
# With TLS 1.3, a full handshake makes two tickets, a resumed one makes one.
until_true "${managers[plugin]}" has_metric plugin plugin.tssession.total_tickets_created 4
ats_ctl plugin metric match '^plugin\.tssession\.total_ticket' | sed '/ 0$/d; s/^/  /'
ats_stop plugin

((failures == 0)) || fail "$failures checks failed; see $folder"
