# make                  builds all that make install installs, and the demo
# make demo             builds what it needs and shows real clients resuming
# make test             builds all and runs every test
# make farm-demo        three hosts that share sessions and keys through Redis, and faults
# make farm-test        what Redis, Sentinels, a Cluster and members may do to each other
# make farm-figures     what a member and Redis can do a second, what a handshake pays, how fast sessions spread
# make chosen-ids       counts what lookups cost after a peer inserted IDs of its choice
# make peers            TLS peers of other makers, over sockets: resumption, attacks on it
# make lint             formatting, clippy with warnings denied, shell scripts
# make deny             checks licences and sources of the dependencies
# make header           copies the generated headers and manual pages to include/ and man/
# make abi              brings the baseline of the ABI up to date, after make header
# make bench            measures the functions, beside a plain implementation of them
# make bench-ats        measures them inside the real traffic_server, beside its own
# make bench-ats-tls    measures what a resumed connection costs it, with this plugin and its own cache
# make bench-handshake  measures what a resumed handshake costs a server
# make compare-ats      runs every case inside the real traffic_server and here: what differs
# make ats-demo         a real traffic_server with this plugin, one with its own cache: what resumes
# make ats-test         checks that, and what a line of plugin.config may say
# make ats-soak         20 000 handshakes, while certificates are loaded again all the time
# make ats-valgrind     runs traffic_server with the plugin in valgrind
# make ats-dlopen       loads this library into traffic_server, beside its own functions
# make farm-demo-ats    two real traffic_servers with the farm plugin: what resumes where
# make hitrate          plays traces of clients to this cache and to others
# make install          installs into PREFIX, /usr/local; uninstall takes it away again
# make installcheck     builds the examples against what is installed, and runs them
# make install-test     tests these three
# make deb              builds the Debian packages into target/deb
# make deb-test         tests them in a clean Debian
# make linearizability  checks 12 million concurrent calls, with 256 shards and with two
# make faults           panics in the library, at every boundary to C
# make no-memory        every allocation fails in turn, in the library and in OpenSSL
# make fork-1000        forks 1000 times from a process with threads inside the library
# make load             200 000 handshakes of several processes, while keys and sizes change
# make sanitizers       runs the C tests with AddressSanitizer and UndefinedBehaviorSanitizer
# make races            runs those with threads with ThreadSanitizer
# make loom             tries out every interleaving of the small concurrent parts
# make fuzz-smoke       fuzzes each target for FUZZ_SECONDS, 30
# make fuzz             the same for ten minutes, TARGET=... one of them
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

all: $(demo)/host $(demo)/plugin.so $(release)/libtssession_farm.so

.PHONY: all demo test lint deny header abi clean bench bench-ats bench-handshake bench-smoke hitrate \
  compare-ats ats-dlopen deps deps-test deps-ats FORCE

deps:
	@tools/deps.sh demo

deps-test:
	@tools/deps.sh test

deps-ats:
	@tools/deps.sh ats

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

demo: $(demo)/host $(demo)/plugin.so
	@echo
	@LD_LIBRARY_PATH=$(lib) examples/demo.sh $(demo)/host $(demo)/plugin.so

# First the whole suite with the debug build, whose arithmetic is checked, then the C
# programs and the examples again with what is shipped, which valgrind sees too.
test: deps-test all bench-smoke target/reliability/chosen_ids
	$(CARGO) test --locked --workspace -- --skip _in_valgrind
	LD_LIBRARY_PATH=$(lib) tools/chosen-ids.sh $(reliability)/chosen_ids $(reliability) 20000
	TSSESSION_LIB=$(abspath $(release)/libtssession.so) $(CARGO) test --locked --test c_programs --test exports --test examples --test faults

# The same C programs as in the tests, at their full length.
reliability = target/reliability

.PHONY: linearizability fork-1000 chosen-ids load no-memory

$(reliability)/%: c_tests/%.c c_tests/tls.c c_tests/tls.h c_tests/check.h c_tests/api.h c_tests/folder.h \
  c_tests/load_clients.h c_tests/resident.h $(lib)/libtssession.so
	mkdir -p $(reliability)
	$(CC) $(CFLAGS) $(WARNINGS) -Iinclude -o $@ $< c_tests/tls.c -L$(lib) -ltssession -lssl -lcrypto -pthread

# A build of its own, so that nothing of it is ever taken for the library.
.PHONY: faults

faults: deps-test
	$(CARGO) test --locked --features inject-faults --target-dir target/faults --test faults

test: faults

linearizability: deps $(reliability)/linearizability
	LD_LIBRARY_PATH=$(lib) $(reliability)/linearizability 12000000
	LD_LIBRARY_PATH=$(lib) PROXY_CONFIG_SSL_SESSION_CACHE_NUM_BUCKETS=1 $(reliability)/linearizability 12000000

# It runs itself again, from another folder.
no-memory: deps $(reliability)/every_allocation
	LD_LIBRARY_PATH=$(abspath $(lib)) $(abspath $(reliability)/every_allocation)

fork-1000: deps $(reliability)/fork
	LD_LIBRARY_PATH=$(lib) $(reliability)/fork 1000

load: deps $(reliability)/load
	LD_LIBRARY_PATH=$(lib) $(reliability)/load 200000

chosen-ids: deps-test $(reliability)/chosen_ids
	LD_LIBRARY_PATH=$(lib) tools/chosen-ids.sh $(reliability)/chosen_ids $(reliability)

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

bench-ats: deps-ats $(bench)/ats_plugin.so $(release)/libtssession.so
	rm -f $(bench)/ats.jsonl
	tools/ats.sh $(abspath $(bench)/ats $(bench)/ats_plugin.so $(bench)/ats.jsonl $(release)/libtssession.so)
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

# Sessions and ticket keys between machines, with a real Redis.
farm = target/farm

.PHONY: farm-demo farm-test farm-figures deps-farm

deps-farm:
	@tools/deps.sh farm

$(release)/libtssession_farm.so: deps FORCE
	$(CARGO) build --release --locked -p tssession-farm

$(farm)/lib/libtssession_farm.so: $(release)/libtssession_farm.so $(lib)/libtssession.so
	mkdir -p $(farm)/lib
	ln -sf $(abspath $(release)/libtssession.so) $(farm)/lib/libtssession.so.0
	ln -sf $(abspath $<) $(farm)/lib/libtssession_farm.so.0
	ln -sf libtssession_farm.so.0 $@

# -rdynamic: what measures puts functions of its own before those that the farm looks for.
$(farm)/%: farm/lab/%.c farm/lab/lab.h c_tests/tls.c c_tests/tls.h c_tests/check.h $(farm)/lib/libtssession_farm.so | deps-farm
	$(CC) $(CFLAGS) $(WARNINGS) -Iinclude -Ic_tests -rdynamic -o $@ $< c_tests/tls.c -L$(farm)/lib -ltssession_farm \
	  -L$(lib) -ltssession -lssl -lcrypto -ldl -lm -pthread

$(farm)/clock.so: farm/lab/clock.c
	mkdir -p $(farm)
	$(CC) $(CFLAGS) $(WARNINGS) -fPIC -shared -o $@ $<

in_lab = LD_LIBRARY_PATH=$(abspath $(farm)/lib) MEMBER=$(abspath $(farm)/member) CLOCK=$(abspath $(farm)/clock.so) \
  PYTHONDONTWRITEBYTECODE=1 python3

farm-demo: $(farm)/member
	$(in_lab) farm/lab/demo.py

# What Redis, the network and members may do.
farm-test: $(farm)/member $(farm)/clock.so
	$(in_lab) farm/lab/run.py

# The real traffic_server, beside this library and with it inside.
ats = target/ats
conformance = c_tests/conformance.c c_tests/tls.c

$(ats)/conformance: $(conformance) c_tests/check.h c_tests/tls.h $(lib)/libtssession.so
	mkdir -p $(ats)
	$(CC) $(CFLAGS) $(WARNINGS) -Iinclude -o $@ $(conformance) -L$(lib) -ltssession -lssl -lcrypto

# These two with ATS's own header.
$(ats)/conformance.so: $(conformance) c_tests/check.h c_tests/tls.h | deps-ats
	mkdir -p $(ats)
	$(CC) $(CFLAGS) $(WARNINGS) -DATS_PLUGIN -fPIC -shared -o $@ $(conformance) -lssl -lcrypto

$(ats)/ats_dlopen.so: examples/ats_dlopen.c | deps-ats
	mkdir -p $(ats)
	$(CC) $(CFLAGS) $(WARNINGS) -fPIC -shared -o $@ $< -lssl -lcrypto -ldl

compare-ats: ats-dlopen $(ats)/conformance $(ats)/conformance.so
	LD_LIBRARY_PATH=$(lib) tools/compare-ats.sh $(abspath $(ats) $(ats)/conformance $(ats)/conformance.so)

ats-dlopen: $(ats)/ats_dlopen.so $(release)/libtssession.so
	PROXY_CONFIG_DIAGS_DEBUG_ENABLED=1 PROXY_CONFIG_DIAGS_DEBUG_TAGS=ssl.session_cache tools/ats.sh \
	  $(abspath $(ats)/server $(ats)/ats_dlopen.so $(release)/libtssession.so $(ats)/dlopen.txt) 2>$(ats)/dlopen.log
	cat $(ats)/dlopen.txt
	tail -n 1 $(ats)/dlopen.txt | grep -qx passed
	grep 'ERROR: tssession: TSSslSessionGet: the session ID is NULL' $(ats)/server/log/diags.log
	grep '(ssl.session_cache.insert) .*: stored, ' $(ats)/server/log/stdout

# As a plugin that a line of plugin.config loads, in real traffic_servers.
.PHONY: ats-demo ats-test ats-soak ats-valgrind deps-ats-valgrind bench-ats-tls

$(ats)/client: bench/ats_client.c c_tests/check.h
	mkdir -p $(ats)
	$(CC) $(CFLAGS) $(WARNINGS) -o $@ $< -lssl -lcrypto -pthread

ats_plugin = $(abspath $(release)/libtssession.so $(ats)/client)

ats-demo: deps-ats $(release)/libtssession.so $(ats)/client
	tools/ats-demo.sh $(abspath $(ats)/demo) $(ats_plugin)

ats-test: ats-demo
	tools/ats-test.sh $(abspath $(ats)/test $(release)/libtssession.so)

ats-soak: deps-ats $(release)/libtssession.so $(ats)/client
	tools/ats-soak.sh $(abspath $(ats)/soak) $(ats_plugin) 20000 60

deps-ats-valgrind:
	@tools/deps.sh ats-valgrind

ats-valgrind: deps-ats-valgrind $(release)/libtssession.so $(ats)/client
	tools/ats-valgrind.sh $(abspath $(ats)/valgrind) $(ats_plugin)

bench-ats-tls: deps-ats $(release)/libtssession.so $(ats)/client
	mkdir -p $(bench)
	tools/bench-ats-tls.sh $(abspath $(bench)/ats-tls $(ats)/client $(bench)/ats-tls.jsonl) 15 3000 \
	  tssession=$(abspath $(release)/libtssession.so) ats=
	$(report) <$(bench)/ats-tls.jsonl

# Numbers: what Redis needs, catching up, what a handshake pays, how fast sessions spread.
farm-figures: deps-test $(farm)/hook $(farm)/spread
	$(CARGO) test --release --locked -q -p tssession-farm --test figures -- --ignored --nocapture --test-threads 1
	mkdir -p $(bench)
	HOOK=$(abspath $(farm)/hook) SPREAD=$(abspath $(farm)/spread) $(in_lab) farm/lab/figures.py $(bench)/farm.jsonl
	$(report) <$(bench)/farm.jsonl

# The same plugin in two real traffic_servers.
.PHONY: farm-demo-ats deps-farm-ats

deps-farm-ats:
	@tools/deps.sh farm-ats

farm-demo-ats: deps-farm-ats $(release)/libtssession_farm.so $(release)/libtssession.so
	mkdir -p $(farm)
	tools/farm-ats.sh $(abspath $(farm)/ats $(release)/libtssession_farm.so farm/tests/ats.toml $(release)/libtssession.so)

# TLS peers of other makers. One of them is written in Python.
peers = target/peers

.PHONY: peers deps-peers

deps-peers:
	@tools/deps.sh peers

$(peers)/venv/complete: tests/peers.requirements.txt | deps-peers
	python3 -m venv --clear $(@D)
	$(@D)/bin/pip install -q --disable-pip-version-check --require-hashes -r $<
	touch $@

$(peers)/host: c_tests/peers_host.c c_tests/tls.c c_tests/tls.h c_tests/check.h $(lib)/libtssession.so
	mkdir -p $(peers)
	$(CC) $(CFLAGS) $(WARNINGS) -Iinclude -o $@ c_tests/peers_host.c c_tests/tls.c -L$(lib) -ltssession \
	  -lssl -lcrypto -pthread

peers: $(peers)/venv/complete $(peers)/host
	LD_LIBRARY_PATH=$(lib) PEERS_HOST=$(peers)/host $(peers)/venv/bin/python tests/peers.py

test: peers

lint:
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked --all-targets --features inject-faults -- -D warnings
	shellcheck .ci/run tools/*.sh packaging/*.sh examples/demo.sh
	clang-format --dry-run -Werror c_tests/*.[ch] c_tests/*.cc examples/*.[ch] examples/*.cc bench/*.[ch] bench/*.cc \
	  ats/tests/*.cc farm/tests/c/*.c farm/lab/*.[ch]

# The dependencies: licences, sources, bans.
deny:
	command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny --version 0.20.2
	$(CARGO) deny --locked --workspace check bans licenses sources

header:
	UPDATE_HEADERS=1 $(CARGO) test --locked --test header the_committed_headers
	UPDATE_HEADERS=1 $(CARGO) test --locked -p tssession-farm --test header the_committed_header

# What breaks callers it refuses, unless the SONAME was raised.
abi: deps-test
	UPDATE_ABI=1 $(CARGO) test --locked --test abi the_abi
	UPDATE_ABI=1 $(CARGO) test --locked -p tssession-farm --test abi

# Installing. PREFIX and the folders below it are where the files are used; DESTDIR comes
# before them while they are copied, and is in none of them.
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
DOCDIR ?= $(PREFIX)/share/doc

VERSION := $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' Cargo.toml)
soversion_in = $(shell sed -n 's/^const SOVERSION: &str = "\(.*\)";$$/\1/p' $(1))
SOVERSION := $(call soversion_in,build.rs)
FARM_SOVERSION := $(call soversion_in,farm/build.rs)
so = libtssession.so
farm_so = libtssession_farm.so
libraries = $(release)/$(so) $(release)/$(farm_so)

install_dirs = PREFIX LIBDIR INCLUDEDIR MANDIR DOCDIR
# Checked before anything is written or removed: these go through make and the shell.
plain = $(shell printf '%s\n' '$(subst ','"'"',$($(1)))' | LC_ALL=C grep -qx '[A-Za-z0-9_./+@:~-]*' && echo yes)
absolute = $(foreach dir,$(install_dirs) DESTDIR,\
  $(if $(call plain,$(dir)),,$(error $(dir) must be of letters, digits and _./+@:~- only)))$(foreach \
  dir,$(install_dirs),$(if $(filter /%,$($(dir))),,$(error $(dir) must be an absolute path, not "$($(dir))")))
# ATS has a ts/ts.h too: ours is in a folder of its own.
headerdir = $(INCLUDEDIR)/tssession
cmakedir = $(LIBDIR)/cmake/tssession
docdir = $(DOCDIR)/tssession
pkgconfigdir = $(LIBDIR)/pkgconfig
below_prefix = $(patsubst $(PREFIX)/%,$${prefix}/%,$(1))
from_cmake = $(shell realpath -ms --relative-to=$(cmakedir) $(1))
fill = sed -e 's|@VERSION@|$(VERSION)|; s|@PREFIX@|$(PREFIX)|' \
  -e 's|@SOVERSION@|$(SOVERSION)|; s|@FARM_SOVERSION@|$(FARM_SOVERSION)|' \
  -e 's|@LIBDIR@|$(call below_prefix,$(LIBDIR))|; s|@INCLUDEDIR@|$(call below_prefix,$(INCLUDEDIR))|' \
  -e 's|@TO_LIBDIR@|$(call from_cmake,$(LIBDIR))|; s|@TO_INCLUDEDIR@|$(call from_cmake,$(INCLUDEDIR))|'
# Whoever only stages the files tells the loader later.
tell_loader = [ -n "$(DESTDIR)" ] || [ "$$(id -u)" != 0 ] || ldconfig

# What another user has built is installed as it is: under sudo, cargo would build again
# as root, or not be found.
built_by_another := $(shell [ ! -e $(release)/$(so) ] || [ -O $(release)/$(so) ] || echo yes)
all_are_built = $(foreach file,$(libraries),$(if $(wildcard $(file)),,$(error $(file) is missing: run make first)))

# $(call install_library,FILE,SOVERSION): with the names that the loader and the linker look for.
define install_library
install -m 755 $(release)/$(1) $(DESTDIR)$(LIBDIR)/$(1).$(VERSION)
ln -sf $(1).$(VERSION) $(DESTDIR)$(LIBDIR)/$(1).$(2)
ln -sf $(1).$(2) $(DESTDIR)$(LIBDIR)/$(1)
endef
installed_library = $(addprefix $(DESTDIR)$(LIBDIR)/,$(1) $(1).$(2) $(1).$(VERSION))

.PHONY: install uninstall installcheck install-test deb deb-test

install: $(if $(built_by_another),,$(libraries))
	$(absolute)$(all_are_built)install -d -m 755 \
	  $(addprefix $(DESTDIR),$(pkgconfigdir) $(cmakedir) $(headerdir)/ts $(MANDIR)/man3 $(docdir))
	$(call install_library,$(so),$(SOVERSION))
	$(call install_library,$(farm_so),$(FARM_SOVERSION))
	install -m 644 include/ts/*.h $(DESTDIR)$(headerdir)/ts
	install -m 644 man/*.3 $(DESTDIR)$(MANDIR)/man3
	install -m 644 farm/farm.example.toml $(DESTDIR)$(docdir)
	$(fill) packaging/tssession.pc.in >$(DESTDIR)$(pkgconfigdir)/tssession.pc
	$(fill) packaging/tssession-farm.pc.in >$(DESTDIR)$(pkgconfigdir)/tssession-farm.pc
	$(fill) packaging/tssessionConfig.cmake.in >$(DESTDIR)$(cmakedir)/tssessionConfig.cmake
	$(fill) packaging/tssessionConfigVersion.cmake.in >$(DESTDIR)$(cmakedir)/tssessionConfigVersion.cmake
	chmod 644 $(DESTDIR)$(pkgconfigdir)/tssession*.pc $(DESTDIR)$(cmakedir)/*
	$(tell_loader)

uninstall:
	$(absolute)rm -f $(call installed_library,$(so),$(SOVERSION)) $(call installed_library,$(farm_so),$(FARM_SOVERSION))
	rm -f $(addprefix $(DESTDIR)$(pkgconfigdir)/,tssession.pc tssession-farm.pc)
	rm -f $(addprefix $(DESTDIR)$(MANDIR)/man3/,$(notdir $(wildcard man/*.3)))
	rm -rf $(DESTDIR)$(headerdir) $(DESTDIR)$(cmakedir) $(DESTDIR)$(docdir)
	$(tell_loader)

installcheck:
	@$(absolute)$(foreach name,DESTDIR VERSION SOVERSION FARM_SOVERSION CC $(install_dirs),$(name)='$($(name))') packaging/installcheck.sh

install-test: deps-test $(libraries)
	MAKE='$(MAKE)' packaging/install-test.sh $(libraries)

# The packages. debhelper leaves its work in debian/.
debhelper_files = debian/.debhelper debian/debhelper-build-stamp debian/files debian/*.substvars \
  debian/*.debhelper debian/*.debhelper.log debian/tmp debian/libtssession0 debian/libtssession-farm0 debian/libtssession-dev

deb: $(libraries)
	tools/deps.sh deb
	rm -rf target/deb $(debhelper_files)
	mkdir -p target/deb
	$(MAKE) -f debian/rules binary DEB_DIR=target/deb
	rm -rf $(debhelper_files)
	lintian --allow-root --fail-on error target/deb/*.deb

deb-test: deb
	tools/deps.sh deb-test
	packaging/deb-test.sh target/deb target/deb-test

# Fuzzing, with a build and a Cargo.lock of its own: see fuzz/.
.PHONY: fuzz fuzz-smoke deps-fuzz

deps-fuzz:
	@tools/deps.sh fuzz

TARGET ?= calls der keys records model

fuzz-smoke: deps-fuzz
	CARGO='$(CARGO)' tools/fuzz.sh smoke $(or $(FUZZ_SECONDS),30) $(TARGET)

fuzz: deps-fuzz
	CARGO='$(CARGO)' tools/fuzz.sh long $(or $(FUZZ_SECONDS),600) $(TARGET)

# With builds of their own: see tools/sanitize.sh.
.PHONY: sanitizers races deps-races loom

# Without what has an allocator of its own, or a library that is preloaded.
sanitizers: deps-test
	CARGO='$(CARGO)' tools/sanitize.sh address --skip _in_valgrind --skip secrets_and_memory --skip plugin_beside_others \
	  --skip every_allocation --skip fork_held

deps-races: deps-test
	@tools/deps.sh races

races: deps-races
	CARGO='$(CARGO)' tools/sanitize.sh thread --skip _in_valgrind threads:: linearizability:: ticket_keys:: \
	  key_file:: log_function:: reentry:: fork:: fork_keys:: handshake:: hang_up::

loom:
	RUSTFLAGS='--cfg loom' $(CARGO) test --locked --profile checked --lib --target-dir target/loom -- models::

test: loom

clean:
	$(CARGO) clean
