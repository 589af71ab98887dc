#!/usr/bin/env bash
# Runs the conformance program with this library, and as a plugin inside ATS, and prints the rows that
# differ. Fails if docs/design/differences-from-ats.md lists other differences, or other values.
#
#   compare-ats.sh DIRECTORY PROGRAM PLUGIN
#
# libtssession.so.0 must be in LD_LIBRARY_PATH.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

folder=$1 program=$2 plugin=$3
root=$(dirname "$0")/..
document=docs/design/differences-from-ats.md
ours=$folder/here.txt
theirs=$folder/ats.txt

fail() {
  echo "compare-ats: $*" >&2
  exit 1
}

rm -f "$ours" "$theirs" "$folder/here.log"
for cache in 2 0; do
  export PROXY_CONFIG_SSL_SESSION_CACHE=$cache
  "$program" "$ours" 2>>"$folder/here.log"
  timeout 60 "$root/tools/ats.sh" "$folder/server" "$plugin" "$theirs"
done

# No row may be missing, here or in ATS.
diff -u "$root/c_tests/conformance.expected" "$ours" >&2 || fail "the library does not do what c_tests/conformance.expected says"
diff -u <(cut -d: -f1 "$ours") <(cut -d: -f1 "$theirs") >&2 || fail "ATS does not have the same rows"

declare -A said_theirs said_ours
while read -r line; do
  if [[ $line =~ ^\|\ \`([a-z0-9_]+)\`\ \|\ ([^|]+)\ \|\ ([^|]+)\ \|\ [^|]+\ \|$ ]]; then
    row=${BASH_REMATCH[1]}
    [[ ! -v said_ours[$row] ]] || fail "$document has $row twice"
    said_theirs[$row]=${BASH_REMATCH[2]}
    said_ours[$row]=${BASH_REMATCH[3]}
  fi
done <"$root/$document"

rows=0 differ=0 wrong=0
while IFS=$'\t' read -r here there; do
  row=${here%%: *} here=${here#*: } there=${there#*: } mark=
  rows=$((rows + 1))
  if [[ $here == "$there" ]]; then
    [[ ! -v said_ours[$row] ]] || mark="$document says that it differs"
  elif [[ ! -v said_ours[$row] ]]; then
    mark="$document does not list it"
  elif [[ ${said_theirs[$row]} != "$there" || ${said_ours[$row]} != "$here" ]]; then
    mark="$document says: ATS 9.2: ${said_theirs[$row]}, here: ${said_ours[$row]}"
  fi
  unset "said_ours[$row]"
  if [[ $here != "$there" ]]; then
    differ=$((differ + 1))
    printf '%s\n  ATS 9.2  %s\n  here     %s\n' "$row" "$there" "$here"
  fi
  if [[ -n $mark ]]; then
    wrong=$((wrong + 1))
    printf 'WRONG: %s: %s\n' "$row" "$mark"
  fi
done < <(paste "$ours" "$theirs")
((${#said_ours[@]} == 0)) || fail "$document lists rows that do not exist: ${!said_ours[*]}"
((wrong == 0)) || fail "$wrong of $rows rows disagree with $document"
echo "$differ of $rows rows differ, each for a reason in $document"
