#!/bin/sh
# Installs what the build (demo), the tests (test), the TLS peers of other makers (peers), the
# linters (lint), the Debian packages (deb), their test (deb-test), fuzzing (fuzz), the search
# for data races (races), the farm with a real Redis (farm) or what runs the real ATS (ats;
# ats-valgrind, in valgrind; farm-ats, with the farm) need beyond Rust, a C compiler and make, or
# says in one line what to install. Does nothing where all is there.
#
# SPDX-License-Identifier: Apache-2.0
set -eu

missing=
need() { # PACKAGE CHECK...
  package=$1
  shift
  "$@" >/dev/null 2>&1 || missing="$missing $package"
}

need pkg-config command -v pkg-config
# OpenSSL 3: its headers and libraries, and the client of the demo.
need libssl-dev sh -c 'echo "#include <openssl/core.h>" | cc -E -xc -'
need openssl command -v openssl
case ${1:-demo} in
test)
  need g++ command -v g++
  need clang command -v clang++
  need binutils command -v nm
  need valgrind command -v valgrind
  # A client that is not OpenSSL.
  need gnutls-bin command -v gnutls-cli
  # What compares the ABI with its baseline.
  need abigail-tools command -v abidiff
  # What is not C and uses the library too.
  need python3 command -v python3
  # ATS's own headers, which ours are compiled beside.
  need trafficserver-dev test -f /usr/include/ts/apidefs.h
  # What the farm's tests start.
  need redis-server command -v redis-server
  # What reads manual pages, and what finds the installed library.
  need mandoc command -v mandoc
  need man-db command -v man
  need cmake command -v cmake
  ;;
peers)
  # TLS clients; the one in Python goes into an environment of its own.
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
deb-test)
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
races)
  # The standard library is built too. Its source comes with the toolchain, not from Debian.
  test -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library" || rustup component add rust-src || {
    echo "please install first the source of Rust's standard library: rustup component add rust-src" >&2
    exit 1
  }
  ;;
fuzz)
  # libFuzzer is built by cargo, and is C++.
  need g++ command -v g++
  ;;
lint)
  need shellcheck command -v shellcheck
  need clang-format command -v clang-format
  ;;
esac

[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "installing:$missing" >&2
  apt-get update -qq
  # shellcheck disable=SC2086 # a list of words
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
  echo "please install first: sudo apt-get install$missing" >&2
  exit 1
fi
