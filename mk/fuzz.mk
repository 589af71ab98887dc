# SPDX-License-Identifier: Apache-2.0

##@ Fuzzing

# The targets to fuzz. They have a build and a Cargo.lock of their own: see fuzz/.
TARGET ?= calls der keys records model

fuzz-smoke: deps-fuzz  ## fuzz each TARGET for FUZZ_SECONDS, 30, from the seeds (0: run the seeds)
	CARGO='$(CARGO)' tools/fuzz.sh smoke $(or $(FUZZ_SECONDS),30) $(TARGET)

fuzz: deps-fuzz  ## the same for ten minutes, also from what earlier runs found
	CARGO='$(CARGO)' tools/fuzz.sh long $(or $(FUZZ_SECONDS),600) $(TARGET)
