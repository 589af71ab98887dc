# SPDX-License-Identifier: Apache-2.0

##@ Unmodified servers: nginx, HAProxy, Apache and stunnel (as root)

hosts = target/hosts

# The preloaded library finds the others beside it, under the names that the loader looks for.
$(hosts)/lib/libtssession_preload.so: $(preload) $(libraries)
	mkdir -p $(hosts)/lib
	ln -sf $(abspath $(release)/libtssession.so) $(hosts)/lib/libtssession.so.$(SOVERSION)
	ln -sf $(abspath $(release)/libtssession_farm.so) $(hosts)/lib/libtssession_farm.so.$(FARM_SOVERSION)
	ln -sf $(abspath $<) $@

in_hosts = PYTHONDONTWRITEBYTECODE=1 python3
hosts_lib = $(abspath $(hosts)/lib)

hosts-test: deps-hosts $(hosts)/lib/libtssession_preload.so  ## show where clients resume: as they are, preloaded, with the farm
	$(in_hosts) tools/hosts-test.py $(abspath $(hosts)/test) $(hosts_lib) $(HOST)

hosts-soak: deps-hosts $(hosts)/lib/libtssession_preload.so $(ats)/client  ## make 20 000 handshakes with each while it reloads
	$(in_hosts) tools/hosts-soak.py $(abspath $(hosts)/soak) $(hosts_lib) $(abspath $(ats)/client) 20000 30 $(HOST)

hosts-valgrind: deps-hosts $(hosts)/lib/libtssession_preload.so $(ats)/client  ## start, visit, reload and stop nginx in valgrind
	$(in_hosts) tools/hosts-soak.py --valgrind $(abspath $(hosts)/valgrind) $(hosts_lib) $(abspath $(ats)/client) 300 30 nginx

hosts-tlsfuzzer: deps-hosts $(hosts)/lib/libtssession_preload.so  ## compare tlsfuzzer's verdicts with and without the library (TLSFUZZER=its clone)
	tools/hosts-tlsfuzzer.sh $(abspath $(hosts)/tlsfuzzer) $(hosts_lib) $(or $(TLSFUZZER),$(error TLSFUZZER must be a directory))

bench-hosts: deps-hosts deps-test $(hosts)/lib/libtssession_preload.so $(ats)/client  ## measure resumed connections of nginx and HAProxy
	$(in_hosts) tools/bench-hosts.py $(abspath $(hosts)/bench) $(hosts_lib) instructions 1000
	$(in_hosts) tools/bench-hosts.py $(abspath $(hosts)/bench) $(hosts_lib) $(abspath $(ats)/client) 61 1000
