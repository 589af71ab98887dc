#!/usr/bin/env bash
# Runs a real traffic_server in valgrind, with this library as a plugin: it starts, serves clients,
# reloads its certificates, serves clients, and stops.
#
#   ats-valgrind.sh DIRECTORY PLUGIN CLIENT
#
# DIRECTORY is deleted and made again. The exit status is 0 if valgrind found no error and no block
# definitely lost with a function of the plugin on the stack. Other findings are those of ATS, and
# are only counted.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

folder=$1
plugin=$2
client=$3
# shellcheck source=tools/ats_lib.sh
source "${0%/*}/ats_lib.sh"

address=$(ats_address 0)

rm -rf "$folder"
mkdir -p "$folder/bin"
certificate one.example
certificate two.example
ats_make server 0 <<RECORDS
CONFIG proxy.config.ssl.session_cache INT 0
RECORDS
# The manager starts this.
cat >"$folder/bin/traffic_server" <<SCRIPT
#!/bin/sh
exec valgrind --error-limit=no --num-callers=40 --keep-debuginfo=yes --leak-check=full --show-leak-kinds=definite \\
  --xml=yes --xml-file='$folder/valgrind.%p.xml' /usr/bin/traffic_server "\$@"
SCRIPT
chmod +x "$folder/bin/traffic_server"
sed -i "s|^bindir: .*|bindir: $folder/bin|" "$folder/server/runroot.yaml"

# Each server loads its certificates twice: when it starts, and between the clients.
for tickets in 0 1; do
  ats_start server "$plugin --session-cache.size=4K --session-ticket.mode=$tickets"
  "$client" visit "$address" 8443 100 0
  ats_reload server
  "$client" visit "$address" 8443 100 0
  until_true "${managers[server]}" has_metric server plugin.tssession.contexts 4
  ats_stop server
done

reports=("$folder"/valgrind.*.xml)
((${#reports[@]} == 2)) || fail "valgrind wrote ${#reports[@]} reports, expected 2"
for report in "${reports[@]}"; do
  grep -q '^</valgrindoutput>' "$report" || fail "$report: the report is not complete"
done
echo "findings of valgrind: $(cat "${reports[@]}" | grep -c '^<error>')"
awk -v RS='</error>' -v name="${plugin##*/}" '
  index($0, name "</obj>") { print; found++ }
  END { print "of these, with a function of the plugin: " found + 0; exit found > 0 }' "${reports[@]}"
