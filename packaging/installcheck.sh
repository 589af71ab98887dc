#!/usr/bin/env bash
# Checks an installed copy of the libraries for `make installcheck`: the files, and that the examples
# built with them work, both with pkg-config and with CMake.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."
: "${DESTDIR=}" "$PREFIX" "$BINDIR" "$LIBDIR" "$INCLUDEDIR" "$MANDIR" "$DOCDIR" "$FILE_VERSION" "$VERSION" "$SOVERSION" \
  "$FARM_SOVERSION" "$CC"

wrong() {
  echo "installcheck: $*" >&2
  exit 1
}

# same WHAT FOUND EXPECTED
same() {
  [[ $2 == "$3" ]] || wrong "$1 is '$2', expected '$3'"
}

lib=$DESTDIR$LIBDIR
pages=$DESTDIR$MANDIR/man3
soname=libtssession.so.$SOVERSION
farm_soname=libtssession_farm.so.$FARM_SOVERSION
work=$(mktemp -d)
redis=
end() {
  [[ -z $redis ]] || kill "$redis"
  rm -rf "$work"
}
trap end EXIT

# The files and their names, and a manual page for each function and each library.
for name in "$soname" "$farm_soname"; do
  link=${name%.*}
  file=$lib/$link.$FILE_VERSION
  [[ -f $file && ! -L $file ]] || wrong "$file is not a regular file"
  same "the SONAME" "$(LC_ALL=C objdump -p "$file" | sed -n 's/^ *SONAME *//p')" "$name"
  same "the link $name" "$(readlink "$lib/$name")" "$link.$FILE_VERSION"
  same "the link $link" "$(readlink "$lib/$link")" "$name"
  overview=${link#lib}
  for page in "${overview%.so}" $(nm -D --defined-only "$file" | sed -n 's/.* \(TSSsl.*\)/\1/p'); do
    [[ -s $pages/$page.3 ]] || wrong "the manual page $page.3 is missing"
  done
done

# A client that only connects runs with the library for unmodified servers.
case $(uname -m) in
x86_64 | aarch64)
  [[ -x $lib/libtssession_preload.so ]] || wrong "libtssession_preload.so is missing"
  same "openssl with the preload library" "$(LD_PRELOAD=$lib/libtssession_preload.so openssl version 2>&1)" "$(openssl version)"
  ;;
*) echo "no libtssession_preload.so: it is for x86_64 and aarch64" ;;
esac

[[ -s $DESTDIR$DOCDIR/tssession/tssession.rules.yml ]] || wrong "the alert rules are missing"
# The program and its manual page.
doctor=$DESTDIR$BINDIR/tssession-doctor
same "the version of $doctor" "$("$doctor" --version)" "tssession-doctor $VERSION"
[[ -s $DESTDIR$MANDIR/man1/tssession-doctor.1 ]] || wrong "the manual page tssession-doctor.1 is missing"

# What pkg-config prints: first the version and directories, then the flags for the staged copy.
export PKG_CONFIG_PATH=$lib/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
for package in tssession tssession-farm; do
  same "the version of $package" "$(pkg-config --modversion "$package")" "$VERSION"
done
# The directories as installed, and as they would be after a move.
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
read -ra farm_cflags < <(pkg-config --cflags tssession-farm)
read -ra farm_libs < <(pkg-config --libs tssession-farm)
unset PKG_CONFIG_SYSROOT_DIR

# loads PROGRAM FILE...: of our libraries, PROGRAM loads exactly these.
loads() {
  local loaded
  loaded=$(LD_LIBRARY_PATH=$lib ldd "$1" | sed -n 's/.*libtssession.* => \([^ ]*\) .*/\1/p' | LC_ALL=C sort)
  same "what $1 loads" "$loaded" "$(printf '%s\n' "${@:2}")"
}

# The settings of the example, with a separate Redis if one is installed. No other process uses its
# address: process IDs are below 2^22.
server=127.0.0.1:1
if command -v redis-server >/dev/null; then
  address=127.$(($$ >> 16)).$(($$ >> 8 & 255)).$(($$ & 255))
  redis-server --bind "$address" --port 6379 --save '' --appendonly no --dir "$work" >"$work/redis.log" 2>&1 &
  redis=$!
  server=$address:6379
  until (exec 3<>"/dev/tcp/$address/6379") 2>/dev/null; do
    kill -0 "$redis" 2>/dev/null || wrong "redis-server ended: $(<"$work/redis.log")"
    sleep 0.1
  done
fi
sed "s|redis://127.0.0.1:6379|redis://$server|" "$DESTDIR$DOCDIR/tssession/farm.example.toml" \
  >"$work/farm.toml"
for secret in new old; do
  (umask 077 && head -c 32 /dev/urandom >"$work/secret-$secret")
done

# runs WITH HOST PLUGIN MEMBER: checks that real clients resume, and that the farm member finds Redis.
runs() {
  local redis_up=1
  loads "$3" "$lib/$soname"
  loads "$4" "$lib/$soname" "$lib/$farm_soname"
  [[ -n $redis ]] || redis_up=0
  LD_LIBRARY_PATH=$lib "$4" "$work/farm.toml" >"$work/log" 2>&1 || {
    cat "$work/log" >&2
    wrong "the farm member built with $1 does not work"
  }
  grep -qx "plugin_tssession_farm_redis_up $redis_up" "$work/log" ||
    wrong "redis_up is not $redis_up: $(<"$work/log")"
  LD_LIBRARY_PATH=$lib examples/demo.sh "$2" "$3" >"$work/log" 2>&1 || {
    cat "$work/log" >&2
    wrong "the examples built with $1 do not work"
  }
  echo "installcheck: with the examples built by $1, clients resume and the farm member starts"
}

warnings=(-std=c11 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Werror)
$CC "${warnings[@]}" "${cflags[@]}" -o "$work/host" examples/host.c -lssl -lcrypto -ldl
$CC "${warnings[@]}" "${cflags[@]}" -fPIC -shared -o "$work/plugin.so" examples/plugin.c \
  "${libs[@]}" -lssl -lcrypto
$CC "${warnings[@]}" "${farm_cflags[@]}" -o "$work/farm_member" examples/farm_member.c \
  "${farm_libs[@]}" -lssl -lcrypto
runs pkg-config "$work/host" "$work/plugin.so" "$work/farm_member"

if ! command -v cmake >/dev/null; then
  echo "installcheck: skipped: CMake is not installed, its package was not checked"
  exit
fi
case $LIBDIR in
"$PREFIX/lib" | "$PREFIX/lib/$($CC -dumpmachine)") where=(-DCMAKE_PREFIX_PATH="$DESTDIR$PREFIX") ;;
# CMake does not search other directories by itself.
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
runs CMake "$work/cmake/host" "$work/cmake/plugin.so" "$work/cmake/farm_member"
