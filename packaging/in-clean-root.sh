#!/usr/bin/env bash
# Tests the Debian packages. deb-test.sh runs it in a clean Debian, where /test holds the packages and
# the examples.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd /test
export DEBIAN_FRONTEND=noninteractive

wrong() {
  echo "deb-test: $*" >&2
  exit 1
}

quietly() {
  "$@" >log 2>&1 || {
    cat log >&2
    wrong "failed: $*"
  }
}

# Lists every file, without those of apt, dpkg and this test.
everything() {
  find / -xdev \( -path /var -o -path /tmp -o -path /test \) -prune -o -print | LC_ALL=C sort
}

quietly apt-get update
everything >before

echo "deb-test: install the packages with their dependencies"
quietly apt-get install -y --no-install-recommends ./*.deb
arch=$(gcc -print-multiarch)
for library in tssession tssession_farm; do
  nm -D --defined-only "/usr/lib/$arch/lib$library.so.0" | sed -n 's/.* \(TSSsl.*\)/\1/p' >names
  [[ -s names ]] || wrong "lib$library has no functions"
  for name in $library $(<names); do
    gzip -t "/usr/share/man/man3/$name.3.gz"
  done
done

[[ $(LD_PRELOAD=libtssession_preload.so openssl version 2>&1) == "$(openssl version)" ]] ||
  wrong "a program does not run with libtssession_preload.so"
tssession-doctor --version >log || wrong "tssession-doctor does not run"
gzip -t /usr/share/man/man1/tssession-doctor.1.gz

if apt-cache show trafficserver-dev >/dev/null 2>&1; then
  echo "deb-test: install beside trafficserver-dev"
  quietly apt-get download trafficserver-dev
  # dpkg refuses to unpack a package that contains another package's file.
  quietly dpkg --force-depends --unpack trafficserver-dev_*.deb
  [[ -e /usr/include/ts/ts.h ]] || wrong "trafficserver-dev has no ts/ts.h"
else
  echo "deb-test: skipped: install beside trafficserver-dev, which this Debian does not have"
fi

echo "deb-test: build the examples"
read -ra cflags < <(pkg-config --cflags tssession)
read -ra libs < <(pkg-config --libs tssession)
warnings=(-std=c11 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Werror)
cc "${warnings[@]}" "${cflags[@]}" -o host examples/host.c -lssl -lcrypto -ldl
cc "${warnings[@]}" "${cflags[@]}" -fPIC -shared -o plugin.so examples/plugin.c "${libs[@]}" -lssl -lcrypto
read -ra cflags < <(pkg-config --cflags tssession-farm)
read -ra libs < <(pkg-config --libs tssession-farm)
cc "${warnings[@]}" "${cflags[@]}" -o farm_member examples/farm_member.c "${libs[@]}" -lssl -lcrypto
[[ ! -e /usr/include/ts/ts.h ]] || quietly dpkg --purge trafficserver-dev

echo "deb-test: run a farm member without libtssession-dev"
quietly apt-get purge -y libtssession-dev
# Without Redis the member logs that, and continues alone.
sed 's|redis://127.0.0.1:6379|redis://127.0.0.1:1|' /usr/share/doc/libtssession-farm0/examples/farm.example.toml >farm.toml
(umask 077 && head -c 32 /dev/urandom >secret-new && head -c 32 /dev/urandom >secret-old)
./farm_member farm.toml >counters 2>log || wrong "farm_member: $(<log)"
grep -qx 'plugin_tssession_farm_redis_up 0' counters || wrong "counters: $(<counters)"
grep -q 'no connection with Redis' log || wrong "farm_member: $(<log)"

echo "deb-test: run the others with libtssession0 alone"
quietly apt-get purge -y libtssession-farm0
examples/demo.sh ./host ./plugin.so

echo "deb-test: purge"
quietly apt-get purge -y --auto-remove libtssession0 tssession-tools
everything >after
left=$(LC_ALL=C comm -13 before after)
[[ -z $left ]] || wrong "left behind: $left"
echo "deb-test: passed"
