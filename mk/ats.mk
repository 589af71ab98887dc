# SPDX-License-Identifier: Apache-2.0

##@ In the real traffic_server

ats = target/ats
conformance = c_tests/conformance.c c_tests/tls.c
ats_plugin = $(abspath $(release)/libtssession.so $(ats)/client)

$(ats)/conformance: $(conformance) c_tests/check.h c_tests/tls.h $(lib)/libtssession.so
	mkdir -p $(ats)
	$(CC) $(CFLAGS) $(WARNINGS) -Iinclude -o $@ $(conformance) -L$(lib) -ltssession -lssl -lcrypto

# The next two are compiled with the header of ATS.
$(ats)/conformance.so: $(conformance) c_tests/check.h c_tests/tls.h | deps-ats
	mkdir -p $(ats)
	$(CC) $(CFLAGS) $(WARNINGS) -DATS_PLUGIN -fPIC -shared -o $@ $(conformance) -lssl -lcrypto

$(ats)/ats_dlopen.so: examples/ats_dlopen.c | deps-ats
	mkdir -p $(ats)
	$(CC) $(CFLAGS) $(WARNINGS) -fPIC -shared -o $@ $< -lssl -lcrypto -ldl

$(ats)/client: bench/ats_client.c c_tests/check.h
	mkdir -p $(ats)
	$(CC) $(CFLAGS) $(WARNINGS) -o $@ $< -lssl -lcrypto -pthread

compare-ats: ats-dlopen $(ats)/conformance $(ats)/conformance.so  ## run each conformance case in ATS and here, and show what differs
	LD_LIBRARY_PATH=$(lib) tools/compare-ats.sh $(abspath $(ats) $(ats)/conformance $(ats)/conformance.so)

ats-dlopen: $(ats)/ats_dlopen.so $(release)/libtssession.so  ## load the library into ATS, beside its own functions
	PROXY_CONFIG_DIAGS_DEBUG_ENABLED=1 PROXY_CONFIG_DIAGS_DEBUG_TAGS=ssl.session_cache tools/ats.sh \
	  $(abspath $(ats)/server $(ats)/ats_dlopen.so $(release)/libtssession.so $(ats)/dlopen.txt) 2>$(ats)/dlopen.log
	cat $(ats)/dlopen.txt
	tail -n 1 $(ats)/dlopen.txt | grep -qx passed
	grep 'ERROR: tssession: TSSslSessionGet: the session ID is NULL' $(ats)/server/log/diags.log
	grep '(ssl.session_cache.insert) .*: stored, ' $(ats)/server/log/stdout

ats-demo: deps-ats $(release)/libtssession.so $(ats)/client  ## show what resumes with the plugin, and with the cache of ATS
	tools/ats-demo.sh $(abspath $(ats)/demo) $(ats_plugin)

$(ats)/log_resumed.so: examples/log_resumed.c | deps-ats
	mkdir -p $(ats)
	$(CC) $(CFLAGS) $(WARNINGS) -Wno-pedantic -fPIC -shared -o $@ $< -lssl

ats-test: ats-demo $(ats)/log_resumed.so  ## run ats-demo, and check lines of plugin.config and orders of traffic_ctl
	tools/ats-test.sh $(abspath $(ats)/test $(release)/libtssession.so $(ats)/log_resumed.so)

ats-soak: deps-ats $(release)/libtssession.so $(ats)/client  ## make 20 000 handshakes while ATS reloads certificates
	tools/ats-soak.sh $(abspath $(ats)/soak) $(ats_plugin) 20000 60

ats-valgrind: deps-ats-valgrind $(release)/libtssession.so $(ats)/client  ## run ATS with the plugin in valgrind
	tools/ats-valgrind.sh $(abspath $(ats)/valgrind) $(ats_plugin)
