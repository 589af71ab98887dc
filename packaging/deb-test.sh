#!/usr/bin/env bash
# Tests the Debian packages in a clean Debian that has a C compiler and nothing else that the build
# needed. packaging/in-clean-root.sh runs in it.
#
#   deb-test.sh DEBS WORK [SUITE]
#
# SUITE is this machine's release by default. WORK keeps the clean Debian for the next time.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."
debs=$1
# shellcheck source=/dev/null
suite=${3:-$(. /etc/os-release && echo "$VERSION_CODENAME")}
root=$2/$suite

tools/root.sh make "$suite" "$root" gcc libc6-dev openssl pkgconf ca-certificates
mkdir "$root/test"
cp -r examples packaging/in-clean-root.sh "$root/test"
cp "$debs"/{libtssession{0,-farm0,-preload,-dev},tssession-tools}_*.deb "$root/test"
tools/root.sh run "$root" -- bash /test/in-clean-root.sh
rm -rf "$root"
