# The commands of chancery's developers. `make help` lists them.

CARGO ?= cargo
DATA  ?=

.DEFAULT_GOAL := help
.PHONY: help setup build test demo up lint tools openapi bench deny clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what is missing (idempotent; says what to do where it may not)
	@./scripts/setup.sh

build: setup ## Build everything
	$(CARGO) build --workspace --all-targets

test: setup lint ## Lint, then run every test
	$(CARGO) nextest run --workspace
	$(CARGO) test --doc --workspace --quiet

lint: setup ## Formatting, clippy without warnings, and the officials' tools without a TPM library
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy -p chancery --lib --bins --no-default-features --features tools -- -D warnings

# By way of the environment, so that a path may hold whatever a path can: quotes, dollars, spaces.
unexport DATA
demo: export DEMO_DATA = $(value DATA)
demo: setup ## The whole story on simulated hardware: make demo [DATA=file or directory]
	$(CARGO) build --bin chancery --example demo
	@$(CARGO) run --quiet --example demo -- $${DEMO_DATA:+"$$DEMO_DATA"}

up: export DEMO_DATA = $(value DATA)
up: setup ## Found a network on simulated hardware, leave it running, and say what to try
	$(CARGO) build --bin chancery --example demo
	@$(CARGO) run --quiet --example demo -- --up $${DEMO_DATA:+"$$DEMO_DATA"}

openapi: setup ## Write the API's description anew (docs/openapi.json)
	CHANCERY_WRITE_OPENAPI=1 $(CARGO) nextest run -p chancery --test service description

bench: setup ## Measure; docs/performance.md says how to read it
	$(CARGO) bench --workspace

deny: ## Licences, sources and doubled crates (needs cargo-deny)
	$(CARGO) deny --all-features check bans licenses sources

clean: ## Remove what was built here (the cached tpm2-tss stays)
	$(CARGO) clean
