#!/bin/sh
# Writes the counters of libtssession in Traffic Server 9 to a file for the textfile collector of
# Prometheus's node exporter: this server prints them only as JSON and CSV. docs/guide/alerts.md has the
# systemd units that run this script.
#
#   ats9-metrics.sh http://127.0.0.1:8080/_stats /var/lib/prometheus/node-exporter/tssession.prom
#
# SPDX-License-Identifier: Apache-2.0
set -eu

# If the server does not answer, the file becomes empty: old numbers would look like a running server.
curl -sSf --max-time 5 -H 'Accept: text/csv' "$1" |
  sed -n '/^plugin\.tssession\|^proxy\.process\.ssl\.total_ticket/ { s/,/ /; s/\./_/g; p }' >"$2.new"
mv "$2.new" "$2"
