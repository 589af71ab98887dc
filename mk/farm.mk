# SPDX-License-Identifier: Apache-2.0

##@ The farm, with a real Redis

farm = target/farm

$(farm)/lib/libtssession_farm.so: $(release)/libtssession_farm.so $(lib)/libtssession.so
	mkdir -p $(farm)/lib
	ln -sf $(abspath $(release)/libtssession.so) $(farm)/lib/libtssession.so.$(SOVERSION)
	ln -sf $(abspath $<) $(farm)/lib/libtssession_farm.so.$(FARM_SOVERSION)
	ln -sf libtssession_farm.so.$(FARM_SOVERSION) $@

# -rdynamic: programs that measure define functions, and the farm finds these before the host's.
$(farm)/%: farm/lab/%.c farm/lab/lab.h c_tests/tls.c c_tests/tls.h c_tests/check.h $(farm)/lib/libtssession_farm.so | deps-farm
	$(CC) $(CFLAGS) $(WARNINGS) -Iinclude -Ic_tests -rdynamic -o $@ $< c_tests/tls.c -L$(farm)/lib -ltssession_farm \
	  -L$(lib) -ltssession -lssl -lcrypto -ldl -lm -pthread

$(farm)/clock.so: farm/lab/clock.c c_tests/clock_calls.h
	mkdir -p $(farm)
	$(CC) $(CFLAGS) $(WARNINGS) -fPIC -shared -o $@ $<

in_lab = LD_LIBRARY_PATH=$(abspath $(farm)/lib) MEMBER=$(abspath $(farm)/member) CLOCK=$(abspath $(farm)/clock.so) \
  PYTHONDONTWRITEBYTECODE=1 python3

farm-demo: $(farm)/member  ## show three hosts share sessions and keys, with and without faults
	$(in_lab) farm/lab/demo.py

farm-demo-ats: deps-farm-ats $(libraries) $(program)  ## show what resumes at two ATS servers in a farm
	mkdir -p $(farm)
	tools/farm-ats.sh $(abspath $(farm)/ats $(release)/libtssession_farm.so farm/tests/ats.toml $(release)/libtssession.so $(program))

farm-test: $(farm)/member $(farm)/clock.so  ## test the farm with a real Redis, Sentinels and a Cluster, faults and attacks
	$(in_lab) farm/lab/run.py

farm-figures: deps-test $(farm)/hook $(farm)/spread  ## measure members, Redis, handshakes, and how fast sessions spread
	$(CARGO) test --release --locked -q -p tssession-farm --test figures -- --ignored --nocapture --test-threads 1
	mkdir -p $(bench)
	HOOK=$(abspath $(farm)/hook) SPREAD=$(abspath $(farm)/spread) $(in_lab) farm/lab/figures.py $(bench)/farm.jsonl
	$(report) $(bench) <$(bench)/farm.jsonl
