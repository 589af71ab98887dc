# SPDX-License-Identifier: Apache-2.0

##@ Fuzzing

# The fuzz targets, see fuzz/: they have a separate build and Cargo.lock.
TARGET ?= calls der keys records model

fuzz-smoke: deps-fuzz  ## fuzz each TARGET for FUZZ_SECONDS (30) from the seeds; 0: only run the seeds
	CARGO='$(CARGO)' tools/fuzz.sh smoke $(or $(FUZZ_SECONDS),30) $(TARGET)

fuzz: deps-fuzz  ## fuzz each for FUZZ_SECONDS (600), also from what earlier runs found
	CARGO='$(CARGO)' tools/fuzz.sh long $(or $(FUZZ_SECONDS),600) $(TARGET)
