#!/usr/bin/env bash
# Runs tlsfuzzer's scripts about resumption, tickets and PSK against `openssl s_server`, as it is and
# with the library preloaded, and compares the verdicts.
#
#   hosts-tlsfuzzer.sh FOLDER LIBRARIES TLSFUZZER
#
# FOLDER is a directory for this script, which keeps a Python environment in it. TLSFUZZER is a clone
# of https://github.com/tlsfuzzer/tlsfuzzer.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

folder=$1
libraries=$2
tlsfuzzer=$3
scripts=(
  test-extended-master-secret-extension test-invalid-server-name-extension-resumption test-invalid-session-id
  test-resumption-with-wrong-ciphers test-session-ticket-resumption test-sessionID-resumption
  test-sig-algs-renegotiation-resumption test-tls13-0rtt-garbage test-tls13-count-tickets test-tls13-psk_dhe_ke
  test-tls13-psk_ke test-tls13-session-resumption
)

mkdir -p "$folder"
if [[ ! -e $folder/venv/complete ]]; then
  python3 -m venv --clear "$folder/venv"
  "$folder/venv/bin/pip" install -q --disable-pip-version-check -r "$tlsfuzzer/requirements.txt"
  touch "$folder/venv/complete"
fi
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout "$folder/key.pem" \
  -out "$folder/certificate.pem" 2>/dev/null

server=
end() {
  [[ -z $server ]] || kill "$server" 2>/dev/null || true
}
trap end EXIT

# Prints the verdicts of all scripts, one per line: SCRIPT: CONVERSATION VERDICT.
verdicts() { # NAME VARIABLE=VALUE...
  local name=$1 script port
  shift
  # A port below those that clients get, so that none of them has it.
  port=$((20000 + $$ % 10000))
  for script in "${scripts[@]}"; do
    env "$@" openssl s_server -accept "127.0.0.1:$port" -key "$folder/key.pem" -cert "$folder/certificate.pem" -www \
      -cipher ALL:@SECLEVEL=0 -psk aa -psk_identity test >>"$folder/$name.server" 2>&1 &
    server=$!
    until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
      kill -0 "$server" || exit 1
      sleep 0.05
    done
    (cd "$tlsfuzzer" && PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=. timeout 300 "$folder/venv/bin/python" "scripts/$script.py" \
      -h 127.0.0.1 -p "$port") >"$folder/$name.$script" 2>&1 || true
    kill "$server"
    wait "$server" 2>/dev/null || true
    server=
    # "NAME ..." begins a conversation. OK ends it if it succeeds.
    awk -v script="$script" '
      function tell(verdict) { if (name != "") print script ": " name " " verdict; name = "" }
      / \.\.\.$/ { tell("FAILED"); name = $0 }
      /^OK$/ { tell("OK") }
      /^Test end$/ { tell("FAILED") }
    ' "$folder/$name.$script" | sort
  done
}

rm -f "$folder"/*.server
verdicts plain A=A >"$folder/plain"
verdicts preloaded LD_PRELOAD="$libraries/libtssession_preload.so" >"$folder/preloaded"
if grep -m 1 tssession "$folder/preloaded.server"; then
  echo "hosts-tlsfuzzer: the library has something to say" >&2
  exit 1
fi
[[ -s $folder/plain ]] || exit 1
diff "$folder/plain" "$folder/preloaded"
echo "the same $(wc -l <"$folder/plain") verdicts of ${#scripts[@]} scripts, $(grep -c ' OK$' "$folder/plain") of them OK"
