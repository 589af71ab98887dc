#!/usr/bin/env bash
# Runs one plugin inside the real traffic_server, with a configuration of its own and on
# loopback only:
#
#   ats.sh FOLDER PLUGIN [ARGUMENT...]
#
# FOLDER is the script's own: it is made anew. When the plugin's work is done it ends the
# process with status 42, which the server itself never has: a server that was stopped ends
# with 0. Everything but 42 is a failure.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

folder=$1
shift
# An address of its own, out of 127.0.0.0/8: ATS takes no free port that the system chooses.
address=127.$(($$ >> 16 & 255)).$(($$ >> 8 & 255)).$(($$ & 255))

rm -rf "$folder"
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
touch "$folder"/config/{storage.config,remap.config,ssl_multicert.config} "$folder/log/stdout"
cat >"$folder/config/records.config" <<EOF
CONFIG proxy.config.http.server_ports STRING 8080:ip-in=$address
CONFIG proxy.config.http.cache.http INT 0
CONFIG proxy.config.admin.user_id STRING #-1
CONFIG proxy.config.exec_thread.autoconfig INT 0
CONFIG proxy.config.exec_thread.limit INT 1
CONFIG proxy.config.crash_log_helper STRING NULL
CONFIG proxy.config.ssl.session_cache INT 2
EOF
echo "$*" >"$folder/config/plugin.config"

traffic_server --run-root="$folder/runroot.yaml" >"$folder/log/stdout" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
# What the server says, as it says it.
tail -n +1 -f "$folder/log/stdout" --pid="$server" >&2 &
status=0
wait "$server" || status=$?
if ((status != 42)); then
  echo "traffic_server ended with status $status before the plugin was done; see $folder/log" >&2
  exit 1
fi
