#!/usr/bin/env bash
# Runs the tests that this machine has built, with the libraries that it ships, in a clean Debian
# of another release: with its OpenSSL, its compilers and its Redis.
#
#   second-openssl.sh SUITE FOLDER LIBRARIES      (FOLDER keeps the clean Debian for the next time)
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."
suite=$1
root=$2/$suite
libraries=$3

# What these tests start.
tools/root.sh make "$suite" "$root" gcc g++ libc6-dev libssl-dev openssl binutils redis-server ca-certificates
mapfile -t tests < <(${CARGO:-cargo} test --locked --workspace --no-run 2>&1 |
  sed -n 's/^  Executable \(.*\) (\(.*\))$/\2/p' | grep -E '/(c_programs|exports|tssession|tssession_farm|host|door|insider)-[0-9a-f]*$')
((${#tests[@]} == 8)) || {
  echo "second-openssl: these are not the tests: ${tests[*]}" >&2
  exit 1
}
seen=("$PWD:$PWD")
# The tests were built to use these headers if they are here.
[[ ! -d /usr/include/ts ]] || seen+=(/usr/include/ts:/usr/include/ts)
# shellcheck disable=SC2016 # expanded in there
tools/root.sh run "$root" "${seen[@]}" -- bash -euc '
  cd "$1"
  openssl version
  export TSSESSION_LIB=$2/libtssession.so
  for test in "${@:3}"; do
    "$test" --quiet
  done' - "$PWD" "$libraries" "${tests[@]}"
rm -rf "$root"
