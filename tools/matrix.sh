#!/usr/bin/env bash
# Runs `make demo` and `make test`, as in README, from a fresh clone in clean Debians, each with
# another OpenSSL, and tests the packages that are built there.
#
#   matrix.sh DIRECTORY [SYSTEM...]
#
# SYSTEM is bookworm, trixie, testing, experimental (OpenSSL 4), or one of two variants of trixie:
# valkey (instead of Redis), lowest-rust (instead of Debian's Rust). Without a SYSTEM, all are run. A
# line is printed for each; its log is DIRECTORY/SYSTEM.log. The exit status is 1 if one failed.
# Downloads and the clean Debians are kept in DIRECTORY.
#
# SPDX-License-Identifier: Apache-2.0
set -uo pipefail
cd "$(dirname "$0")/.." || exit
folder=$(mkdir -p "$1" && cd "$1" && pwd)
shift
(($#)) || set -- bookworm trixie testing experimental valkey lowest-rust

# These commands run in the clean Debian.
# shellcheck disable=SC2016 # expanded there
steps='
  cd /tssession
  for name in server sentinel cli; do
    [[ ! -e /usr/bin/valkey-$name ]] || ln -s "/usr/bin/valkey-$name" "/usr/local/bin/redis-$name"
  done
  if [[ $1 = lowest-rust ]]; then
    shift
    curl -sSf https://static.rust-lang.org/rustup/rustup-init.sh |
      sh -s -- -y -q --profile minimal --default-toolchain "$(sed -n "s/^rust-version = \"\(.*\)\"/\1/p" Cargo.toml)"
  fi
  for target in "$@"; do
    start=$(date +%s)
    make "$target"
    echo "matrix: make $target: $(($(date +%s) - start)) s"
  done
  openssl version
  PATH=/root/.cargo/bin:$PATH cargo --version'

try() {
  local system=$1 suite=$1 packages=() targets=(demo test) takes_debs=()
  case $system in
  bookworm) targets+=(deb) takes_debs=(bookworm trixie) ;;
  trixie) targets+=(deb) takes_debs=(trixie) ;;
  valkey) suite=trixie packages=(valkey-server valkey-sentinel valkey-tools) targets=(farm-test) ;;
  lowest-rust) suite=trixie packages=(curl) targets=(lowest-rust demo test) ;;
  esac
  local root=$folder/$system
  tools/root.sh make "$suite" "$root" gcc libc6-dev make ca-certificates "${packages[@]}" || return
  git clone -q --no-hardlinks . "$root/tssession" || return
  # Downloaded crates are kept; everything else is as on a new machine.
  mkdir -p "$folder/registry"
  tools/root.sh run "$root" "$folder/registry:/root/.cargo/registry" -- bash -euc "$steps" - "${targets[@]}" || return
  for suite in "${takes_debs[@]}"; do
    packaging/deb-test.sh "$root/tssession/target/deb" "$folder/deb" "$suite" || return
    echo "matrix: its packages work in $suite"
  done
}

status=0
for system; do
  log=$folder/$system.log
  result=passed
  try "$system" >"$log" 2>&1 || result=FAILED status=1
  tests=$(sed -n 's/^test result: .* \([0-9]*\) passed;.*; \([0-9]*\) ignored.*/\1 \2/p' "$log" |
    awk '{ passed += $1; ignored += $2 } END { print passed + 0 " tests passed, " ignored + 0 " ignored" }')
  echo "$system: $result: $(grep -h '^matrix: \|^OpenSSL \|^cargo [0-9]' "$log" | sed 's/^matrix: //; s/ (.*//' | paste -sd, -), $tests ($log)"
  rm -rf "${folder:?}/$system"
done
exit $status
