#!/usr/bin/env bash
# Shows a real Prometheus that watches a real traffic_server 9 with the library and the farm: clients
# are resumed and counted, then Redis is stopped, and an alert fires.
#
#   prometheus-demo.sh DIRECTORY LIBRARY FARM SETTINGS
#
# DIRECTORY is deleted and made again. SETTINGS is the farm's file, as for farm-ats.sh. The exit status
# is 0 if Prometheus saw every step.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

folder=$1
library=$2
farm=$3
settings=$4
packaging=${0%/*}/../packaging/prometheus
# shellcheck source=tools/ats_lib.sh
source "${0%/*}/ats_lib.sh"

server=$(ats_address 0)
prometheus=$(ats_address 1)

# Prints the current result: names with labels, and values.
query() { # EXPRESSION
  promtool query instant "http://$prometheus:9090" "$1" | sed 's/ @\[.*//'
}

is_so() { # EXPRESSION
  [[ -n $(query "$1") ]]
}

# Waits until there is a result, and prints it.
shows() { # EXPRESSION
  until_true "$prometheus_process" is_so "$1"
  query "$1" | sed 's/^/  /'
}

collect() {
  while sleep 1; do
    "$packaging/ats9-metrics.sh" "http://$server:8080/_stats" "$folder/text/tssession.prom" || true
  done
}

rm -rf "$folder"
mkdir -p "$folder"/{text,prometheus}
certificate one.example
certificate two.example
(umask 077 && head -c 32 /dev/urandom >"$folder/secret")
sed "s|@REDIS@|redis://$server:6379|; s|@SECRET@|$folder/secret|" "$settings" >"$folder/farm.toml"
# The shipped rules, but one alert fires after 2 s.
sed '/alert: TssessionFarmRedisAway/,/for:/s/for: .*/for: 2s/' "$packaging/tssession.rules.yml" >"$folder/tssession.rules.yml"
cat >"$folder/prometheus.yml" <<EOF
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [tssession.rules.yml]
scrape_configs:
- job_name: node
  static_configs: [{targets: ['$prometheus:9100']}]
EOF

redis-server --bind "$server" --port 6379 --save '' --appendonly no --dir "$folder" >"$folder/redis.log" 2>&1 &
redis=$!
started+=("$redis")
until_true "$redis" redis-cli -h "$server" ping >/dev/null
ats_make ats 0 <<<'CONFIG proxy.config.ssl.session_cache INT 0'
ats_start ats "$library" "$farm $folder/farm.toml"
collect 2>"$folder/collect.log" &
started+=($!)
prometheus-node-exporter --collector.disable-defaults --collector.textfile \
  --collector.textfile.directory="$folder/text" --web.listen-address="$prometheus:9100" >"$folder/exporter.log" 2>&1 &
started+=($!)
prometheus --config.file="$folder/prometheus.yml" --storage.tsdb.path="$folder/prometheus" \
  --web.listen-address="$prometheus:9090" >"$folder/prometheus.log" 2>&1 &
prometheus_process=$!
started+=("$prometheus_process")

echo 'counters that Prometheus gets from Traffic Server through the node exporter:'
shows 'plugin_tssession_contexts > 0'
shows 'plugin_tssession_farm_redis_up == 1'
shows 'plugin_tssession_farm_leader == 1'
shows 'tssession:misses == 0'

[[ $(visit "$server" -tls1_2 -no_ticket -sess_out "$folder/session") == New ]] || fail 'the first visit was not answered'
for _ in {1..100}; do
  [[ $(visit "$server" -tls1_2 -no_ticket -sess_in "$folder/session") == Reused ]] || fail 'a client was not resumed'
done
echo 'a client made a session and resumed it a hundred times:'
shows 'tssession:entries == 1'
shows 'tssession:hits == 100'
shows 'tssession:hits:ratio10m'
echo 'alerts:'
query ALERTS

kill "$redis"
echo 'Redis is stopped:'
shows 'plugin_tssession_farm_redis_up == 0'
shows 'ALERTS{alertname="TssessionFarmRedisAway", alertstate="firing"}'
