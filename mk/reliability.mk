# SPDX-License-Identifier: Apache-2.0

##@ Reliability

reliability = target/reliability
peers = target/peers

# C programs of the tests. An argument sets their full length.
$(reliability)/%: c_tests/%.c c_tests/tls.c c_tests/tls.h c_tests/check.h c_tests/api.h c_tests/folder.h \
  c_tests/load_clients.h c_tests/resident.h $(lib)/libtssession.so
	mkdir -p $(reliability)
	$(CC) $(CFLAGS) $(WARNINGS) -Iinclude -o $@ $< c_tests/tls.c -L$(lib) -ltssession -lssl -lcrypto -pthread

linearizability: deps-demo $(reliability)/linearizability  ## check 12 million concurrent calls for linearizability, with 256 shards and with two
	LD_LIBRARY_PATH=$(lib) $(reliability)/linearizability 12000000
	LD_LIBRARY_PATH=$(lib) PROXY_CONFIG_SSL_SESSION_CACHE_NUM_BUCKETS=1 $(reliability)/linearizability 12000000

# Absolute paths: it runs itself again from another directory.
no-memory: deps-demo $(reliability)/every_allocation  ## make each allocation fail in turn, in the library and in OpenSSL
	LD_LIBRARY_PATH=$(abspath $(lib)) $(abspath $(reliability)/every_allocation)

fork-1000: deps-demo $(reliability)/fork  ## fork 1000 times from a process with threads inside the library
	LD_LIBRARY_PATH=$(lib) $(reliability)/fork 1000

load: deps-demo $(reliability)/load  ## make 200 000 handshakes with several processes, while keys and sizes change
	LD_LIBRARY_PATH=$(lib) $(reliability)/load 200000

chosen-ids: deps-test $(reliability)/chosen_ids  ## count the instructions of lookups after a peer chose IDS (1000000) session IDs
	LD_LIBRARY_PATH=$(lib) tools/chosen-ids.sh $(reliability)/chosen_ids $(reliability) $(IDS)

# In a separate target directory, so that this build is never shipped.
faults: deps-test  ## make the library panic at every boundary to C
	$(CARGO) test --locked --features inject-faults --target-dir target/faults --test faults

loom:  ## try every interleaving of the small concurrent parts
	RUSTFLAGS='--cfg loom' $(CARGO) test --locked --profile models --lib --target-dir target/loom -- models::

# tools/sanitize.sh makes separate builds. Skipped: programs that replace the allocator or preload a
# library.
sanitizers: deps-test  ## run the C tests with AddressSanitizer and UndefinedBehaviorSanitizer
	CARGO='$(CARGO)' tools/sanitize.sh address --skip secrets_and_memory --skip plugin_beside_others --skip every_allocation --skip fork_held --skip two_openssls

races: deps-test deps-races  ## run the C tests that use threads with ThreadSanitizer
	CARGO='$(CARGO)' tools/sanitize.sh thread threads:: linearizability:: ticket_keys:: key_file:: log_function:: \
	  reentry:: fork:: fork_keys:: handshake:: hang_up::

# One of the TLS clients is written in Python.
$(peers)/venv/complete: tests/peers.requirements.txt | deps-peers
	python3 -m venv --clear $(@D)
	$(@D)/bin/pip install -q --disable-pip-version-check --require-hashes -r $<
	touch $@

$(peers)/host: c_tests/peers_host.c c_tests/tls.c c_tests/tls.h c_tests/check.h $(lib)/libtssession.so
	mkdir -p $(peers)
	$(CC) $(CFLAGS) $(WARNINGS) -Iinclude -o $@ c_tests/peers_host.c c_tests/tls.c -L$(lib) -ltssession \
	  -lssl -lcrypto -pthread

peers: $(peers)/venv/complete $(peers)/host  ## test resumption, and attacks on it, with other TLS libraries as clients
	LD_LIBRARY_PATH=$(lib) PEERS_HOST=$(peers)/host $(peers)/venv/bin/python tests/peers.py
