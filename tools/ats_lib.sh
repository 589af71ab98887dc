# shellcheck shell=bash
# Sourced by what runs real traffic_servers and visits them; whoever sources it sets `folder`, a
# folder of the script's own, first. All that was started is ended with the script.
#
# SPDX-License-Identifier: Apache-2.0

# shellcheck source=tools/ats_folder.sh
source "${BASH_SOURCE[0]%/*}/ats_folder.sh"

# The traffic_managers by the names of their servers, and what else is to be ended.
declare -A managers=()
started=()

# An address that nobody else has, for each of four numbers: process IDs end below 2^22.
ats_address() { # NUMBER
  echo "127.$((64 * $1 + ($$ >> 16))).$(($$ >> 8 & 255)).$(($$ & 255))"
}

fail() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# Waits until a command succeeds, which a process is to bring about.
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
  echo "in vain: $*; see $folder" >&2
  exit 1
}

# A certificate NAME.pem with NAME.key, signed by itself. A second one with the name has the key
# of the first.
certificate() { # NAME
  local key=$folder/$1.key
  [[ -e $key ]] || openssl ecparam -name prime256v1 -genkey -noout -out "$key"
  openssl req -x509 -key "$key" -days 2 -subj "/CN=$1" -out "$folder/new.pem"
  mv "$folder/new.pem" "$folder/$1.pem"
}

# A folder $folder/NAME for a traffic_server, which has the certificates of the script: that of
# one.example by default, that of two.example for who asks for it by SNI. Records on stdin come
# after those that all have: the last one counts.
ats_make() { # NAME NUMBER
  local home=$folder/$1
  ats_folder "$home" "$(ats_address "$2")" '8080 8443:ssl'
  # ATS brings its metrics up to date, and takes up what it was told to, every few seconds.
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

# Starts it under its traffic_manager, with these lines in plugin.config.
ats_start() { # NAME LINE...
  local name=$1 home=$folder/$1
  shift
  printf '%s\n' "$@" stats_over_http.so >"$home/config/plugin.config"
  rm -f "$home"/log/*
  traffic_manager --run-root="$home/runroot.yaml" >"$home/log/stdout" 2>&1 &
  managers[$name]=$!
  # The manager listens before there is a server.
  until_true $! grep -q 'traffic server running' "$home/log/diags.log"
}

# The process of a server that runs.
ats_process() { # NAME
  tr -d '\0\n' <"$folder/$1/run/server.lock"
}

# Ends it. A manager that is told to end ends its server first.
ats_stop() { # NAME
  local manager=${managers[$1]} server status=0 _
  unset "managers[$1]"
  server=$(ats_process "$1") || true
  kill "$manager" 2>/dev/null || true
  wait "$manager" || status=$?
  # It is not ours to wait for.
  for _ in {1..100}; do
    [[ -n $server && -d /proc/$server ]] || return 0
    sleep 0.1
  done
  kill -KILL "$server" || true
  echo "${0##*/}: the traffic_server of $1, $server, stayed when its manager ended with $status" >&2
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

# Has servers load their certificates again, and waits until they have done so.
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

# Visits the server at an address, and shows what s_client said.
s_client() { # ADDRESS OPTION...
  local address=$1
  shift
  printf 'GET / HTTP/1.0\r\nHost: a\r\n\r\n' | timeout 20 openssl s_client -connect "$address:8443" -ign_eof "$@" 2>&1 || true
}

# The same; prints "New" or "Reused", if the request was answered: no path is mapped.
visit() { # ADDRESS OPTION...
  case $(s_client "$@") in
  *$'\nReused, '*'404 Not Found on Accelerator'*) echo Reused ;;
  *$'\nNew, '*'404 Not Found on Accelerator'*) echo New ;;
  *) echo failed ;;
  esac
}
