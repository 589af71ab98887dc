#!/usr/bin/env bash
# Builds the fuzz targets and runs them one after the other.
#
#   fuzz.sh smoke|long SECONDS TARGET...
#
# smoke starts from the committed seeds, long also from what earlier long runs found. With 0 seconds
# only the seeds are run, as in the gate, whose result must not depend on chance. An input that makes a
# target fail is named, and kept in target/fuzz/TARGET/ beside the log.
#
# A stable Rust is enough: libFuzzer comes with the crate libfuzzer-sys, and AddressSanitizer with the
# toolchain. RUSTC_BOOTSTRAP allows its unstable flag.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."

kind=$1
seconds=$2
shift 2

host=$(rustc -vV | sed -n 's/^host: //p')
flags="-Zsanitizer=address -Cpasses=sancov-module -Ccodegen-units=1 -Cforce-frame-pointers"
for flag in level=4 inline-8bit-counters pc-table trace-compares; do
  flags+=" -Cllvm-args=-sanitizer-coverage-$flag"
done
# --target keeps these flags away from build scripts.
RUSTC_BOOTSTRAP=1 RUSTFLAGS="$flags" "${CARGO:-cargo}" build --release --locked \
  --manifest-path fuzz/Cargo.toml --target "$host" --target-dir target/fuzz/build \
  "${@/#/--bin=}"

TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

limit=(-max_total_time="$seconds")
if ((seconds == 0)); then
  limit=(-runs=0)
fi

for target in "$@"; do
  dir=$PWD/target/fuzz/$target
  if [ "$kind" = smoke ]; then
    rm -rf "${dir:?}/smoke"
  fi
  mkdir -p "$dir/$kind"
  program=target/fuzz/build/$host/release/$target
  echo "fuzz: $target, $seconds seconds"
  # libFuzzer writes new inputs to the first directory only.
  if ! "$program" "${limit[@]}" -timeout=20 -max_len=4096 -dict="fuzz/dict/$target" \
    -print_final_stats=1 -artifact_prefix="$dir/" "$dir/$kind" "fuzz/seeds/$target" >"$dir/$kind.log" 2>&1; then
    sed -n '/panicked at\|ERROR: /,$p' "$dir/$kind.log" | sed -n 1,40p
    artifact=$(sed -n 's/.*Test unit written to //p' "$dir/$kind.log")
    echo "fuzz: $target failed: $program $artifact"
    exit 1
  fi
  grep -E '^#[0-9]+.*DONE|^stat::(number_of_executed_units|average_exec_per_sec|peak_rss_mb)' "$dir/$kind.log"
done
