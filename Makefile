# make demo    builds all and shows real clients resuming
# make test    builds all and runs every test
# make hitrate plays traces of clients to this cache and to others: tables, charts, verdict
# make lint    formatting, clippy with warnings denied, shell scripts
# make header  copies the generated headers to include/
# make clean

CARGO ?= cargo
CC ?= cc
CFLAGS ?= -O2 -g
WARNINGS = -std=c11 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Werror

release = target/release
demo = target/demo
# Where the loader finds the library under its SONAME.
lib = target/demo/lib

all: $(demo)/host $(demo)/plugin.so

# Where the programs that measure leave what they found.
bench = target/bench

.PHONY: all demo test hitrate lint header clean deps deps-test FORCE

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

# The verdict comes last, where one sees it.
hitrate: deps
	mkdir -p $(bench)
	$(CARGO) run --release --locked -p tssession-bench --bin hitrate -- $(bench) >$(bench)/hitrate.txt
	$(CARGO) run --release --locked -p tssession-bench --bin report -- $(bench) <$(bench)/hitrate.jsonl
	cat $(bench)/hitrate.txt

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	shellcheck .ci/run tools/deps.sh examples/demo.sh
	clang-format --dry-run -Werror c_tests/*.[ch] c_tests/*.cc examples/*.c

header:
	UPDATE_HEADERS=1 $(CARGO) test --locked --test header the_committed_headers

clean:
	$(CARGO) clean
