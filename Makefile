# The commands of the house. `make` alone lists them; what each needs is installed first by scripts/setup.

PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo
# The lock file is part of the source: what CI tested is what you build.
CARGO_FLAGS ?= --locked
ARGS ?=

binary = target/release/selvedge
bindir = $(PREFIX)/bin
completions = bash:$(PREFIX)/share/bash-completion/completions/selvedge \
	zsh:$(PREFIX)/share/zsh/site-functions/_selvedge \
	fish:$(PREFIX)/share/fish/vendor_completions.d/selvedge.fish

.PHONY: help demo test test-kernels bench build install uninstall deb fmt lint codegen clean
.DEFAULT_GOAL := help

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' Makefile

demo: ## show a mesh carrying real traffic (as root; ARGS=--keep leaves it up)
	@scripts/setup build demo
	$(CARGO) build $(CARGO_FLAGS) --release --package selvedge-cli
	$(binary) demo $(ARGS)

test: ## run every test; skipped ones are listed and counted
	@scripts/setup build demo test
	@CARGO="$(CARGO)" scripts/test $(CARGO_FLAGS) $(ARGS)

test-kernels: ## run the kernel tests on Debian's 6.1 and 6.12 kernels in a virtual machine
	@scripts/setup build
	@CARGO="$(CARGO)" scripts/test-kernels $(ARGS)

bench: ## measure against no mesh and against rivals (as root)
	@scripts/setup build demo bench
	$(CARGO) build $(CARGO_FLAGS) --release --package selvedge-cli
	$(binary) bench $(ARGS)

build: ## build the binary
	@scripts/setup build
	$(CARGO) build $(CARGO_FLAGS) --release --package selvedge-cli

install: build ## install binary, systemd unit and completions (PREFIX, DESTDIR)
	install -D -m 755 $(binary) $(DESTDIR)$(bindir)/selvedge
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's|@bindir@|$(bindir)|g' packaging/selvedge.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/selvedge.service
	chmod 644 $(DESTDIR)$(PREFIX)/lib/systemd/system/selvedge.service
	install -D -m 644 packaging/selvedge.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/selvedge.conf
	set -e; for pair in $(completions); do \
		file=$(DESTDIR)$${pair#*:}; install -d "$${file%/*}"; \
		$(binary) completions "$${pair%%:*}" >"$$file"; chmod 644 "$$file"; \
	done
	@test -n "$(DESTDIR)" || packaging/after-install

uninstall: ## remove what install put in place
	rm -f $(DESTDIR)$(bindir)/selvedge $(DESTDIR)$(PREFIX)/lib/systemd/system/selvedge.service \
		$(DESTDIR)$(PREFIX)/lib/sysusers.d/selvedge.conf \
		$(foreach pair,$(completions),$(DESTDIR)$(lastword $(subst :, ,$(pair))))

deb: ## build a Debian package under target/debian
	@scripts/setup build deb
	PATH="$$PATH:$${CARGO_HOME:-$$HOME/.cargo}/bin" $(CARGO) deb $(CARGO_FLAGS) --package selvedge-cli

fmt: ## format the source
	$(CARGO) fmt --all

lint: ## check format and lints; a warning is an error
	@scripts/setup build lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings

codegen: ## write the generated pages of docs/
	$(CARGO) xtask codegen

clean: ## remove what building made
	$(CARGO) clean
