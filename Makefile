# The common targets; mk/ has the others, by subject. `make help` lists all targets with the
# text beside them.
#
# SPDX-License-Identifier: Apache-2.0

CARGO ?= cargo
CC ?= cc
CXX ?= c++
CFLAGS ?= -O2 -g
WARNINGS = -std=c11 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Werror

# rustup installs cargo here.
export PATH := $(HOME)/.cargo/bin:$(PATH)

release = target/release
libraries = $(release)/libtssession.so $(release)/libtssession_farm.so
# For these machines only: elsewhere it is empty.
preload = $(if $(filter x86_64 aarch64,$(shell uname -m)),$(release)/libtssession_preload.so)
program = $(release)/tssession-doctor
demo = target/demo
# The loader finds the library here under its SONAME.
lib = target/demo/lib
# Measurements write JSON lines here, and charts made of them.
bench = target/bench

##@ Build and test

all: $(demo)/host $(demo)/plugin.so release  ## build the demo and what make install installs

release: $(libraries) $(preload) $(program)  ## build what make install installs

# Install what the other targets need, or print what to install.
deps = $(addprefix deps-,ats ats-valgrind deb demo farm farm-ats fuzz hosts lint peers pictures prometheus prometheus-demo races root test)
$(deps): deps-%:
	@tools/deps.sh $*

# Cargo decides what to rebuild. One command for all, so that they share the features of their
# dependencies, which are then built once.
$(libraries) $(preload) $(program) &: deps-demo FORCE
	$(CARGO) build --release --locked -p tssession -p tssession-farm -p tssession-preload -p tssession-doctor

$(lib)/libtssession.so: $(release)/libtssession.so
	mkdir -p $(lib)
	ln -sf $(abspath $<) $(lib)/libtssession.so.$(SOVERSION)
	ln -sf libtssession.so.$(SOVERSION) $@

$(demo)/host: examples/host.c $(lib)/libtssession.so
	$(CC) $(CFLAGS) $(WARNINGS) -Iinclude -o $@ $< -lssl -lcrypto -ldl

$(demo)/plugin.so: examples/plugin.c $(lib)/libtssession.so
	$(CC) $(CFLAGS) $(WARNINGS) -Iinclude -fPIC -shared -o $@ $< -L$(lib) -ltssession -lssl -lcrypto

demo: $(demo)/host $(demo)/plugin.so  ## show openssl clients resume at a demo host
	@echo
	@LD_LIBRARY_PATH=$(lib) examples/demo.sh $(demo)/host $(demo)/plugin.so

# The debug build checks arithmetic.
test: deps-test  ## run every test once, without valgrind
	$(CARGO) test --locked --workspace

# Makes a target and prints how long it took.
step = +@start=$$(date +%s) && $(MAKE) --no-print-directory $(1) && echo "make $(1): $$(($$(date +%s) - start)) s"

test-all:  ## run these, and those in valgrind, with faults, models, TLS peers, the farm
	$(call step,test)
	$(call step,test-release)
	$(call step,faults)
	$(call step,loom)
	$(call step,peers)
	$(call step,chosen-ids IDS=20000)
	$(call step,bench-smoke)
	$(call step,farm-test)
	$(call step,fuzz-smoke FUZZ_SECONDS=0)

# The tests of the library file. The ignored ones run it in valgrind. Those that open it with dlopen
# are left to `make test` and `make second-openssl`.
shipped = TSSESSION_LIB=$(abspath $(release)/libtssession.so) $(CARGO) test --locked --workspace
test-release: deps-test $(release)/libtssession.so  ## run the C programs with the release build, also in valgrind
	$(shipped) --test c_programs -- --include-ignored --skip ::dlopened
	$(shipped) --test exports --test examples --test faults
	$(CARGO) test --locked -p tssession-preload -- --ignored

clean:  ## remove target/
	$(CARGO) clean

##@ Source

lint: deps-lint  ## check formatting and shell scripts; run clippy and rustdoc, with warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked --workspace --all-targets --features tssession/inject-faults -- -D warnings
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --locked --workspace --no-deps
	! grep -nE '^[a-z0-9-]+:' Makefile mk/*.mk | grep -v '  ## '
	shellcheck .ci/run tools/*.sh packaging/*.sh packaging/prometheus/*.sh examples/demo.sh
	clang-format --dry-run -Werror c_tests/*.[ch] c_tests/*.cc examples/*.[ch] examples/*.cc bench/*.[ch] bench/*.cc \
	  tests/ats/*.[ch] tests/ats/cxx/ts/*.h build/*.c farm/tests/c/*.c farm/lab/*.[ch]

deny:  ## check the dependencies' licences and sources
	command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny --version 0.20.2
	$(CARGO) deny --locked --workspace check bans licenses sources

header:  ## copy the generated headers and manual pages to include/ and man/
	UPDATE_HEADERS=1 $(CARGO) test --locked --test header the_committed_headers
	UPDATE_HEADERS=1 $(CARGO) test --locked -p tssession-farm --test header the_committed_header

# It refuses a change that breaks callers, unless the SONAME was raised.
abi: deps-test  ## update the ABI baseline, after make header
	UPDATE_ABI=1 $(CARGO) test --locked --test abi the_abi
	UPDATE_ABI=1 $(CARGO) test --locked -p tssession-farm --test abi

include mk/*.mk

help:  ## list the targets
	@awk '/^##@ / { print "\n" substr($$0, 5) } \
	  /^[a-z0-9-]+:.*  ## / { name = $$0; sub(/:.*/, "", name); sub(/.*  ## /, ""); printf "  %-16s %s\n", name, $$0 }' \
	  $(MAKEFILE_LIST)

# Targets with a text make no file of their name.
.PHONY: $(shell sed -n 's/^\([a-z0-9-]*\):.*  ## .*/\1/p' $(MAKEFILE_LIST)) $(deps) FORCE
