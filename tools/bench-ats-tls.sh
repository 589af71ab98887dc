#!/usr/bin/env bash
# Measures the cost of a resumed TLS 1.2 connection for a real traffic_server: with this library as a
# plugin and its own session cache off, and with its own cache. The servers run at the same time,
# first with one thread that serves clients, then with two.
#
#   bench-ats-tls.sh DIRECTORY CLIENT REPORT ROUNDS HANDSHAKES NAME=PLUGIN...
#
# DIRECTORY is deleted and made again. JSON lines are written to REPORT. An empty PLUGIN stands for
# the server's own cache.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

folder=$1
client=$2
report=$3
rounds=$4
handshakes=$5
shift 5
# shellcheck source=tools/ats_lib.sh
source "${0%/*}/ats_lib.sh"

rm -rf "$folder" "$report"
mkdir -p "$folder"
certificate one.example
certificate two.example
for threads in 1 2; do
  servers=() number=0
  for candidate in "$@"; do
    name=${candidate%%=*} plugin=${candidate#*=}
    ats_make "$name" "$number" <<RECORDS
CONFIG proxy.config.exec_thread.limit INT $threads
CONFIG proxy.config.ssl.session_cache INT $((${#plugin} > 0 ? 0 : 2))
RECORDS
    ats_start "$name" "$plugin"
    servers+=("$name=$(ats_address "$number"):8443:$(ats_process "$name")")
    number=$((number + 1))
  done
  "$client" cost "$threads serving thread$( ((threads == 1)) || echo s)" "$rounds" "$handshakes" "${servers[@]}" >>"$report"
  end_all
done
