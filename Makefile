# Lockstep's entry points. `make` alone lists them.
#
# Why one profile and one target directory everywhere: RocksDB is compiled from source, about 15
# minutes on two cores, and cargo compiles it again for every other profile. All targets below share
# one compilation; a plain `cargo build` (another profile) works, but compiles RocksDB once more.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

# Outside of the repository, so that several clones share it.
CARGO_TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(HOME)/.cache/lockstep/target)
export CARGO_TARGET_DIR
export PATH := $(PATH):$(HOME)/.cargo/bin

CARGO_FLAGS := --release --locked
BIN := $(CARGO_TARGET_DIR)/release
# Compares the generated code with the .proto files, or writes it: a workspace of its own, see there.
GENERATE := cargo test $(CARGO_FLAGS) --manifest-path proto/generate/Cargo.toml

# Where `make install` puts programs.
PREFIX = $(HOME)/.local

# For the targets that say so: make run ARGS=--check
ARGS =
# Which drill.
NAME =
# How long `make fuzz` goes on.
SECONDS = 600
# Short drills in `make e2e`: so many cycles each, and never longer than this many seconds.
E2E_DRILLS := kill:5 partition:3 pause:3 clock:2 disk-full:2 roll:2 scale:1 lose-disk:1 driver-kill:2 recover:1 restore:1 deadlock:2
E2E_LIMIT := 170

# How many nodes `make compose-scale` leaves.
N =
# Where images get their programs from: `source` compiles them in the image, `prebuilt` takes those of `build`.
BINARIES := $(or $(BINARIES),source)
export BINARIES

.PHONY: faketime help setup build run test e2e e2e-compose e2e-kube operator install test-operator check-model test-check gen-crds bench-locks drill drill-name fuzz gen fmt fmt-check lint deny \
	images compose-up compose-down compose-scale ci clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## Install or name what the build needs; says nothing when all is there
	@scripts/setup.sh

build: setup ## Build all programs
	cargo build $(CARGO_FLAGS) --workspace --bins --examples

run: build ## Start three nodes and show what their locks promise (ARGS=--check: then exit)
	@'$(BIN)/lockstep-demo' $(ARGS)

# One test at a time: those with real processes each want both processors. They run the programs of
# `build`, which `cargo test` does not renew.
test: build ## Run all tests (ARGS="-- NAME": those whose names contain NAME)
	$(GENERATE)
	RUST_TEST_THREADS=1 cargo test $(CARGO_FLAGS) --workspace --no-fail-fast $(ARGS)

# SIGINT lets a drill that takes too long end the nodes that it started.
e2e: build faketime ## Run short drills on real processes under load, at most ten minutes
	@trap 'exit 130' INT; failed=0; for drill in $(E2E_DRILLS); do \
		timeout --foreground --signal=INT --kill-after=20 $(E2E_LIMIT) \
			'$(BIN)/lockstep-drill' "$${drill%:*}" --cycles "$${drill#*:}" --clients 32 \
			|| { echo "drill $$drill failed with code $$?"; failed=1; }; \
	done; exit "$$failed"

# Says so and does nothing where there is no Docker engine.
e2e-compose: build ## Break a cluster of containers under load (ARGS="up kill": these scenarios)
	@e2e/compose/run '$(BIN)' $(ARGS)

# A workspace of its own, because the Kubernetes client would have RocksDB compiled anew; see there.
operator: ## Build the Kubernetes operator and the kubectl plugin
	cargo build $(CARGO_FLAGS) --manifest-path operator/Cargo.toml

install: build operator ## Install lockstepctl and the kubectl plugin (PREFIX=~/.local)
	install -D -m 0755 -t '$(PREFIX)/bin' '$(BIN)/lockstepctl' '$(BIN)/kubectl-lockstep'

test-operator: setup ## Format, lint and test the operator
	cargo fmt --manifest-path operator/Cargo.toml --check
	cargo clippy $(CARGO_FLAGS) --manifest-path operator/Cargo.toml --all-targets -- -D warnings
	cargo test $(CARGO_FLAGS) --manifest-path operator/Cargo.toml

# A workspace of its own as well; see there.
check-model: setup ## Explore all orders of events of small clusters, about 5 minutes (ARGS=--quick: one; or scenarios)
	cargo run $(CARGO_FLAGS) --manifest-path check/Cargo.toml -- $(ARGS)

test-check: setup ## Format, lint and test the model check, within small bounds
	cargo fmt --manifest-path check/Cargo.toml --check
	cargo clippy $(CARGO_FLAGS) --manifest-path check/Cargo.toml --all-targets -- -D warnings
	cargo test $(CARGO_FLAGS) --manifest-path check/Cargo.toml

gen-crds: operator ## Generate the definition of SyncCluster anew from its types
	'$(BIN)/lockstep-operator' crd >crds/lockstep.dev_syncclusters.yaml
	'$(BIN)/lockstep-operator' crd --chart >charts/lockstep-crds/templates/syncclusters.yaml

# Says so and does nothing where there is no Kubernetes and none can be started.
e2e-kube: build operator ## Run the scenarios on $KUBECONFIG, or on a Kubernetes of its own (ARGS="install create")
	@e2e/kube/local '$(BIN)' '$(BIN)/lockstep-operator' $(ARGS)

images: $(if $(filter prebuilt,$(BINARIES)),build operator) ## Build the container images (BINARIES=prebuilt: with the programs of `build` and `operator`)
	@docker/images '$(BIN)'

compose-up: $(if $(filter prebuilt,$(BINARIES)),build) ## Start a cluster of three nodes in containers
	@docker/images '$(BIN)' node cli
	@docker/up

compose-down: ## Stop it; its data stays
	@docker/down

compose-scale: ## Make it have N=5 nodes; those that leave are emptied first
	@docker/scale '$(N)'

# Debian's etcd is fetched where there is none; where that fails, Lockstep is measured alone.
bench-locks: build ## Measure locks beside etcd's, about 8 minutes; figures and picture: bench/results/ (ARGS)
	@LOCKSTEP_ETCD="$$(bench/etcd '$(CARGO_TARGET_DIR)/etcd')" '$(BIN)/bench-locks' $(ARGS)

# The drill `clock` shifts the wall clock of a node with it.
faketime:
	@ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || ! command -v apt-get >/dev/null || \
		$$([ "$$(id -u)" = 0 ] || echo sudo) apt-get install -y -qq faketime

drill: drill-name build ## Run a drill: NAME=kill ARGS="--cycles 100 --clients 64"
	@'$(BIN)/lockstep-drill' '$(NAME)' $(ARGS)

drill-name:
	@test -n '$(NAME)' || { echo 'which drill? NAME=kill; all: $(foreach drill,$(E2E_DRILLS),$(firstword $(subst :, ,$(drill))))'; exit 2; }

fuzz: setup ## Feed the decoders random bytes for SECONDS=600
	cargo run $(CARGO_FLAGS) -p lockstep-model --example fuzz_codecs -- --seconds $(SECONDS)

gen: setup ## Generate proto/src/gen anew from the .proto files
	LOCKSTEP_GEN=write $(GENERATE)

fmt: ## Format the code
	cargo fmt --all

fmt-check: ## Fail if the code is not formatted
	cargo fmt --all --check

lint: setup fmt-check ## Fail on clippy's warnings and on code that is not formatted
	cargo clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings

deny: ## Check dependencies' licences, duplicates and sources (needs cargo-deny)
	@command -v cargo-deny >/dev/null || { echo 'cargo-deny is missing: cargo install --locked cargo-deny'; exit 1; }
	cargo deny --locked check bans licenses sources

ci: ## Run what has to pass before a change lands
	@.ci/run

clean: ## Remove all that was built, RocksDB included, and the demo's data
	cargo clean
	rm -rf data
