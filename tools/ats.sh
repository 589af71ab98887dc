#!/usr/bin/env bash
# Runs one plugin inside the real traffic_server, with a separate configuration, on loopback only:
#
#   ats.sh DIRECTORY PLUGIN [ARGUMENT...]
#
# DIRECTORY is deleted and made again. When the plugin is done, it ends the process with status 42,
# which the server itself never uses. (A server that was stopped ends with 0.) Every other status is
# a failure.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

folder=$1
shift
# shellcheck source=tools/ats_folder.sh
source "${0%/*}/ats_folder.sh"
ats_folder "$folder" "127.$(($$ >> 16 & 255)).$(($$ >> 8 & 255)).$(($$ & 255))" 8080
echo "$*" >"$folder/config/plugin.config"

traffic_server --run-root="$folder/runroot.yaml" >"$folder/log/stdout" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
# Show the server's output as it comes.
tail -n +1 -f "$folder/log/stdout" --pid="$server" >&2 &
status=0
wait "$server" || status=$?
if ((status != 42)); then
  echo "traffic_server ended with status $status before the plugin was done; see $folder/log" >&2
  exit 1
fi
