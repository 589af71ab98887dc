#!/usr/bin/env bash
# Runs the conformance program with this library and, as a plugin, inside ATS, and shows the
# rows that differ. Fails where a row differs and docs/design/differences-from-ats.md does not say
# so, or says something else, or says so of a row that does not differ.
#
#   compare-ats.sh FOLDER PROGRAM PLUGIN     (LD_LIBRARY_PATH finds libtssession.so.0)
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

# That no row is missing: first here, then there.
diff -u "$root/c_tests/conformance.expected" "$ours" >&2 || fail "not what the library should do"
diff -u <(cut -d: -f1 "$ours") <(cut -d: -f1 "$theirs") >&2 || fail "not the same rows in ATS"

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
    mark="$document does not explain it"
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
((${#said_ours[@]} == 0)) || fail "$document explains rows that there are not: ${!said_ours[*]}"
((wrong == 0)) || fail "$wrong of $rows rows are not as $document says"
echo "$differ of $rows rows differ, each for a reason in $document"
