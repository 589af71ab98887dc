#!/usr/bin/env bash
# Runs the tests and the libraries that were built on this machine in a clean Debian of another
# release, with the OpenSSL, compilers and Redis of that release.
#
#   second-openssl.sh SUITE DIRECTORY LIBRARIES
#
# DIRECTORY keeps the clean Debian for the next time.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."
suite=$1
root=$2/$suite
libraries=$3

# The packages that these tests use.
tools/root.sh make "$suite" "$root" gcc g++ libc6-dev libssl-dev openssl binutils redis-server ca-certificates
mapfile -t tests < <(${CARGO:-cargo} test --locked --workspace --no-run 2>&1 |
  sed -n 's/^  Executable \(.*\) (\(.*\))$/\2/p' | grep -E '/(c_programs|exports|tssession|tssession_farm|host|door|insider|preload)-[0-9a-f]*$')
((${#tests[@]} == 9)) || {
  echo "second-openssl: expected 9 test programs, found ${#tests[@]}: ${tests[*]}" >&2
  exit 1
}
seen=("$PWD:$PWD")
# If ATS's headers are on this machine, the tests were built to use them.
[[ ! -d /usr/include/ts ]] || seen+=(/usr/include/ts:/usr/include/ts)
# shellcheck disable=SC2016 # expanded there
tools/root.sh run "$root" "${seen[@]}" -- bash -euc '
  cd "$1"
  openssl version
  export TSSESSION_LIB=$2/libtssession.so
  for test in "${@:3}"; do
    "$test" --quiet
  done' - "$PWD" "$libraries" "${tests[@]}"
rm -rf "$root"
