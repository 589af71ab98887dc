# shellcheck shell=bash
# Sourced by the scripts that run real traffic_servers and visit them. Such a script first sets
# `folder` to the directory that it works in. When it exits, everything that it started is stopped.
#
# SPDX-License-Identifier: Apache-2.0

# shellcheck source=tools/ats_folder.sh
source "${BASH_SOURCE[0]%/*}/ats_folder.sh"

# The processes of the traffic_managers, by server name, and the others to stop.
declare -A managers=()
started=()

# An address for each of the numbers 0 to 3 that no other process uses: process IDs are below 2^22.
ats_address() { # NUMBER
  echo "127.$((64 * $1 + ($$ >> 16))).$(($$ >> 8 & 255)).$(($$ & 255))"
}

fail() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# Waits until a command succeeds: at most a minute, and only while the process lives.
until_true() { # PROCESS COMMAND...
  local process=$1 end=$((SECONDS + 60))
  shift
  while ((SECONDS < end)); do
    if "$@" 2>/dev/null; then
      return
    fi
    kill -0 "$process" 2>/dev/null || break
    sleep 0.1
  done
  echo "${0##*/}: still failing, or its process ended: $*; see $folder" >&2
  exit 1
}

# Makes a self-signed certificate NAME.pem, and its key NAME.key. Called again, it renews the
# certificate and keeps the key.
certificate() { # NAME
  local key=$folder/$1.key
  [[ -e $key ]] || openssl ecparam -name prime256v1 -genkey -noout -out "$key"
  openssl req -x509 -key "$key" -days 2 -subj "/CN=$1" -out "$folder/new.pem"
  mv "$folder/new.pem" "$folder/$1.pem"
}

# Makes the directory $folder/NAME for a traffic_server. The server sends the certificate of
# one.example, or that of two.example if the client asks for it by SNI. Records on standard input are
# added after those that all servers have; of two for one setting, the last counts.
ats_make() { # NAME NUMBER
  local home=$folder/$1
  ats_folder "$home" "$(ats_address "$2")" '8080 8443:ssl'
  # By default ATS updates its metrics, and acts on orders, only every few seconds.
  {
    cat <<RECORDS
CONFIG proxy.config.ssl.server.cert.path STRING $folder
CONFIG proxy.config.ssl.server.private_key.path STRING $folder
CONFIG proxy.config.raw_stat_sync_interval_ms INT 200
CONFIG proxy.config.remote_sync_interval_ms INT 200
CONFIG proxy.config.config_update_interval_ms INT 200
RECORDS
    cat
  } >>"$home/config/records.config"
  cat >"$home/config/ssl_multicert.config" <<LINES
dest_ip=* ssl_cert_name=one.example.pem ssl_key_name=one.example.key
ssl_cert_name=two.example.pem ssl_key_name=two.example.key
LINES
}

# Starts a server under its traffic_manager, with these lines in plugin.config.
ats_start() { # NAME LINE...
  local name=$1 home=$folder/$1
  shift
  printf '%s\n' "$@" stats_over_http.so >"$home/config/plugin.config"
  rm -f "$home"/log/*
  traffic_manager --run-root="$home/runroot.yaml" >"$home/log/stdout" 2>&1 &
  managers[$name]=$!
  # The manager listens before the server runs.
  until_true $! grep -q 'traffic server running' "$home/log/diags.log"
}

# Prints the process ID of a running server.
ats_process() { # NAME
  tr -d '\0\n' <"$folder/$1/run/server.lock"
}

# Stops a server. Its manager stops the server before it ends.
ats_stop() { # NAME
  local manager=${managers[$1]} server status=0 _
  unset "managers[$1]"
  server=$(ats_process "$1") || true
  kill "$manager" 2>/dev/null || true
  wait "$manager" || status=$?
  # The server is no child of this shell, which cannot wait for it.
  for _ in {1..100}; do
    [[ -n $server && -d /proc/$server ]] || return 0
    sleep 0.1
  done
  kill -KILL "$server" || true
  echo "${0##*/}: $1: killed traffic_server $server, which outlived its manager (exit status $status)" >&2
  return 1
}

end_all() {
  local name process
  for process in "${started[@]}"; do
    kill "$process" 2>/dev/null || true
    wait "$process" 2>/dev/null || true
  done
  started=()
  for name in "${!managers[@]}"; do
    ats_stop "$name" || true
  done
}
trap end_all EXIT

ats_ctl() { # NAME ARGUMENT...
  local name=$1
  shift
  traffic_ctl --run-root="$folder/$name/runroot.yaml" "$@" 2>>"$folder/$name/log/traffic_ctl"
}

has_metric() { # NAME METRIC VALUE
  [[ $(ats_ctl "$1" metric get "$2") == "$2 $3" ]]
}

certificates_loaded() { # NAME
  grep -c 'ssl_multicert.config finished loading' "$folder/$1/log/diags.log"
}

loaded_more_than() { # COUNT NAME
  (($(certificates_loaded "$2") > $1))
}

# Makes servers reload their certificates, and waits until they have.
ats_reload() { # NAME...
  local name
  local -A before
  for name in "$@"; do
    before[$name]=$(certificates_loaded "$name")
    touch "$folder/$name/config/ssl_multicert.config"
    ats_ctl "$name" config reload
  done
  for name in "$@"; do
    until_true "${managers[$name]}" loaded_more_than "${before[$name]}" "$name"
  done
}

# Visits the server at an address, and prints the output of s_client.
s_client() { # ADDRESS OPTION...
  local address=$1
  shift
  printf 'GET / HTTP/1.0\r\nHost: a\r\n\r\n' | timeout 20 openssl s_client -connect "$address:8443" -ign_eof "$@" 2>&1 || true
}

# Visits it, and prints New or Reused, or failed if there was no response. (It is a 404: no path is
# mapped.)
visit() { # ADDRESS OPTION...
  case $(s_client "$@") in
  *$'\nReused, '*'404 Not Found on Accelerator'*) echo Reused ;;
  *$'\nNew, '*'404 Not Found on Accelerator'*) echo New ;;
  *) echo failed ;;
  esac
}
