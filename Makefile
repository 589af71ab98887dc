# make demo             builds all and shows real clients resuming
# make test             builds all and runs every test
# make lint             formatting, clippy with warnings denied, shell scripts
# make header           copies the generated headers to include/
# make abi              brings the baseline of the ABI up to date, after make header
# make bench            measures the functions, beside a plain implementation of them
# make bench-ats        measures them inside the real traffic_server, beside its own
# make bench-handshake  measures what a resumed handshake costs a server
# make hitrate          plays traces of clients to this cache and to others
# make clean

CARGO ?= cargo
CC ?= cc
CXX ?= c++
CFLAGS ?= -O2 -g
WARNINGS = -std=c11 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Werror

release = target/release
demo = target/demo
# Where the programs that measure leave what they found.
bench = target/bench
# Where the loader finds the library under its SONAME.
lib = target/demo/lib

all: $(demo)/host $(demo)/plugin.so

.PHONY: all demo test lint header abi clean bench bench-ats bench-handshake bench-smoke hitrate \
  deps deps-test deps-bench FORCE

deps:
	@tools/deps.sh demo

deps-test:
	@tools/deps.sh test

deps-bench:
	@tools/deps.sh bench

# Cargo knows what to build again.
$(release)/libtssession.so: deps FORCE
	$(CARGO) build --release --locked

$(lib)/libtssession.so: $(release)/libtssession.so
	mkdir -p $(lib)
	ln -sf $(abspath $<) $(lib)/libtssession.so.0
	ln -sf libtssession.so.0 $@

$(demo)/host: examples/host.c $(lib)/libtssession.so
	$(CC) $(CFLAGS) $(WARNINGS) -Iinclude -o $@ $< -lssl -lcrypto -ldl

$(demo)/plugin.so: examples/plugin.c $(lib)/libtssession.so
	$(CC) $(CFLAGS) $(WARNINGS) -Iinclude -fPIC -shared -o $@ $< -L$(lib) -ltssession -lssl -lcrypto

demo: all
	@echo
	@LD_LIBRARY_PATH=$(lib) examples/demo.sh $(demo)/host $(demo)/plugin.so

# First the whole suite with the debug build, whose arithmetic is checked, then the C
# programs and the examples again with what is shipped.
test: deps-test all bench-smoke
	$(CARGO) test --locked --workspace
	TSSESSION_LIB=$(abspath $(release)/libtssession.so) $(CARGO) test --locked --test c_programs --test exports --test examples

# What measures. Each leaves JSON lines, and charts made of them, in target/bench; and by
# way of that file, because a pipe would hide that a check failed.
report = $(CARGO) run --release --locked -q -p tssession-bench --bin report -- $(bench)
measure = bench/measure.c c_tests/tls.c

$(bench)/calls: bench/calls.c bench/measure.h $(measure)
	mkdir -p $(bench)
	$(CC) $(CFLAGS) $(WARNINGS) -o $@ $< $(measure) -lssl -lcrypto -ldl -lm -pthread

$(bench)/plain.so: bench/plain.cc
	mkdir -p $(bench)
	$(CXX) $(CFLAGS) -std=c++17 -Wall -Wextra -Wpedantic -Werror -fPIC -shared -o $@ $< -lssl -lcrypto

# ATS's own header, not ours.
$(bench)/ats_plugin.so: bench/ats_plugin.c bench/measure.h $(measure)
	mkdir -p $(bench)
	$(CC) $(CFLAGS) $(WARNINGS) -fPIC -shared -o $@ $< $(measure) -lssl -lcrypto -lm

$(bench)/handshake: bench/handshake.c c_tests/check.h
	mkdir -p $(bench)
	$(CC) $(CFLAGS) $(WARNINGS) -Iinclude -o $@ $< -lssl -lcrypto -ldl -pthread

# Builds all that measures, and measures for a moment: the checks in there must hold.
bench-smoke: $(bench)/calls $(bench)/plain.so $(bench)/ats_plugin.so $(bench)/handshake $(release)/libtssession.so
	rm -f $(bench)/smoke.jsonl
	$(bench)/calls -r 1 -t 2 -s 100 $(bench)/smoke.jsonl tssession=$(release)/libtssession.so plain=$(bench)/plain.so
	$(CARGO) run --release --locked -q -p tssession-bench --bin report -- $(bench)/smoke <$(bench)/smoke.jsonl >/dev/null

bench: deps $(bench)/calls $(bench)/plain.so $(release)/libtssession.so
	rm -f $(bench)/calls.jsonl
	$(bench)/calls $(bench)/calls.jsonl tssession=$(release)/libtssession.so plain=$(bench)/plain.so
	$(report) <$(bench)/calls.jsonl

bench-ats: deps-bench $(bench)/ats_plugin.so $(release)/libtssession.so
	rm -f $(bench)/ats.jsonl
	bench/ats.sh $(abspath $(bench)/ats $(bench)/ats_plugin.so $(bench)/ats.jsonl $(release)/libtssession.so)
	$(report) <$(bench)/ats.jsonl

bench-handshake: deps $(bench)/handshake $(lib)/libtssession.so
	LD_LIBRARY_PATH=$(lib) $(bench)/handshake >$(bench)/handshake.jsonl
	$(report) <$(bench)/handshake.jsonl

# The verdict comes last, where one sees it.
hitrate: deps
	mkdir -p $(bench)
	$(CARGO) run --release --locked -p tssession-bench --bin hitrate -- $(bench) >$(bench)/hitrate.txt
	$(report) <$(bench)/hitrate.jsonl
	cat $(bench)/hitrate.txt

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	shellcheck .ci/run tools/deps.sh examples/demo.sh bench/ats.sh
	clang-format --dry-run -Werror c_tests/*.[ch] c_tests/*.cc examples/*.[ch] examples/*.cc bench/*.[ch] bench/*.cc

header:
	UPDATE_HEADERS=1 $(CARGO) test --locked --test header the_committed_headers

# What breaks callers it refuses, unless the SONAME was raised.
abi: deps-test
	UPDATE_ABI=1 $(CARGO) test --locked --test abi the_abi

clean:
	$(CARGO) clean
