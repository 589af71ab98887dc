# SPDX-License-Identifier: Apache-2.0

##@ Install

# The files are meant for PREFIX and the directories below it. DESTDIR is put before these paths only
# while copying, and appears in no file.
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
DOCDIR ?= $(PREFIX)/share/doc

VERSION := $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' Cargo.toml)
# As in the build scripts: libraries for OpenSSL 4 have a suffix, and are installed beside those for
# OpenSSL 3.
openssl = $(filter-out -openssl3,$(shell pkg-config --modversion libssl | sed 's/^\([0-9]*\).*/-openssl\1/'))
soversion_in = $(shell sed -n 's/^const SOVERSION: &str = "\(.*\)";$$/\1/p' $(1))$(openssl)
SOVERSION = $(call soversion_in,build.rs)
FILE_VERSION = $(VERSION)$(openssl)
FARM_SOVERSION = $(call soversion_in,farm/build.rs)
so = libtssession.so
farm_so = libtssession_farm.so

install_dirs = PREFIX BINDIR LIBDIR INCLUDEDIR MANDIR DOCDIR
# make and the shell expand these, so they are checked before anything is written or removed.
plain = $(shell printf '%s\n' '$(subst ','"'"',$($(1)))' | LC_ALL=C grep -qx '[A-Za-z0-9_./+@:~-]*' && echo yes)
absolute = $(foreach dir,$(install_dirs) DESTDIR,\
  $(if $(call plain,$(dir)),,$(error $(dir) must contain only letters, digits and _./+@:~-)))$(foreach \
  dir,$(install_dirs),$(if $(filter /%,$($(dir))),,$(error $(dir) must be an absolute path, not "$($(dir))")))
# ATS also installs a ts/ts.h, so ours goes to a separate directory.
headerdir = $(INCLUDEDIR)/tssession
cmakedir = $(LIBDIR)/cmake/tssession
docdir = $(DOCDIR)/tssession
pkgconfigdir = $(LIBDIR)/pkgconfig
below_prefix = $(patsubst $(PREFIX)/%,$${prefix}/%,$(1))
from_cmake = $(shell realpath -ms --relative-to=$(cmakedir) $(1))
fill = sed -e 's|@VERSION@|$(VERSION)|; s|@FILE_VERSION@|$(FILE_VERSION)|; s|@PREFIX@|$(PREFIX)|' \
  -e 's|@SOVERSION@|$(SOVERSION)|; s|@FARM_SOVERSION@|$(FARM_SOVERSION)|' \
  -e 's|@LIBDIR@|$(call below_prefix,$(LIBDIR))|; s|@INCLUDEDIR@|$(call below_prefix,$(INCLUDEDIR))|' \
  -e 's|@TO_LIBDIR@|$(call from_cmake,$(LIBDIR))|; s|@TO_INCLUDEDIR@|$(call from_cmake,$(INCLUDEDIR))|'
# Not for a staged copy: this machine's loader does not use it.
tell_loader = [ -n "$(DESTDIR)" ] || [ "$$(id -u)" != 0 ] || ldconfig

# What another user built is installed as it is: under sudo, cargo would rebuild
# it as root, or not be found.
built_by_another := $(shell [ ! -e $(release)/$(so) ] || [ -O $(release)/$(so) ] || echo yes)
all_are_built = $(foreach file,$(libraries) $(preload) $(program),$(if $(wildcard $(file)),,$(error $(file) is missing: run make first)))

# $(call install_library,FILE,SOVERSION): installs it under the names that loader and linker use.
define install_library
install -m 755 $(release)/$(1) $(DESTDIR)$(LIBDIR)/$(1).$(FILE_VERSION)
ln -sf $(1).$(FILE_VERSION) $(DESTDIR)$(LIBDIR)/$(1).$(2)
ln -sf $(1).$(2) $(DESTDIR)$(LIBDIR)/$(1)
endef
installed_library = $(addprefix $(DESTDIR)$(LIBDIR)/,$(1) $(1).$(2) $(1).$(FILE_VERSION))

install: $(if $(built_by_another),,$(libraries) $(preload) $(program))  ## install into PREFIX (/usr/local)
	$(absolute)$(all_are_built)install -d -m 755 \
	  $(addprefix $(DESTDIR),$(BINDIR) $(pkgconfigdir) $(cmakedir) $(headerdir)/ts $(MANDIR)/man1 $(MANDIR)/man3 $(docdir))
	$(call install_library,$(so),$(SOVERSION))
	$(call install_library,$(farm_so),$(FARM_SOVERSION))
	$(if $(preload),install -m 755 $(preload) $(DESTDIR)$(LIBDIR))
	install -m 755 $(program) $(DESTDIR)$(BINDIR)
	install -m 644 include/ts/*.h $(DESTDIR)$(headerdir)/ts
	install -m 644 man/*.1 $(DESTDIR)$(MANDIR)/man1
	install -m 644 man/*.3 $(DESTDIR)$(MANDIR)/man3
	install -m 644 farm/farm.example.toml $(DESTDIR)$(docdir)
	install -m 644 packaging/prometheus/tssession.rules.yml packaging/prometheus/ats9-metrics.sh $(DESTDIR)$(docdir)
	$(fill) packaging/tssession.pc.in >$(DESTDIR)$(pkgconfigdir)/tssession.pc
	$(fill) packaging/tssession-farm.pc.in >$(DESTDIR)$(pkgconfigdir)/tssession-farm.pc
	$(fill) packaging/tssessionConfig.cmake.in >$(DESTDIR)$(cmakedir)/tssessionConfig.cmake
	$(fill) packaging/tssessionConfigVersion.cmake.in >$(DESTDIR)$(cmakedir)/tssessionConfigVersion.cmake
	chmod 644 $(DESTDIR)$(pkgconfigdir)/tssession*.pc $(DESTDIR)$(cmakedir)/*
	$(tell_loader)

uninstall:  ## remove what install installed
	$(absolute)rm -f $(call installed_library,$(so),$(SOVERSION)) $(call installed_library,$(farm_so),$(FARM_SOVERSION))
	rm -f $(addprefix $(DESTDIR)$(pkgconfigdir)/,tssession.pc tssession-farm.pc)
	rm -f $(DESTDIR)$(LIBDIR)/libtssession_preload.so $(DESTDIR)$(BINDIR)/$(notdir $(program))
	rm -f $(foreach section,1 3,$(addprefix $(DESTDIR)$(MANDIR)/man$(section)/,$(notdir $(wildcard man/*.$(section)))))
	rm -rf $(DESTDIR)$(headerdir) $(DESTDIR)$(cmakedir) $(DESTDIR)$(docdir)
	$(tell_loader)

installcheck:  ## check the installed files, and the examples built with them
	@$(absolute)$(foreach name,DESTDIR FILE_VERSION VERSION SOVERSION FARM_SOVERSION CC $(install_dirs),$(name)='$($(name))') packaging/installcheck.sh

install-test: deps-test $(libraries) $(preload) $(program)  ## test install, uninstall and installcheck
	MAKE='$(MAKE)' packaging/install-test.sh $(libraries) $(preload) $(program)
