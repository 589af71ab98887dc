#!/usr/bin/env bash
# Checks an installed copy of the library, called by `make installcheck`: its files, and
# that the examples build against it, with pkg-config and with CMake, and work.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."
: "${DESTDIR=}" "$PREFIX" "$LIBDIR" "$INCLUDEDIR" "$MANDIR" "$VERSION" "$SOVERSION" "$CC"

wrong() {
  echo "installcheck: $*" >&2
  exit 1
}

# same WHAT FOUND EXPECTED
same() {
  [[ $2 == "$3" ]] || wrong "$1 is '$2', should be '$3'"
}

lib=$DESTDIR$LIBDIR
file=$lib/libtssession.so.$VERSION
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The file and its names.
[[ -f $file && ! -L $file ]] || wrong "$file is not a file"
soname=$(LC_ALL=C objdump -p "$file" | sed -n 's/^ *SONAME *//p')
same "the SONAME" "$soname" "libtssession.so.$SOVERSION"
same "the link $soname" "$(readlink "$lib/$soname")" "libtssession.so.$VERSION"
same "the link libtssession.so" "$(readlink "$lib/libtssession.so")" "$soname"

# A manual page for each function, and the overview.
pages=$DESTDIR$MANDIR/man3
for name in tssession $(nm -D --defined-only "$file" | sed -n 's/.* \(TS.*\)/\1/p'); do
  [[ -s $pages/$name.3 ]] || wrong "there is no manual page $name.3"
done

# The flags: those of pkg-config, without and with the root that all is staged in.
export PKG_CONFIG_PATH=$lib/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
same "the version" "$(pkg-config --modversion tssession)" "$VERSION"
# The folders, where they are and where they would be if all was moved.
for at in "$PREFIX" /moved; do
  for name in INCLUDEDIR LIBDIR; do
    variable=${name,,}
    expected=${!name/#"$PREFIX/"/$at/}
    found=$(pkg-config --define-variable=prefix="$at" --variable="$variable" tssession)
    same "$variable" "$found" "$expected"
  done
done
export PKG_CONFIG_SYSROOT_DIR=$DESTDIR
read -ra cflags < <(pkg-config --cflags tssession)
read -ra libs < <(pkg-config --libs tssession)
unset PKG_CONFIG_SYSROOT_DIR

# runs WITH HOST PLUGIN: real clients resume, with the installed library and no other.
runs() {
  local loaded
  loaded=$(LD_LIBRARY_PATH=$lib ldd "$3" | sed -n 's/.*libtssession.* => \([^ ]*\) .*/\1/p')
  same "what the plugin loads" "$loaded" "$lib/$soname"
  LD_LIBRARY_PATH=$lib examples/demo.sh "$2" "$3" >"$work/log" 2>&1 || {
    cat "$work/log" >&2
    wrong "the examples built with $1 do not work"
  }
  echo "installcheck: built with $1, clients resume"
}

warnings=(-std=c11 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Werror)
$CC "${warnings[@]}" "${cflags[@]}" -o "$work/host" examples/host.c -lssl -lcrypto -ldl
$CC "${warnings[@]}" "${cflags[@]}" -fPIC -shared -o "$work/plugin.so" examples/plugin.c \
  "${libs[@]}" -lssl -lcrypto
runs pkg-config "$work/host" "$work/plugin.so"

if ! command -v cmake >/dev/null; then
  echo "installcheck: there is no cmake to check its package with"
  exit
fi
case $LIBDIR in
"$PREFIX/lib" | "$PREFIX/lib/$($CC -dumpmachine)") where=(-DCMAKE_PREFIX_PATH="$DESTDIR$PREFIX") ;;
# Where CMake does not look by itself.
*) where=(-Dtssession_DIR="$lib/cmake/tssession") ;;
esac
{
  cmake -S examples -B "$work/cmake" "${where[@]}"
  cmake --build "$work/cmake"
} >"$work/log" 2>&1 || {
  cat "$work/log" >&2
  wrong "the examples do not build with CMake"
}
same "what CMake found" "$(sed -n 's/^tssession_DIR:[A-Z]*=//p' "$work/cmake/CMakeCache.txt")" \
  "$(realpath -s "$lib")/cmake/tssession"
runs CMake "$work/cmake/host" "$work/cmake/plugin.so"
