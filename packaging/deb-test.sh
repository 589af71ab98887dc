#!/usr/bin/env bash
# Tests the Debian packages in a clean Debian: this one's release, made by mmdebstrap, with
# a C compiler and nothing of what the build needed. packaging/in-clean-root.sh runs in it.
#
#   deb-test.sh DEBS WORK       (WORK keeps the clean Debian for the next time)
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."
debs=$1
work=$2

if [[ $(id -u) != 0 ]]; then
  echo "deb-test: only root can chroot" >&2
  exit 1
fi

# shellcheck source=/dev/null
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
base=$work/$suite-$(dpkg --print-architecture).tar
root=$work/root
mkdir -p "$work"

if [[ ! -e $base ]]; then
  echo "deb-test: making a clean Debian ($suite)"
  mmdebstrap --quiet --format=tar --variant=apt --dpkgopt=force-unsafe-io \
    --include=gcc,libc6-dev,openssl,pkgconf "$suite" "$base.new"
  mv "$base.new" "$base"
fi

rm -rf "$root"
mkdir "$root"
tar -C "$root" --exclude='./dev/*' -xf "$base"
mkdir "$root/test"
cp -r examples packaging/in-clean-root.sh "$root/test"
cp "$debs"/libtssession{0,-farm0,-dev}_*.deb "$root/test"

# Mounts and processes in namespaces of their own: gone with the test, however it ends.
# shellcheck disable=SC2016 # expanded in there
unshare --mount --pid --fork bash -euc '
  mount --rbind /dev "$1/dev"
  mount -t proc proc "$1/proc"
  cp -L /etc/resolv.conf "$1/etc/resolv.conf"
  exec chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
    bash /test/in-clean-root.sh' - "$root"
rm -rf "$root"
