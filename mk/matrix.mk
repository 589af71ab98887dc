# SPDX-License-Identifier: Apache-2.0

##@ Other systems, in clean Debians (as root)

matrix = target/matrix

matrix: deps-root  ## run the README's two commands from nothing in each Debian, or in SYSTEM
	tools/matrix.sh $(matrix) $(SYSTEM)

second-openssl: deps-root deps-test $(libraries)  ## run what is built here with Debian 13's OpenSSL
	CARGO='$(CARGO)' tools/second-openssl.sh trixie $(abspath $(matrix) $(release))
