#!/usr/bin/env bash
# Tests `make install`, `installcheck` and `uninstall`.
#
#   install-test.sh FILE...
#
# The FILEs are the built libraries and program. The environment variable MAKE names make.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."
files=("$@")

tree=$(mktemp -d)
# Programs under test may run as another user.
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

# round WHAT VARIABLE...: installs twice, checks, uninstalls.
round() {
  local what=$1 left
  shift
  echo "$what: $*"
  quietly "$MAKE" install "$@"
  quietly "$MAKE" install "$@"
  "$MAKE" --no-print-directory installcheck "$@"
  if grep -rIl "$tree/stage" "$tree/stage" 2>/dev/null; then
    wrong "the files above contain DESTDIR"
  fi
  quietly "$MAKE" uninstall "$@"
  left=$(find "$tree" ! -type d ! -path "$tree/log" -o -name '*tssession*')
  [[ -z $left ]] || wrong "left behind: $left"
  rm -rf "${tree:?}"/{stage,home}
}

round "in a home directory" PREFIX="$tree/home/x"
round "staged, with the directories of Debian" DESTDIR="$tree/stage" PREFIX=/usr LIBDIR="/usr/lib/$(cc -dumpmachine)"
round "with lib64, as on other systems" PREFIX="$tree/home/x" LIBDIR="$tree/home/x/lib64"
round "staged, with unrelated directories" DESTDIR="$tree/stage" PREFIX=/opt/x BINDIR=/opt/x/tools LIBDIR=/srv/lib64 \
  INCLUDEDIR=/opt/x/sdk/include MANDIR=/doc/man DOCDIR=/doc

if "$MAKE" install PREFIX=here >"$tree/log" 2>&1 || ! grep -q 'PREFIX must be an absolute path' "$tree/log"; then
  wrong "a relative PREFIX was accepted"
fi

for odd in "$tree/a b" "$tree/it's" "$tree/a&b" "$tree/a|b" "$tree/a;b"; do
  for variable in PREFIX DESTDIR; do
    if "$MAKE" install "$variable=$odd" >"$tree/log" 2>&1 || ! grep -q "$variable must contain" "$tree/log"; then
      wrong "$variable=$odd was accepted"
    fi
  done
done

# Under sudo: what another user built is installed without cargo, and only if it is complete.
if [[ $(id -u) == 0 ]]; then
  echo "built by another user"
  mkdir "$tree/built"
  as_root=(DESTDIR="$tree/stage" release="$tree/built" CARGO=false)
  for file in "${files[@]}"; do
    if "$MAKE" install "${as_root[@]}" >"$tree/log" 2>&1 || [[ -e $tree/stage ]]; then
      wrong "an incomplete build was installed"
    fi
    install -o nobody "$file" "$tree/built"
  done
  quietly "$MAKE" install "${as_root[@]}"
fi
echo "install-test: passed"
