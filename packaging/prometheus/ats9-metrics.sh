#!/bin/sh
# Writes the counters of tssession in a Traffic Server 9, which shows them as JSON and CSV only, as a
# file for the textfile collector of Prometheus's node exporter. docs/guide/alerts.md has the units of
# systemd that call it.
#
#   ats9-metrics.sh http://127.0.0.1:8080/_stats /var/lib/prometheus/node-exporter/tssession.prom
#
# SPDX-License-Identifier: Apache-2.0
set -eu

# Without an answer the file is empty: old numbers would look like a server that runs.
curl -sSf --max-time 5 -H 'Accept: text/csv' "$1" |
  sed -n '/^plugin\.tssession\|^proxy\.process\.ssl\.total_ticket/ { s/,/ /; s/\./_/g; p }' >"$2.new"
mv "$2.new" "$2"
