#!/usr/bin/env bash
# Makes a clean Debian in a directory, with mmdebstrap from deb.debian.org, and runs commands in it. It
# gets this machine's apt settings for reaching the mirror, and its certificates.
#
#   root.sh make SUITE DIRECTORY PACKAGE...
#       makes it; DIRECTORY.tar keeps it for the next time
#   root.sh run DIRECTORY [FROM:TO]... -- COMMAND...
#       runs a command in it, which sees FROM of this machine as TO
#
# SUITE is that of a release, or experimental: unstable with the OpenSSL of experimental.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

if [[ $(id -u) != 0 ]]; then
  echo "root.sh: must be run as root" >&2
  exit 1
fi

make_root() {
  local suite=$1 root=$2 apt=$2.apt
  shift 2
  local mirror=http://deb.debian.org/debian
  local sources=("deb $mirror $suite main")
  case $suite in
  testing) ;;
  experimental) sources=("deb $mirror unstable main" "deb $mirror experimental main") ;;
  *) sources+=("deb $mirror $suite-updates main" "deb $mirror-security $suite-security main") ;;
  esac
  if [[ ! -e $root.tar ]]; then
    mkdir -p "$(dirname "$root")"
    apt-config dump --format '%F "%v";%n' Acquire >"$apt"
    local options=()
    if [[ $suite = experimental ]]; then
      printf '%s\n' 'Package: openssl libssl* openssl-provider-*' 'Pin: release a=experimental' 'Pin-Priority: 990' >"$root.pin"
      options=(--setup-hook="mkdir -p \"\$1/etc/apt/preferences.d\"" --setup-hook="copy-in $root.pin /etc/apt/preferences.d"
        --setup-hook="mv \"\$1/etc/apt/preferences.d/$(basename "$root").pin\" \"\$1/etc/apt/preferences.d/openssl.pref\"")
    fi
    mmdebstrap --quiet --format=tar --variant=apt --dpkgopt=force-unsafe-io --aptopt="$apt" "${options[@]}" \
      --include="$(IFS=, && echo "$*")" "${suite/experimental/unstable}" "$root.tar.new" "${sources[@]}"
    mv "$root.tar.new" "$root.tar"
    rm -f "$apt" "$root.pin"
  fi
  rm -rf "$root"
  mkdir -p "$root"
  tar -C "$root" --exclude='./dev/*' -xf "$root.tar"
  echo '127.0.0.1 localhost' >"$root/etc/hosts"
  # The certificates that this machine trusts besides those of Debian.
  local own=/usr/local/share/ca-certificates
  if [[ -d $own && -d $root$own ]]; then
    find "$own" -name '*.crt' -exec cp {} "$root$own" \;
    run_in "$root" -- update-ca-certificates >/dev/null 2>&1
  fi
}

run_in() {
  # In separate namespaces, so that mounts and processes disappear with the command, however it ends.
  # shellcheck disable=SC2016 # expanded there
  unshare --mount --pid --fork --kill-child bash -euc '
    root=$1
    shift
    mount --rbind /dev "$root/dev"
    mount -t proc proc "$root/proc"
    cp -L /etc/resolv.conf "$root/etc/resolv.conf"
    while [[ $1 != -- ]]; do
      mkdir -p "$root${1#*:}"
      mount --bind "${1%%:*}" "$root${1#*:}"
      shift
    done
    shift
    exec chroot "$root" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
      DEBIAN_FRONTEND=noninteractive "$@"' - "$@"
}

command=$1
shift
case $command in
make) make_root "$@" ;;
run) run_in "$@" ;;
esac
