# Make is the only door. Everything lands in .venv/ and .brain/ here, or in the user's cache folder.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The first Python of a supported version; PYTHON=… chooses another.
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOCK := $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock"
ONLY ?=
# One more process of tests than there are cores, at most four: much of a test is waiting for a room, a server or a clock.
WORKERS ?= $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN) < 4 ? $$(getconf _NPROCESSORS_ONLN) + 1 : 4 )))
SPREAD := -n $(WORKERS) --dist loadgroup --no-loadscope-reorder
# One thread for each numeric library: several processes share the cores.
export OMP_NUM_THREADS ?= 1
# A stack is many processes: where the environment forbids to keep bytecode, each would compile its sources again.
export PYTHONDONTWRITEBYTECODE :=
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help
help: ## Show what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1|\2/' | column -t -s '|'

$(READY): requirements/dev.txt requirements/bootstrap.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed and was not found; set PYTHON=/path/to/python."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (about a minute; 6 GB, most of it the engine) …"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@$(BIN)/uv pip sync -q --require-hashes requirements/dev.txt
	@$(BIN)/uv pip install -q --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: setup
setup: $(READY) ## Install everything into .venv/

.PHONY: demo
demo: setup ## Take the tour: ingest the example documents and ask them (under 10 minutes, set-up included)
	@$(BIN)/python examples/demo.py

.PHONY: demo-tuning
demo-tuning: setup ## Tune on the example documents: rows, estimate, training, adapter, deletion (after demo, under 20 minutes)
	@$(BIN)/python examples/demo_tuning.py

.PHONY: run
run: setup ## Keep the stack up: prints the address, an API key, and how to ask
	@$(BIN)/python -m services.local --port $(or $(PORT),8080)

.PHONY: test
test: setup ## Unit, contract, architecture and end-to-end tests, the last on the real engine
	@$(BIN)/python -m pytest $(SPREAD) -m "not cluster" \
	  tests/unit tests/contract tests/architecture tests/e2e

.PHONY: test-conformance
test-conformance: setup ## The official SDKs, oldest and newest supported, against the real gateway
	@$(BIN)/python -m tests.conformance

.PHONY: test-cluster
test-cluster: setup ## Contracts and end-to-end tests on real Kafka, Weaviate, Redis, PostgreSQL and S3, which it brings and starts
	@$(BIN)/python -m tests.cluster $(SPREAD)

.PHONY: test-faults
test-faults: setup ## Kill rooms, poison documents, and see that nothing is lost
	@$(BIN)/python -m pytest tests/faults

.PHONY: test-faults-cluster
test-faults-cluster: setup ## The same and more on the back ends of a cluster, whose servers are killed and frozen, too
	@$(BIN)/python -m tests.cluster tests/faults

.PHONY: test-faults-release
test-faults-release: setup ## The same and more at release size, also on a cluster's servers; writes docs/faults.md (hours)
	@$(BIN)/python -m tests.faults $(ONLY)

.PHONY: test-training
test-training: setup ## Every stage of training in one chain, each judged on held-out rows (long; not in CI)
	@$(BIN)/python -m benchmarks.stages

.PHONY: check
check: setup ## Format, lint, types, imports, protos and locks
	@$(BIN)/ruff format --check -q . || { echo "Run 'make format'."; exit 1; }
	@$(BIN)/ruff check -q .
	@$(BIN)/mypy .
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/buf lint protos
	@$(BIN)/buf breaking protos --against protos/released.binpb
	@$(MAKE) protos && test -z "$$(git status --porcelain protos/gen)" || { echo "protos/gen is not what the protos say: run 'make protos' and commit."; exit 1; }
	@for name in dev bootstrap; do cp requirements/$$name.txt /tmp/brain-lock-$$$$.txt; \
	  $(MAKE) lock-$$name OUT=/tmp/brain-lock-$$$$.txt; \
	  diff -q requirements/$$name.txt /tmp/brain-lock-$$$$.txt >/dev/null || { echo "requirements/$$name.txt is not what pyproject.toml says: run 'make lock' and commit."; exit 1; }; \
	  rm -f /tmp/brain-lock-$$$$.txt; done

.PHONY: format
format: setup ## Format and mend what can be mended
	@$(BIN)/ruff format -q .
	@$(BIN)/ruff check -q --fix .

.PHONY: protos
protos: setup ## Generate protos/gen
	@$(BIN)/python scripts/gen_protos.py

.PHONY: release-protos
release-protos: setup ## Take the protos as they are for the released ones
	@$(BIN)/buf build protos -o protos/released.binpb

.PHONY: lock lock-dev lock-bootstrap lock-conformance
lock: lock-dev lock-bootstrap lock-conformance ## Lock the dependencies again, with hashes and without index addresses
lock-dev:
	@$(LOCK) --override requirements/overrides.txt --extra dev pyproject.toml -o $(or $(OUT),requirements/dev.txt)
lock-bootstrap:
	@$(LOCK) requirements/bootstrap.in -o $(or $(OUT),requirements/bootstrap.txt)
lock-conformance:
	@for name in openai-oldest openai-newest cohere-oldest cohere-newest; do \
	  $(LOCK) requirements/conformance-$$name.in -o requirements/conformance-$$name.txt; done

.PHONY: bench
bench: setup ## Measure; ONLY=name for one of benchmarks/
	@for name in $(or $(ONLY),$(basename $(notdir $(filter-out benchmarks/_%,$(wildcard benchmarks/*.py))))); do \
	  echo "== $$name"; $(BIN)/python -m benchmarks.$$name; done

.PHONY: clean
clean: ## Remove .venv/ and .brain/
	@rm -rf $(VENV) .brain
