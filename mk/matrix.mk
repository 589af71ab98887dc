# SPDX-License-Identifier: Apache-2.0

##@ Other systems, each in a clean Debian (as root)

matrix = target/matrix

matrix: deps-root  ## clone, then make demo and make test in each SYSTEM (default: all)
	tools/matrix.sh $(matrix) $(SYSTEM)

second-openssl: deps-root deps-test $(libraries)  ## run this build and its tests with Debian 13's OpenSSL
	CARGO='$(CARGO)' tools/second-openssl.sh trixie $(abspath $(matrix) $(release))
