SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules

PYTHON ?= python3
BIN := .venv/bin
T ?= tests
SOURCES := packages/common/src services/gateway/src services/llm/src services/formatter/src

##@ Everyday
help: ## Show this list
	@awk 'BEGIN {FS=":.*## "} /^##@ /{print "\n" substr($$0,5)} /^[a-z0-9-]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .state/setup ## Create .venv with everything that running and testing need
.state/setup: scripts/setup.sh $(wildcard requirements/*.txt) $(wildcard packages/*/pyproject.toml services/*/pyproject.toml protos/pyproject.toml) $(wildcard tests/llm/clients/package*.json)
	PYTHON="$(PYTHON)" scripts/setup.sh
	mkdir -p .state && touch $@

run: setup ## Start the three services (and, without platform credentials, the simulator)
	$(BIN)/python scripts/run.py

test: setup ## Run the tests; T=path narrows
	$(BIN)/pytest $(T) -m "not slow" -n 4 --dist worksteal

##@ Checks
check: setup lint types test slow docs ## Everything that CI runs

lint: setup ## Formatting, lint, import directions, protos and their stubs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/yamllint --strict .
	$(BIN)/buf lint protos
	scripts/check-stubs.sh
	scripts/check-sizes.sh

types: setup ## Strict type checks
	$(BIN)/mypy $(SOURCES) tests benchmarks scripts examples

slow: setup ## The tests that `make test` leaves out
	$(BIN)/pytest tests -m slow -n 2 --dist worksteal --timeout 300

docs: setup ## Documents: links, options, commands
	$(BIN)/pytest tests/docs -q

##@ Maintenance
format: setup ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: ## Generate the stubs in protos/gen
	scripts/proto.sh

soak: setup ## Run the long tests under load; results go to benchmarks/results
	scripts/soak.sh

bench: setup ## Run the benchmarks; results go to benchmarks/results
	scripts/bench.sh

clean: ## Remove what the other targets made, ./data excepted
	rm -rf .venv .state .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

.PHONY: help setup run test check lint types slow docs format proto soak bench clean
