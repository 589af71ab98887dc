#!/usr/bin/env bash
# Builds the fuzz targets and runs them one after the other: fuzz.sh smoke|long SECONDS TARGET...
#
# smoke starts from the committed seeds, long also from what earlier long runs have found. With 0
# seconds the seeds are run and nothing else: what the gate does, which chance must not fail. What makes
# a target fail is named, and left in target/fuzz/TARGET/ beside the log.
#
# Any Rust will do: libFuzzer comes with the crate libfuzzer-sys, and AddressSanitizer with
# the toolchain, which has to be told that its flag, not stable yet, is meant.
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
# With a --target, build scripts are built without these flags.
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
  # What is new goes into the first folder only.
  if ! "$program" "${limit[@]}" -timeout=20 -max_len=4096 -dict="fuzz/dict/$target" \
    -print_final_stats=1 -artifact_prefix="$dir/" "$dir/$kind" "fuzz/seeds/$target" >"$dir/$kind.log" 2>&1; then
    sed -n '/panicked at\|ERROR: /,$p' "$dir/$kind.log" | sed -n 1,40p
    artifact=$(sed -n 's/.*Test unit written to //p' "$dir/$kind.log")
    echo "fuzz: $target failed: $program $artifact"
    exit 1
  fi
  grep -E '^#[0-9]+.*DONE|^stat::(number_of_executed_units|average_exec_per_sec|peak_rss_mb)' "$dir/$kind.log"
done
