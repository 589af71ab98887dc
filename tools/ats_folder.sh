# shellcheck shell=bash
# Sourced by what runs traffic_server.
#
#   ats_folder FOLDER ADDRESS PORTS
#
# makes FOLDER anew, with all that a traffic_server of its own needs, which listens on the
# address, of 127.0.0.0/8: ATS takes no free port that the system chooses. PORTS are those of
# proxy.config.http.server_ports, each without its address.
#
# SPDX-License-Identifier: Apache-2.0

ats_folder() {
  local folder=$1 address=$2 ports=$3
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
CONFIG proxy.config.http.server_ports STRING ${ports// /:ip-in=$address }:ip-in=$address
CONFIG proxy.config.http.cache.http INT 0
CONFIG proxy.config.admin.user_id STRING #-1
CONFIG proxy.config.exec_thread.autoconfig INT 0
CONFIG proxy.config.exec_thread.limit INT 1
CONFIG proxy.config.crash_log_helper STRING NULL
CONFIG proxy.config.ssl.session_cache INT 2
EOF
}
