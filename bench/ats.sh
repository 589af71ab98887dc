#!/usr/bin/env bash
# Runs the measurements inside traffic_server, with a configuration of its own and on
# loopback only:
#
#   ats.sh FOLDER PLUGIN OUT LIBRARY [REPETITIONS [ROW]]
#
# FOLDER is the script's own: it is made anew. JSON lines are appended to OUT.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

folder=$1 plugin=$2 out=$3 library=$4
shift 4

rm -rf "$folder" "$out.done"
mkdir -p "$folder"/{config,run,log,cache}
cat >"$folder/runroot.yaml" <<EOF
prefix: $folder
exec_prefix: $folder
bindir: /usr/bin
sbindir: /usr/bin
sysconfdir: $folder/config
datadir: $folder/cache
includedir: /usr/include
libdir: /usr/lib/trafficserver
libexecdir: /usr/lib/trafficserver/modules
localstatedir: $folder
runtimedir: $folder/run
logdir: $folder/log
cachedir: $folder/cache
EOF
cp /etc/trafficserver/ip_allow.yaml "$folder/config/"
touch "$folder"/config/{storage.config,remap.config,ssl_multicert.config}
cat >"$folder/config/records.config" <<EOF
CONFIG proxy.config.http.server_ports STRING 0:ip-in=127.0.0.1
CONFIG proxy.config.http.cache.http INT 0
CONFIG proxy.config.admin.user_id STRING #-1
CONFIG proxy.config.exec_thread.autoconfig INT 0
CONFIG proxy.config.exec_thread.limit INT 1
CONFIG proxy.config.crash_log_helper STRING NULL
CONFIG proxy.config.ssl.session_cache INT 2
EOF
echo "$plugin $out $library $*" >"$folder/config/plugin.config"

traffic_server --run-root="$folder/runroot.yaml" >"$folder/log/stdout" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
# What the server says, as it says it.
tail -n +1 -f "$folder/log/stdout" --pid="$server" >&2 &
wait "$server" || true
if [ ! -e "$out.done" ]; then
  echo "traffic_server ended before the measurements did; see $folder/log" >&2
  exit 1
fi
rm "$out.done"
