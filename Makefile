# The project's commands. Everything they download or build beside the checkout goes to HOLDFAST_CACHE.
#
#   make run     command 1: a durable node, on a fresh Debian with Rust, until ctrl-C
#   make test    command 2: the tests

# A service or a container may start without a home.
ifndef HOME
export HOME := $(shell getent passwd "$$(id -u)" | cut -d : -f 6)
endif
# Absolute, because scripts go to other directories; and cargo is told where its results go, because somebody's own
# configuration of cargo may have them elsewhere.
absolute = $(if $(filter /%,$(firstword $(1))),$(1),$(CURDIR)/$(1))
override HOLDFAST_CACHE := $(call absolute,$(or $(HOLDFAST_CACHE),$(HOME)/.cache/holdfast))
# What .ci/run is told: it has a default of its own.
given_target := $(CARGO_TARGET_DIR)
override CARGO_TARGET_DIR := $(call absolute,$(or $(CARGO_TARGET_DIR),target))
export HOLDFAST_CACHE CARGO_TARGET_DIR
unexport CARGO_BUILD_TARGET
# What is passed on, as in: make run ARGS="--listen-client-urls=http://0.0.0.0:2379"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help
help: ## this list
	@echo "Holdfast: an etcd-compatible datastore for Kubernetes. Commands:"
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20
	@echo "Caches: HOLDFAST_CACHE=$(HOLDFAST_CACHE), CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)"

.PHONY: setup
setup: ## what builds need: g++, libclang and RocksDB, once per machine (4 min the first time)
	@scripts/rocksdb >/dev/null

.PHONY: build
build: setup ## target/release/etcd-shim
	cargo build --release --locked --package etcd-shim

# exec: a signal for make reaches the node, not a shell between them.
.PHONY: run
run: build ## a durable node with its data in ./default.etcd, until ctrl-C
	@exec scripts/run "$$CARGO_TARGET_DIR/release/etcd-shim" $(ARGS)

.PHONY: test
test: setup ## all tests but the long ones of .ci/run; needs Go for the real etcd that golden scripts compare with
	@scripts/peers etcd >/dev/null
	cargo test --workspace --locked $(ARGS)
	$(if $(ARGS),,cargo test --workspace --bench '*' --locked)

.PHONY: kubernetes
kubernetes: build ## a real kube-apiserver on a fresh node, until ctrl-C (SERVER=path: on another etcd; TRANSPORT=mtls|unix|plain)
	@SERVER="$(or $(SERVER),$(CARGO_TARGET_DIR)/release/etcd-shim)" scripts/kubernetes $(ARGS)

.PHONY: lint
lint: setup ## formatting, clippy and documentation without a warning
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --document-private-items

.PHONY: fmt
fmt: ## formats the Rust and the Go sources
	cargo fmt --all
	scripts/go gofmt -l -w tests/kubernetes

.PHONY: fuzz
fuzz: setup ## fuzzes every target for a minute, with the same inputs for the same tree (FUZZ_SECONDS=n FUZZ_SEED=n; ARGS="TARGET...")
	FUZZ_SEED=$(or $(FUZZ_SEED),1) scripts/fuzz $(or $(FUZZ_SECONDS),60) $(ARGS)

.PHONY: fuzz-night
fuzz-night: setup ## every target for an hour, with inputs drawn anew and from what earlier nights found: six hours on two cores
	scripts/fuzz $(or $(FUZZ_SECONDS),3600) $(ARGS)

.PHONY: bench
bench: setup ## the benches, 30 min (BENCH=log: one; SAVE=name keeps the figures, BASELINE=name compares; ARGS="FILTER")
	cargo bench --package holdfast-benches --bench '$(or $(BENCH),*)' --locked -- \
		$(if $(SAVE),--save-baseline $(SAVE)) $(if $(BASELINE),--baseline-lenient $(BASELINE)) $(ARGS)

.PHONY: cost
cost: setup ## instructions of a put, a get, a page, a watch event; fails at 1.5 times the record (ARGS=--record: anew)
	scripts/cost $(ARGS)

.PHONY: ci
ci: ## everything that continuous integration runs
	$(if $(given_target),,env -u CARGO_TARGET_DIR) .ci/run

.PHONY: clean
clean: ## removes build results of this checkout; HOLDFAST_CACHE and data stay
	cargo clean

.PHONY: compare
compare: setup ## measures Holdfast beside etcd 3.6 and 3.7 on this disk; writes compare.json and compare.html (25 min; WITH=kine)
	@scripts/compare $(ARGS)

.PHONY: soak
soak: build ## ten minutes of a mixed load; fails when something grows (MINUTES=N)
	cargo build --release --locked --package holdfast-benches --bin soak
	exec "$$CARGO_TARGET_DIR/release/soak" --minutes $(or $(MINUTES),10) --program "$$CARGO_TARGET_DIR/release/etcd-shim" $(ARGS)
