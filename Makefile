# make demo    builds all and shows real clients resuming
# make test    builds all and runs every test
# make lint    formatting, clippy with warnings denied, shell scripts
# make header  copies the generated headers to include/
# make clean
# make bench-handshake  measures what a resumed handshake costs a server

CARGO ?= cargo
CC ?= cc
CFLAGS ?= -O2 -g
WARNINGS = -std=c11 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Werror

release = target/release
demo = target/demo
bench = target/bench
# Where the loader finds the library under its SONAME.
lib = target/demo/lib

all: $(demo)/host $(demo)/plugin.so

.PHONY: all demo test lint header clean bench-handshake deps deps-test FORCE

deps:
	@tools/deps.sh demo

deps-test:
	@tools/deps.sh test

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
# programs again with what is shipped.
test: deps-test all
	$(CARGO) test --locked
	TSSESSION_LIB=$(abspath $(release)/libtssession.so) $(CARGO) test --locked --test c_programs --test exports

$(bench)/handshake: bench/handshake.c c_tests/check.h
	mkdir -p $(bench)
	$(CC) $(CFLAGS) $(WARNINGS) -Iinclude -o $@ $< -lssl -lcrypto -ldl -pthread

# By way of a file: a pipe would hide that a handshake was not resumed.
bench-handshake: deps $(bench)/handshake $(lib)/libtssession.so
	LD_LIBRARY_PATH=$(lib) $(bench)/handshake >$(bench)/handshake.jsonl
	$(CARGO) run --release --locked -p tssession-bench --bin report -- $(bench) <$(bench)/handshake.jsonl

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	shellcheck .ci/run tools/deps.sh examples/demo.sh
	clang-format --dry-run -Werror c_tests/*.[ch] c_tests/*.cc examples/*.c

header:
	UPDATE_HEADERS=1 $(CARGO) test --locked --test header the_committed_headers

clean:
	$(CARGO) clean
