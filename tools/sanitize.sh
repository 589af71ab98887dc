#!/usr/bin/env bash
# Builds the library and the C tests with a sanitizer, and runs these tests.
#
#   sanitize.sh address|thread ARGUMENT...
#
# The ARGUMENTs are those of the test program (tests/c_programs.rs).
#
# As in fuzz.sh, a stable Rust is enough. A shared library uses the sanitizer runtime of the program
# that loads it. So each C program is linked with Rust's runtime, which also serves the code of clang,
# UndefinedBehaviorSanitizer included.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."

kind=$1
shift

host=$(rustc -vV | sed -n 's/^host: //p')
libraries=$(rustc --print target-libdir)
target_dir=$PWD/target/sanitizers/$kind
build=(build --lib --locked --profile checked --target "$host" --target-dir "$target_dir")
case $kind in
address)
  checks=address,undefined
  runtime=$libraries/librustc-stable_rt.asan.a
  ;;
thread)
  checks=thread
  runtime=$libraries/librustc-stable_rt.tsan.a
  # Rebuild the standard library too. Otherwise ThreadSanitizer does not see the order that its locks
  # make. ThreadSanitizer does not understand fences either: in its builds Arc uses none.
  build+=("-Zbuild-std=std,panic_unwind")
  ;;
esac

# --target keeps these flags away from build scripts.
RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=$kind -Cforce-frame-pointers" "${CARGO:-cargo}" "${build[@]}"

export CC=clang CXX=clang++
export CFLAGS="-fsanitize=$checks -fno-sanitize-recover=all -fno-omit-frame-pointer"
export CXXFLAGS=$CFLAGS
export LDFLAGS="-Wl,--whole-archive,$runtime,--no-whole-archive,--export-dynamic -lm -lresolv"
export TSSESSION_LIB=$target_dir/$host/checked/libtssession.so
export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1
export UBSAN_OPTIONS=print_stacktrace=1
export CHECK_SCALE=${CHECK_SCALE:-20}
"${CARGO:-cargo}" test --locked --test c_programs -- "$@"
