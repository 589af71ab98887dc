#!/usr/bin/env bash
# Shows resumption as clients see it: openssl s_client connects again to a host
# that is attached to libtssession. Each row is what the client reported.
#
#   demo.sh HOST PLUGIN.so
#
# libtssession.so.0 must be in LD_LIBRARY_PATH.
#
# SPDX-License-Identifier: Apache-2.0
set -u

host=$1
plugin=$2
work=$(mktemp -d)
pids=()
failed=0

finish() {
  for pid in "${pids[@]}"; do
    kill "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
  done
  rm -rf "$work"
}
trap finish EXIT

# start NAME: starts a host; sets port_NAME, and in_NAME and out_NAME to its file descriptors.
start() {
  local name=$1 line in out
  mkfifo "$work/$name.in" "$work/$name.out"
  "$host" "$plugin" <"$work/$name.in" >"$work/$name.out" &
  pids+=($!)
  exec {in}>"$work/$name.in" {out}<"$work/$name.out"
  if ! read -r -t 20 line <&"$out" || [[ $line != port\ * ]]; then
    echo "demo: host $name did not start" >&2
    exit 1
  fi
  printf -v "port_$name" %s "${line#port }"
  printf -v "in_$name" %s "$in"
  printf -v "out_$name" %s "$out"
}

# ask NAME COMMAND: prints the host's answer.
ask() {
  local in=in_$1 out=out_$1 answer
  echo "$2" >&"${!in}"
  read -r -t 20 answer <&"${!out}" || answer="no answer"
  echo "$answer"
}

# visit NAME OPTION...: connects, reads until the host closes, prints New, Reused or "no handshake".
visit() {
  local port=port_$1 said
  shift
  timeout 20 openssl s_client -connect "127.0.0.1:${!port}" -servername localhost -ign_eof \
    "$@" </dev/null >"$work/client" 2>&1
  # Without a handshake OpenSSL prints "New, (NONE), ..."; said is then empty.
  said=$(sed -n '/(NONE)/d; s/^\(New\|Reused\), TLS.*/\1/p' "$work/client" | tail -n 1)
  echo "${said:-no handshake}"
}

row() {
  local what=$1 expected=$2 said=$3 mark=ok
  if [[ $said != "$expected" ]]; then
    mark="WRONG, expected $expected"
    failed=1
  fi
  printf '%-68s %-8s %s\n' "$what" "$said" "$mark"
}

by_id=(-tls1_2 -no_ticket)
ticket12=(-tls1_2)
tls13=(-tls1_3)

start a
start b

printf '%-68s %-8s\n' "what the client did" "it reported"
row "TLS 1.2, session ID: first visit" New "$(visit a "${by_id[@]}" -sess_out "$work/id")"
id=$(ask a last)
row "TLS 1.2, session ID: second visit" Reused "$(visit a "${by_id[@]}" -sess_in "$work/id")"
row "TLS 1.2, ticket: first visit" New "$(visit a "${ticket12[@]}" -sess_out "$work/t12")"
row "TLS 1.2, ticket: second visit" Reused "$(visit a "${ticket12[@]}" -sess_in "$work/t12")"
row "TLS 1.3: first visit" New "$(visit a "${tls13[@]}" -sess_out "$work/t13")"
row "TLS 1.3: second visit" Reused "$(visit a "${tls13[@]}" -sess_in "$work/t13")"

bytes=$(ask a "export $id")
row "TLS 1.2, session ID: at the second host, which does not know it" New "$(visit b "${by_id[@]}" -sess_in "$work/id")"
[[ $(ask b "import $id $bytes") == ok ]] || failed=1
row "TLS 1.2, session ID: at the second host, after GetBuffer and Insert" Reused \
  "$(visit b "${by_id[@]}" -sess_in "$work/id")"

[[ $(ask a "remove $id") == ok ]] || failed=1
row "TLS 1.2, session ID: after TSSslSessionRemove" New "$(visit a "${by_id[@]}" -sess_in "$work/id")"

# The host began with a random key. The plugin sets one that it can keep at the next rotation.
[[ $(ask a "keys fresh") == ok ]] || failed=1
row "TLS 1.2, ticket: first visit" New "$(visit a "${ticket12[@]}" -sess_out "$work/t12")"
row "TLS 1.3: first visit" New "$(visit a "${tls13[@]}" -sess_out "$work/t13")"
[[ $(ask a "keys keep") == ok ]] || failed=1
row "TLS 1.2, ticket: after a key rotation that kept the old key" Reused "$(visit a "${ticket12[@]}" -sess_in "$work/t12")"
row "TLS 1.3: after a key rotation that kept the old key" Reused "$(visit a "${tls13[@]}" -sess_in "$work/t13")"
[[ $(ask a "keys fresh") == ok ]] || failed=1
row "TLS 1.2, ticket: after a key rotation that dropped the old key" New "$(visit a "${ticket12[@]}" -sess_in "$work/t12")"
row "TLS 1.3: after a key rotation that dropped the old key" New "$(visit a "${tls13[@]}" -sess_in "$work/t13")"

echo
echo "counters of the first host (a):"
ask a counters | tr ' ' '\n' | sed '/^$/d; s/^/  /; s/=/ = /'

if ((failed)); then
  echo "demo: failed" >&2
  exit 1
fi
