#!/usr/bin/env bash
# A real traffic_server in valgrind, with this library as a plugin: it starts, has clients, loads its
# certificates again, has clients, and stops.
#
#   ats-valgrind.sh FOLDER PLUGIN CLIENT
#
# FOLDER is the script's own: it is made anew. Ends with 0 if valgrind has found no error and no
# block definitely lost with a function of the plugin's on the stack; those of ATS itself are counted
# only.
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
# What the manager starts.
cat >"$folder/bin/traffic_server" <<SCRIPT
#!/bin/sh
exec valgrind --error-limit=no --num-callers=40 --keep-debuginfo=yes --leak-check=full --show-leak-kinds=definite \\
  --xml=yes --xml-file='$folder/valgrind.%p.xml' /usr/bin/traffic_server "\$@"
SCRIPT
chmod +x "$folder/bin/traffic_server"
sed -i "s|^bindir: .*|bindir: $folder/bin|" "$folder/server/runroot.yaml"

# ATS loads its certificates before there are clients, and a second time between them.
for tickets in 0 1; do
  ats_start server "$plugin --session-cache.size=4K --session-ticket.mode=$tickets"
  "$client" visit "$address" 8443 100 0
  ats_reload server
  "$client" visit "$address" 8443 100 0
  until_true "${managers[server]}" has_metric server plugin.tssession.contexts 4
  ats_stop server
done

reports=("$folder"/valgrind.*.xml)
((${#reports[@]} == 2)) || fail "${#reports[@]} reports of valgrind, not 2"
for report in "${reports[@]}"; do
  grep -q '^</valgrindoutput>' "$report" || fail "$report: the server did not end by itself"
done
echo "findings of valgrind: $(cat "${reports[@]}" | grep -c '^<error>')"
awk -v RS='</error>' -v name="${plugin##*/}" '
  index($0, name "</obj>") { print; found++ }
  END { print "of them with a function of the plugin: " found + 0; exit found > 0 }' "${reports[@]}"
