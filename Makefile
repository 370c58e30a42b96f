# Tidegate's phone book: one line a recipe. What needs more is Rust, or a script beside what it drives.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run build test quick lint docs licences simulate loom fuzz flood interop ci clean

ARGS ?=
TOOLS := target/tools/bin

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 12 | sed 's/^/make /'

run: ## build and run one gateway on this machine (ARGS='--shards 2')
	cargo run --release --locked -p gateway --bin tidegate -- run $(ARGS)

build: ## build both programs: target/release/tidegate and target/release/tidegate-flood
	cargo build --release --locked

test: ## everything CI needs to know about behaviour: unit tests, router worlds, stories over sockets
	cargo test --workspace --locked

quick: ## the part of it that needs no sockets and no sleep: codec and shard-router, in seconds
	cargo test --locked -p tidegate-codec -p tidegate-shard-router

simulate: ## shards in a seeded world, in release (SEED=7 STEPS=2000 for one seed, SEEDS=10000 for many)
	cargo test --release --locked -p tidegate-shard-router --test simulation -- --nocapture

loom: ## the sleep and wake protocol between shards, in every order of its steps
	RUSTFLAGS='--cfg loom' cargo test --release --locked --target-dir target/loom -p tidegate-shard-router --test loom

fuzz: ## feed one fuzz target for a while; alone it lists them (TARGET=mqtt_frame SECONDS=600)
	ops/fuzz '$(TARGET)' $(SECONDS)

lint: docs licences ## format, lints, documents, licences, tidiness
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

docs: ## build the API documents; broken links are errors
	RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc --workspace --no-deps --locked --document-private-items

licences: $(TOOLS)/cargo-deny ## licences, duplicate and unknown sources of all dependencies
	$(TOOLS)/cargo-deny --all-features --config .cargo/deny.toml check licenses bans sources

$(TOOLS)/cargo-deny:
	cargo install cargo-deny --version 0.20.2 --locked --no-default-features --root target/tools --target-dir target/tools/build

flood: ## the flooder against a gateway that runs here (ARGS='p2p --clients 1000 --qos 1 --duration 10')
	cargo run --release --locked -p loadtest --bin tidegate-flood -- $(if $(ARGS),$(ARGS),--help)

interop: build ## foreign clients (paho, mqtt.js, mosquitto, rumqttc) against a gateway of their own
	ops/interop/run --gateway target/release/tidegate $(ARGS)

ci: lint test loom ## what .ci/run calls

clean: ## remove everything that was built
	cargo clean
