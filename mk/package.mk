# SPDX-License-Identifier: Apache-2.0

##@ Debian packages

# debhelper leaves its work in debian/.
debhelper_files = debian/.debhelper debian/debhelper-build-stamp debian/files debian/*.substvars \
  debian/*.debhelper debian/*.debhelper.log debian/tmp \
  $(addprefix debian/,libtssession0 libtssession-farm0 libtssession-dev libtssession-preload tssession-tools)

# The file names in debian/ are those for OpenSSL 3.
deb: deps-deb $(libraries) $(preload) $(program)  ## build the packages into target/deb
	@$(if $(openssl),$(error the Debian packages are for OpenSSL 3))true
	rm -rf target/deb $(debhelper_files)
	mkdir -p target/deb
	$(MAKE) -f debian/rules binary DEB_DIR=target/deb
	rm -rf $(debhelper_files)
	lintian --allow-root --fail-on error target/deb/*.deb

deb-test: deps-root deb  ## test the packages in a clean Debian
	packaging/deb-test.sh target/deb target/deb-test
