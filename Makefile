# The commands of the house. `make` alone lists them; what each needs is installed first by scripts/setup.

PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo
# The lock file is part of the source: what CI tested is what you build.
CARGO_FLAGS ?= --locked
ARGS ?=

# What is installed and measured is optimised as a whole, which takes minutes; the demo is built sooner.
binary = target/dist/selvedge
sooner = target/release/selvedge
to = $(DESTDIR)$(PREFIX)
completions = target/completions

.PHONY: help demo demo-pilot test test-kernels bench bench-pilot bench-live build install uninstall deb fmt lint codegen clean
.DEFAULT_GOAL := help

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' Makefile

demo: ## show a mesh carrying real traffic (as root; ARGS=--keep leaves it up)
	@scripts/setup build demo
	$(CARGO) build $(CARGO_FLAGS) --release --package selvedge-cli
	$(sooner) demo $(ARGS)

demo-pilot: ## show limits that follow from an objective while half of the capacity goes away (as root)
	@scripts/setup build demo
	$(CARGO) build $(CARGO_FLAGS) --release --package selvedge-cli
	$(sooner) demo pilot $(ARGS)

test: ## run every test; skipped ones are listed and counted
	@scripts/setup build demo test
	@CARGO="$(CARGO)" scripts/test $(CARGO_FLAGS) $(ARGS)

test-kernels: ## run the kernel tests on Debian's 6.1 and 6.12 kernels in a virtual machine
	@scripts/setup build
	@CARGO="$(CARGO)" scripts/test-kernels $(ARGS)

bench: ## measure against no mesh and against rivals (as root)
	@scripts/setup build demo bench
	@scripts/envoy
	$(CARGO) build $(CARGO_FLAGS) --profile dist --package selvedge-cli
	$(CARGO) build $(CARGO_FLAGS) --profile dist --package selvedge-proxy --package selvedge-resilience --examples
	$(binary) bench $(ARGS)

bench-pilot: ## simulate all policies, with parts left out too, and 300 services drawn at random (half an hour)
	@scripts/setup build
	$(CARGO) build $(CARGO_FLAGS) --release --package selvedge-cli
	@scripts/bench-pilot $(sooner) target/bench-pilot $(ARGS)

bench-live: ## play scenarios with real programs under every policy, Envoy's among them (as root; half an hour a round)
	@scripts/setup build demo bench
	@scripts/envoy
	$(CARGO) build $(CARGO_FLAGS) --release --package selvedge-cli
	$(sooner) bench live $(ARGS)

build: ## build the binary and its completions
	@scripts/setup build
	$(CARGO) build $(CARGO_FLAGS) --profile dist --package selvedge-cli
	@mkdir -p $(completions)
	@set -e; for shell in bash zsh fish; do \
		$(binary) completions $$shell >$(completions)/selvedge.$$shell; \
	done

install: build ## put binary, systemd unit and completions in place (PREFIX, DESTDIR)
	install -D -m 755 $(binary) $(to)/bin/selvedge
	install -D -m 644 packaging/selvedge.service $(to)/lib/systemd/system/selvedge.service
	sed -i 's|/usr/bin/selvedge|$(PREFIX)/bin/selvedge|' $(to)/lib/systemd/system/selvedge.service
	install -D -m 644 packaging/sysusers.conf $(to)/lib/sysusers.d/selvedge.conf
	install -D -m 644 $(completions)/selvedge.bash $(to)/share/bash-completion/completions/selvedge
	install -D -m 644 $(completions)/selvedge.zsh $(to)/share/zsh/site-functions/_selvedge
	install -D -m 644 $(completions)/selvedge.fish $(to)/share/fish/vendor_completions.d/selvedge.fish
	@test -n "$(DESTDIR)" || packaging/after-install

uninstall: ## remove what install put in place
	rm -f $(to)/bin/selvedge $(to)/lib/systemd/system/selvedge.service $(to)/lib/sysusers.d/selvedge.conf \
		$(to)/share/bash-completion/completions/selvedge $(to)/share/zsh/site-functions/_selvedge \
		$(to)/share/fish/vendor_completions.d/selvedge.fish

deb: build ## build a Debian package under target/debian
	@scripts/setup deb
	PATH="$$PATH:$${CARGO_HOME:-$$HOME/.cargo}/bin" $(CARGO) deb --no-build --profile dist --package selvedge-cli

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
