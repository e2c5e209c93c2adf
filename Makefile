# Everything here sets itself up: `make demo` and `make test` run on a fresh Debian 12 with root, git, make and Rust.

.DEFAULT_GOAL := help
SHELL := /bin/sh
.PHONY: help setup build demo test fmt clippy doc unit interleavings scenarios deny bench bench-bgp bench-instructions bench-nat bench-peers bench-routes fuzz clean

FUZZ_SECONDS ?= 60
export RUST_BACKTRACE ?= 1

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | while IFS='	' read -r name text; do printf '  make %-20s %s\n' "$$name" "$$text"; done

setup: ## Install what is missing of packages, headers and Rust components
	@./setup.sh

build: setup ## Build the two programs into target/release
	cargo build --locked --release -p gateway

demo: setup ## Show a gateway at work between FRR and two tenants, step by step
	cargo build --locked --release -p gateway -p turnpike-tests --bins
	target/release/demo

test: ## Format, lints, documentation, every unit and property test, every scenario
	@start=$$(date +%s); \
	$(MAKE) --no-print-directory setup fmt clippy doc unit interleavings scenarios && \
	echo "make test: passed: format, clippy, rustdoc, tests, scenarios ($$(( $$(date +%s) - start )) s)" || \
	{ echo "make test: FAILED after $$(( $$(date +%s) - start )) s"; exit 1; }

fmt: setup # Formatting, checked
	cargo fmt --all --check

clippy: setup # Lints, warnings are errors
	cargo clippy --locked --workspace --all-targets -- -D warnings

doc: setup # Documentation of the code, warnings are errors
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

unit: setup # Unit, property and documentation tests
	cargo test --locked --workspace --exclude turnpike-tests

interleavings: setup # Publishing and entering under loom, in every interleaving up to a bound; built with a flag of its own
	cd rib/interleavings && cargo test --locked

scenarios: setup # Both programs between real hosts, in network namespaces
	cargo build --locked -p gateway --bins
	cargo test --locked -p turnpike-tests

# No part of `make test`: cargo-deny takes minutes to build, and an advisory of today would fail a change that has nothing to do with it.
deny: setup ## Check licences, sources and advisories of every dependency (cargo-deny; asks github.com)
	@./setup.sh deny
	cargo deny --locked check

bench: setup ## Run the benchmarks into target/bench
	cargo build --locked --release -p turnpike-tests --bins
	target/release/bench

bench-routes: setup ## Measure route tables: load, lookups, changes, the kernel's mirror
	cargo build --locked --release -p turnpike-tests --bins
	target/release/bench-routes

bench-nat: setup ## Benchmark the connection table and NAT, beside Linux and OVS-DPDK
	@./setup.sh bench-nat
	cargo build --locked --release -p turnpike-tests --bins
	target/release/bench-nat

bench-peers: setup ## Compare with OVS-DPDK in one wiring
	@./setup.sh bench-peers
	cargo build --locked --release -p gateway -p turnpike-tests --bins
	target/release/bench-peers

bench-bgp: setup ## Compare the BGP speaker with FRR, BIRD and GoBGP
	@./setup.sh bench-bgp
	cargo build --locked --release -p turnpike-tests --bin bench-bgp
	target/release/bench-bgp

bench-instructions: setup ## Count instructions a packet with callgrind
	@./setup.sh bench-instructions
	cargo build --locked --release -p turnpike-tests --bins
	target/release/bench-instructions

fuzz: setup ## Fuzz frame parsing, NAT, the standby protocol, and BGP's OPEN, UPDATE and whole streams, for FUZZ_SECONDS (60) each
	@./setup.sh fuzz
	RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir net/fuzz frame -- -max_total_time=$(FUZZ_SECONDS)
	for target in open update stream; do \
		RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir bgp/fuzz $$target -- -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done
	for target in engine standby; do \
		RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir nat/fuzz $$target -- -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done

clean: ## Remove everything that was built
	cargo clean
