# SPDX-License-Identifier: Apache-2.0

##@ Prometheus

rules = packaging/prometheus/tssession.rules.yml

prometheus-test: deps-prometheus  ## check the alert rules, and that each alert fires when it should
	@if command -v promtool >/dev/null; then \
	  promtool check rules $(rules) && promtool test rules $(rules:.rules.yml=.test.yml); \
	else \
	  echo 'make prometheus-test: skipped: promtool is not installed'; \
	fi

prometheus-demo: deps-prometheus-demo $(libraries)  ## show a real Prometheus that watches ATS
	tools/prometheus-demo.sh $(abspath target/prometheus $(libraries) farm/tests/ats.toml)
