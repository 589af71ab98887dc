#!/usr/bin/env bash
# Tests `make install`, `installcheck` and `uninstall`.
#
#   install-test.sh FILE...   (the libraries and the program that are built; MAKE is what runs the Makefile)
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."
files=("$@")

tree=$(mktemp -d)
# The loader of the programs under test may run as another user.
chmod 755 "$tree"
trap 'rm -rf "$tree"' EXIT

wrong() {
  echo "install-test: $*" >&2
  exit 1
}

quietly() {
  "$@" >"$tree/log" 2>&1 || {
    cat "$tree/log" >&2
    wrong "failed: $*"
  }
}

# round WHAT VARIABLE...: installs twice, checks, takes away again.
round() {
  local what=$1 left
  shift
  echo "$what: $*"
  quietly "$MAKE" install "$@"
  quietly "$MAKE" install "$@"
  "$MAKE" --no-print-directory installcheck "$@"
  if grep -rIl "$tree/stage" "$tree/stage" 2>/dev/null; then
    wrong "DESTDIR is in these files"
  fi
  quietly "$MAKE" uninstall "$@"
  left=$(find "$tree" ! -type d ! -path "$tree/log" -o -name '*tssession*')
  [[ -z $left ]] || wrong "left behind: $left"
  rm -rf "${tree:?}"/{stage,home}
}

round "a user's own folder" PREFIX="$tree/home/x"
round "staged as Debian has it" DESTDIR="$tree/stage" PREFIX=/usr LIBDIR="/usr/lib/$(cc -dumpmachine)"
round "as other systems have it" PREFIX="$tree/home/x" LIBDIR="$tree/home/x/lib64"
round "all over the place" DESTDIR="$tree/stage" PREFIX=/opt/x BINDIR=/opt/x/tools LIBDIR=/srv/lib64 \
  INCLUDEDIR=/opt/x/sdk/include MANDIR=/doc/man DOCDIR=/doc

if "$MAKE" install PREFIX=here >"$tree/log" 2>&1 || ! grep -q 'PREFIX must be an absolute path' "$tree/log"; then
  wrong "a relative PREFIX was taken"
fi

for odd in "$tree/a b" "$tree/it's" "$tree/a&b" "$tree/a|b" "$tree/a;b"; do
  for variable in PREFIX DESTDIR; do
    if "$MAKE" install "$variable=$odd" >"$tree/log" 2>&1 || ! grep -q "$variable must be" "$tree/log"; then
      wrong "$variable=$odd was taken"
    fi
  done
done

# Under sudo: what another user has built is installed without cargo, all of it or nothing.
if [[ $(id -u) == 0 ]]; then
  echo "built by another user"
  mkdir "$tree/built"
  as_root=(DESTDIR="$tree/stage" release="$tree/built" CARGO=false)
  for file in "${files[@]}"; do
    if "$MAKE" install "${as_root[@]}" >"$tree/log" 2>&1 || [[ -e $tree/stage ]]; then
      wrong "installed what is not built"
    fi
    install -o nobody "$file" "$tree/built"
  done
  quietly "$MAKE" install "${as_root[@]}"
fi
echo "install-test: all as it should be"
