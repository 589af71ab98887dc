#!/usr/bin/env bash
# Tests lines of plugin.config, reloads and the orders of operators in real traffic_servers.
#
#   ats-test.sh DIRECTORY PLUGIN LOG_RESUMED
#
# DIRECTORY is deleted and made again. LOG_RESUMED is the plugin made of examples/log_resumed.c.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

folder=$1
plugin=$2
log_resumed=$3
# shellcheck source=tools/ats_lib.sh
source "${0%/*}/ats_lib.sh"

address=$(ats_address 0)
id=(-tls1_2 -no_ticket)
off='CONFIG proxy.config.ssl.session_cache INT 0'

# Visits twice, and checks the results. The second visit offers the session of the first, if that got
# one that can be resumed.
expect() { # FIRST SECOND S_CLIENT-OPTION...
  local expected="$1 $2" said session=()
  shift 2
  rm -f "$folder/session"
  said=$(visit "$address" "$@" -sess_out "$folder/session")
  [[ ! -e $folder/session ]] || session=(-sess_in "$folder/session")
  said+=" $(visit "$address" "$@" "${session[@]}")"
  [[ $said == "$expected" ]] || fail "$name: $said, expected $expected"
}

expect_log() { # TEXT
  grep -qF -- "$1" "$folder/$name/log/diags.log" || fail "$name: not in diags.log: $1"
}

# Stops the server before it, and starts one with these records.
server() { # NAME LINE RECORD...
  [[ ! -v name ]] || ats_stop "$name"
  name=$1
  local line=$2
  shift 2
  ats_make "$name" 0 < <(printf '%s\n' "$@")
  cat >"$folder/$name/config/logging.yaml" <<'LOGGING'
logging:
  formats: [{name: resumed, format: "%<cqssr> %<{@TLS-Resumed}cqh>"}]
  logs: [{filename: resumed, format: resumed}]
LOGGING
  ats_start "$name" "$line"
}

rm -rf "$folder"
mkdir -p "$folder"
certificate one.example
certificate two.example
certificate client

server both-on "$plugin --session-cache.size=4K" 'CONFIG proxy.config.ssl.session_cache INT 2'
expect_log "ERROR: tssession: TSPluginInit: the server's own session cache is on (proxy.config.ssl.session_cache is 2)"
expect New Reused "${id[@]}"
# The server's own cache has served, and the plugin has no metrics.
until_true "${managers[$name]}" has_metric "$name" proxy.process.ssl.ssl_session_cache_hit 1
[[ -z $(ats_ctl "$name" metric match tssession) ]] || fail "$name: the plugin has metrics"
echo "both caches on: an error is logged, and the server's own cache serves"

server wrong-line "$plugin --session-cache.size=4K --session-cache.sise=4K" "$off"
expect_log 'ERROR: tssession: TSPluginInit: plugin.config: --session-cache.sise=4K: there is no such setting'
expect New New "${id[@]}"
echo 'a wrong line: an error names the setting, and the server serves without the plugin'

# This library ignores what switches ATS's own cache, in ATS's file and in the environment.
PROXY_CONFIG_SSL_SESSION_CACHE=0 server atss-file "$plugin --config=records.config" "$off" \
  'CONFIG proxy.config.ssl.session_cache.size INT 4096' \
  'CONFIG proxy.config.ssl.client.certification_level INT 2' \
  "CONFIG proxy.config.ssl.CA.cert.path STRING $folder" \
  'CONFIG proxy.config.ssl.CA.cert.filename STRING client.pem'
expect_log 'tssession: serves TLS sessions, 4096 at most'
expect New Reused "${id[@]}" -cert "$folder/client.pem" -key "$folder/client.key"
expect failed failed "${id[@]}"
echo "ATS's own records file: its size counts, its session_cache 0 does not; client certificates are required"

settings=$folder/tssession.config
echo 'CONFIG proxy.config.ssl.session_cache.size INT 1K' >"$settings"
server own-file "$plugin --config=$settings" "$off" \
  'CONFIG proxy.config.diags.debug.enabled INT 1' \
  'CONFIG proxy.config.diags.debug.tags STRING ssl.session_cache.*'
expect_log 'tssession: serves TLS sessions, 1024 at most'
expect New Reused "${id[@]}"
mv "$folder/session" "$folder/old"
for tag in ssl.session_cache.insert ssl.session_cache.get; do
  grep -q "DIAG: ($tag)" "$folder/$name/log/stdout" || fail "$name: no debug line with the tag $tag"
done

# For until_true. In subshells, so that a failure does not end the script.
is_refused() {
  (expect New New "${id[@]}")
}

is_logged() { # TEXT
  (expect_log "$1")
}

# A change is active after a reload, and the sessions stay.
echo 'CONFIG tssession.session_cache.max_session_bytes INT 100' >"$settings"
ats_ctl "$name" config reload
until_true "${managers[$name]}" is_refused
[[ $(visit "$address" "${id[@]}" -sess_in "$folder/old") == Reused ]] || fail "$name: the old session is gone"
# An invalid file changes nothing.
echo 'CONFIG tssession.session_cache.max_session_bytes INT none' >"$settings"
ats_ctl "$name" config reload
until_true "${managers[$name]}" is_logged 'the settings are unchanged'
[[ $(visit "$address" "${id[@]}" -sess_in "$folder/old") == Reused ]] || fail "$name: the old session is gone"
echo 'a separate file: it is read again at a reload; sessions stay, debug lines go to the server'

# Each order of an operator is answered with one line.
order() { # ORDER ANSWER
  ats_ctl "$name" plugin msg tssession "$1"
  until_true "${managers[$name]}" is_logged "$2"
}

server orders "$plugin --session-ticket.mode=1"$'\n'"$log_resumed" "$off" \
  'CONFIG proxy.config.log.max_secs_per_buffer INT 1'
expect New Reused "${id[@]}"
visited=$(openssl sess_id -in "$folder/session" -noout -text | sed -n 's/^ *Session-ID: //p')
expect New Reused -tls1_3
order stats 'NOTE: tssession: stats: ssl_session_cache_hit=1 '
order dump-settings ' tssession.session_ticket.mode 1 (plugin.config), '
order "remove $visited" ': the session is removed'
order 'keys rotate' 'NOTE: tssession: keys rotate: active keys: 2'
order 'keys reload' 'ERROR: tssession: keys reload: no file of ticket keys is configured'
expect New Reused "${id[@]}"
order clear 'NOTE: tssession: clear: discarded sessions: 1'
order farewell 'ERROR: tssession: "farewell": there is no such order; the orders are clear, '
[[ $(visit "$address" -tls1_3 -sess_in "$folder/session") == New ]] || fail "$name: a session that was cleared"
echo 'orders by traffic_ctl plugin msg: each is answered in diags.log'

# The server's own field (cqssr) stays 0 for sessions that the plugin resumed; that of the example is 1.
is_in_log() {
  [[ $(head -n 4 "$folder/$name/log/resumed.log" | tr '\n' ,) == '0 0,0 1,0 0,0 1,' ]]
}
until_true "${managers[$name]}" is_in_log
echo 'log_resumed.so: a field for log formats shows what was resumed'

ats_stop "$name"
