#!/bin/sh
# Installs what a purpose needs beyond a C compiler and make, or prints one line that installs it. Does
# nothing if all is there.
#
#   deps.sh [PURPOSE]
#
# PURPOSE: demo (the build; the default), test, lint, deb (the Debian packages), root (clean Debians),
# fuzz, races (ThreadSanitizer), peers (other TLS libraries), farm (a real Redis), ats (the real ATS),
# ats-valgrind, farm-ats, prometheus (the alert rules), prometheus-demo, hosts (the servers
# that the library is preloaded into), pictures (those of docs/design).
#
# SPDX-License-Identifier: Apache-2.0
set -eu
cd "$(dirname "$0")/.."

missing=
need() { # PACKAGE CHECK...
  package=$1
  shift
  "$@" >/dev/null 2>&1 || missing="$missing $package"
}

# Not every system has these: without them, the tests that use them are ignored.
wanted=
want() { # PACKAGE CHECK...
  package=$1
  shift
  "$@" >/dev/null 2>&1 || wanted="$wanted $package"
}

# The oldest Rust that builds this.
lowest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
is_enough() {
  [ -n "$1" ] && printf '%s\n%s\n' "$lowest" "$1" | sort -CV
}
need rust is_enough "$(cargo --version 2>/dev/null | cut -d' ' -f2)"
need pkg-config command -v pkg-config
# OpenSSL 3 or 4: headers, libraries, and the client of the demo.
need libssl-dev sh -c 'echo "#include <openssl/core.h>" | cc -E -xc -'
need openssl command -v openssl
case ${1:-demo} in
test)
  need g++ command -v g++
  need clang command -v clang++
  need binutils command -v nm
  need valgrind command -v valgrind
  # A TLS client that does not use OpenSSL.
  need gnutls-bin command -v gnutls-cli
  # It compares the ABI with its baseline.
  need abigail-tools command -v abidiff
  # An example in Python.
  need python3 command -v python3
  # The headers of ATS, which are compiled beside ours.
  want trafficserver-dev test -f /usr/include/ts/apidefs.h
  # The farm's tests start it.
  need redis-server command -v redis-server
  # Two readers of manual pages, and CMake, which finds the installed library.
  need mandoc command -v mandoc
  need man-db command -v man
  need cmake command -v cmake
  ;;
peers)
  # TLS clients; the one in Python is installed into a virtual environment.
  need gnutls-bin command -v gnutls-cli
  need curl command -v curl
  need python3-venv python3 -c 'import ensurepip, venv'
  ;;
deb)
  need debhelper command -v dh
  need lintian command -v lintian
  # With it, lintian reads the manual pages.
  need man-db command -v man
  ;;
root)
  need mmdebstrap command -v mmdebstrap
  ;;
ats)
  need trafficserver command -v traffic_server
  need trafficserver-dev test -f /usr/include/ts/apidefs.h
  ;;
ats-valgrind)
  need trafficserver command -v traffic_server
  need valgrind command -v valgrind
  ;;
farm)
  need redis-server command -v redis-server
  need redis-sentinel command -v redis-sentinel
  need python3 command -v python3
  ;;
farm-ats)
  need trafficserver command -v traffic_server
  need redis-server command -v redis-server
  need curl command -v curl
  ;;
pictures)
  need graphviz command -v dot
  ;;
hosts)
  need nginx-light command -v nginx
  need haproxy command -v haproxy
  need apache2 command -v apache2
  need stunnel4 command -v stunnel4
  need redis-server command -v redis-server
  need python3 command -v python3
  need valgrind command -v valgrind
  # What is installed for this is not to be started.
  export RUNLEVEL=1
  ;;
prometheus)
  want prometheus command -v promtool
  ;;
prometheus-demo)
  need prometheus command -v prometheus
  need prometheus-node-exporter command -v prometheus-node-exporter
  need trafficserver command -v traffic_server
  need redis-server command -v redis-server
  need curl command -v curl
  ;;
races)
  # The standard library is rebuilt. Its source comes from rustup, not from Debian.
  test -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library" || rustup component add rust-src || {
    echo "please install the source of Rust's standard library first: rustup component add rust-src" >&2
    exit 1
  }
  ;;
fuzz)
  # Cargo builds libFuzzer, which is C++.
  need g++ command -v g++
  ;;
lint)
  need shellcheck command -v shellcheck
  need clang-format command -v clang-format
  ;;
esac

[ -n "$missing$wanted" ] || exit 0
sudo=sudo
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  sudo=
  export DEBIAN_FRONTEND=noninteractive
  # For the optional packages the present lists are good enough.
  [ -z "$missing" ] || apt-get update -qq
fi

# Prints the version that apt would install.
candidate() {
  apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: \([0-9].*\)/\1/p'
}

commands=
add() {
  commands="${commands:+$commands && }$*"
}

# Rust from Debian if it is new enough, else from backports, else from rustup.
add_rust() {
  # shellcheck source=/dev/null
  suite=$(. /etc/os-release 2>/dev/null && echo "${VERSION_CODENAME-}")
  if is_enough "$(candidate cargo)"; then
    packages="$packages cargo"
  elif [ "$suite" = trixie ]; then
    add "echo deb http://deb.debian.org/debian trixie-backports main |" \
      "${sudo:+$sudo }tee /etc/apt/sources.list.d/backports.list"
    add "${sudo:+$sudo }apt-get update -qq"
    add "${sudo:+$sudo }apt-get install -y -qq --no-install-recommends -t trixie-backports cargo"
  else
    packages="$packages curl ca-certificates"
    rustup="curl -sSf https://static.rust-lang.org/rustup/rustup-init.sh | sh -s -- -y -q --profile minimal"
  fi
}

packages=
rustup=
for package in $missing; do
  case $package in
  rust) add_rust ;;
  *)
    if [ -z "$sudo" ] && [ -z "$(candidate "$package")" ]; then
      echo "apt does not find the package $package" >&2
      exit 1
    fi
    packages="$packages $package"
    ;;
  esac
done
for package in $wanted; do
  if [ -n "$(candidate "$package")" ]; then
    packages="$packages $package"
  else
    echo "skipped: apt does not find the package $package; the tests that need it are ignored" >&2
  fi
done
[ -z "$packages" ] || add "${sudo:+$sudo }apt-get install -y -qq --no-install-recommends$packages"
[ -z "$rustup" ] || add "$rustup"
[ -n "$commands" ] || exit 0

if [ -n "$sudo" ]; then
  echo "please install first: $commands" >&2
  exit 1
fi
echo "installing: $commands" >&2
sh -c "$commands" >/dev/null
