# SPDX-License-Identifier: Apache-2.0

##@ Measurements

# Measurements are passed in a file: a pipe would hide a failed check.
report = $(CARGO) run --release --locked -q -p tssession-bench --bin report --
measure = bench/measure.c c_tests/tls.c

$(bench)/calls: bench/calls.c bench/measure.h $(measure)
	mkdir -p $(bench)
	$(CC) $(CFLAGS) $(WARNINGS) -o $@ $< $(measure) -lssl -lcrypto -ldl -lm -pthread

$(bench)/plain.so: bench/plain.cc
	mkdir -p $(bench)
	$(CXX) $(CFLAGS) -std=c++17 -Wall -Wextra -Wpedantic -Werror -fPIC -shared -o $@ $< -lssl -lcrypto

# Compiled with the header of ATS.
$(bench)/ats_plugin.so: bench/ats_plugin.c bench/measure.h $(measure)
	mkdir -p $(bench)
	$(CC) $(CFLAGS) $(WARNINGS) -fPIC -shared -o $@ $< $(measure) -lssl -lcrypto -lm

$(bench)/handshake: bench/handshake.c c_tests/check.h
	mkdir -p $(bench)
	$(CC) $(CFLAGS) $(WARNINGS) -Iinclude -o $@ $< -lssl -lcrypto -ldl -pthread

bench: deps-demo $(bench)/calls $(bench)/plain.so $(release)/libtssession.so  ## measure the functions, and a plain map beside them
	rm -f $(bench)/calls.jsonl
	$(bench)/calls $(bench)/calls.jsonl tssession=$(release)/libtssession.so plain=$(bench)/plain.so
	$(report) $(bench) <$(bench)/calls.jsonl

bench-ats: deps-ats $(bench)/ats_plugin.so $(release)/libtssession.so  ## measure them in ATS, beside its own functions
	rm -f $(bench)/ats.jsonl
	tools/ats.sh $(abspath $(bench)/ats $(bench)/ats_plugin.so $(bench)/ats.jsonl $(release)/libtssession.so)
	$(report) $(bench) <$(bench)/ats.jsonl

bench-ats-tls: deps-ats $(release)/libtssession.so $(ats)/client  ## measure connections that resume in ATS
	mkdir -p $(bench)
	tools/bench-ats-tls.sh $(abspath $(bench)/ats-tls $(ats)/client $(bench)/ats-tls.jsonl) 15 3000 \
	  tssession=$(abspath $(release)/libtssession.so) ats=
	$(report) $(bench) <$(bench)/ats-tls.jsonl

bench-handshake: deps-demo $(bench)/handshake $(lib)/libtssession.so  ## measure the cost of a resumed handshake for a server
	LD_LIBRARY_PATH=$(lib) $(bench)/handshake >$(bench)/handshake.jsonl
	$(report) $(bench) <$(bench)/handshake.jsonl

# The verdict is printed last, where it is seen. Recorded traces are in the directory TRACES, if it is
# set; bench/src/recorded.rs says where they are published.
hitrate: deps-demo  ## replay traces of clients in this cache and others; recorded ones too with TRACES=dir
	mkdir -p $(bench)
	$(CARGO) run --release --locked -p tssession-bench --bin hitrate -- $(bench) $(TRACES) >$(bench)/hitrate.txt
	$(report) $(bench) <$(bench)/hitrate.jsonl
	cat $(bench)/hitrate.txt

$(bench)/instructions: bench/instructions.c c_tests/check.h
	mkdir -p $(bench)
	$(CC) $(CFLAGS) $(WARNINGS) -Iinclude -o $@ $< -lssl -lcrypto -ldl

instructions: deps-test $(bench)/instructions $(release)/libtssession.so  ## count the instructions of each function; fail if above the limit
	tools/instructions.sh $(bench)/instructions $(release)/libtssession.so

built = $(addprefix $(bench)/,calls plain.so ats_plugin.so handshake)

bench-smoke: deps-test $(built) $(release)/libtssession.so  ## build all measurements, and run one briefly
	rm -f $(bench)/smoke.jsonl
	$(bench)/calls -r 1 -t 2 -s 100 $(bench)/smoke.jsonl tssession=$(release)/libtssession.so plain=$(bench)/plain.so
	$(CARGO) run --locked -q -p tssession-bench --bin report -- $(bench)/smoke <$(bench)/smoke.jsonl >/dev/null
