# Everything a person does here. `make demo` first; `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := botify examples

# Tests mostly wait for servers, so three processes share the files even where there are two cores only. They keep the
# order of tests/conftest.py: by itself, xdist would leave files with one long test to the end.
PROCESSES ?= 3
UNIVERSES ?= 10000
PARALLEL := --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help install demo test unit compile universes mutants nightly bench figures notebooks screenshots docs audit fmt lint type check requirements clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.run ## Install into .venv, without what the tests need

demo: $(VENV)/.run ## Run an experiment on a new stack and print its results
	@$(BIN)/botify demo

test: compile ## All tests but the nightly ones, the fast ones first; those with real servers start their own
	@$(BIN)/pytest $(PARALLEL) -m "not nightly" --doctest-modules tests $(PACKAGES)

unit: compile ## The tests that need no server, and the examples in the docstrings
	@$(BIN)/pytest $(PARALLEL) --doctest-modules tests/unit tests/simulation tests/soak $(PACKAGES)

compile: $(VENV)/.test ## Fill the cache of what numba compiles, once for all processes
	@$(BIN)/python -m botify.streams.compiled

universes: $(VENV)/.test ## Run 10,000 simulated universes on two processes, with other seeds each day (docs/simulation.md)
	@PYTHONPATH=. $(BIN)/python -m tests.simulation --seeds $(UNIVERSES) --processes 2

mutants: $(VENV)/.test ## Remove conditions of the shipped code one by one; some universe must fail without each
	@PYTHONPATH=. $(BIN)/python -m tests.simulation.mutants --processes 2

nightly: compile universes ## Run what takes too long for each change: universes, Compose, notebooks, course, upgrade, Spark, containers
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[spark]'
	@BOTIFY_TEST_SERVERS=embedded $(BIN)/pytest $(PARALLEL) -m nightly tests
	@BOTIFY_TEST_SERVERS=docker $(BIN)/pytest $(addprefix tests/integration/,core schemas security streams/store)

bench: compile ## Measure; writes docs/figures.json and the pages that quote it, or AGAINST=REV compares
	@$(BIN)/python -m botify.bench $(if $(AGAINST),--against $(AGAINST),--record)

figures: compile ## Record what pages quote and is not recorded, or older than the code it measures (hours)
	@$(BIN)/python -m botify.bench.record $(GROUPS)

notebooks: $(VENV)/.test ## Run all notebooks on new data, and write their outputs (about five minutes)
	@$(BIN)/python -m botify.analytics.notebooks.run

screenshots: $(VENV)/.test ## Save a picture of each dashboard page in screenshots/; needs Debian's chromium
	@$(BIN)/python -m tests.screenshots

docs: $(VENV)/.test ## Build the documentation site in build/site; a broken link fails
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

audit: ## Check the pinned dependencies for known vulnerabilities, if api.osv.dev can be reached
	@if $(PYTHON) -c "import urllib.request as r; r.urlopen('https://api.osv.dev/docs', timeout=10)" 2>/dev/null; then \
	  $(PYTHON) -m venv $(VENV)-audit && $(VENV)-audit/bin/pip install --quiet pip-audit && \
	  $(VENV)-audit/bin/pip-audit --vulnerability-service osv --disable-pip --require-hashes --requirement requirements.txt; \
	else echo "audit: api.osv.dev is not reached from here, so nothing was looked up"; fi

fmt: $(VENV)/.test ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lint: $(VENV)/.test ## Check format, style and the rules of import
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@PYTHONPATH=. $(BIN)/lint-imports --no-cache

type: $(VENV)/.test ## Check types
	@$(BIN)/mypy

check: lint type unit ## Run all checks that a commit needs: lint, types, unit tests

requirements: $(VENV)/.test ## Pin the newest versions that pyproject.toml allows, with hashes
	@$(BIN)/pip install --quiet uv
	@$(BIN)/uv pip compile -q -U --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header pyproject.toml -o requirements.txt
	@$(BIN)/uv pip compile -q -U --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --extra test --extra docs pyproject.toml -o requirements-test.txt

clean: ## Remove the environment, what was built, and all data
	@rm -rf $(VENV) $(VENV)-audit build .botify

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(f"Botify needs Python 3.11 or newer, {sys.executable} is {sys.version.split()[0]}; try make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv $(VENV)

PIP := $(BIN)/pip install --quiet --disable-pip-version-check --no-deps
# What `streams.compiled` imports. It compiles while pip installs the rest, so that no process compiles when it starts.
FOR_COMPILER := aiokafka|annotated-types|async-timeout|confluent-kafka|cramjam|fastavro|hiredis|llvmlite|mmh3|numba|numpy|packaging|pydantic|pydantic-core|redis|scipy|typing-extensions|typing-inspection

# The first argument is the file of requirements. Nothing is resolved here, as the pins are complete: with hashes, pip before
# 23.3 takes the newest version of a package that another one wants with extras, and refuses it because it is not pinned.
# Removed is the distribution's name before 0.3: its commands would be there twice.
define install_checkout
@awk '/^[^ ]/ {take = $$1 ~ /^($(FOR_COMPILER))==/} take' $(1) >$(VENV)/compiler.txt
@$(PIP) --require-hashes -r $(VENV)/compiler.txt
@PYTHONPATH=. $(BIN)/python -m botify.streams.compiled & compiler=$$!; \
  $(PIP) --require-hashes -r $(1) && rm -rf botify.egg-info && $(BIN)/pip uninstall -qqq --yes botify && $(PIP) -e . && \
  wait $$compiler
endef

$(VENV)/.run: requirements.txt pyproject.toml | $(VENV)/bin/python
	@echo "installing into $(VENV) (once)"
	$(call install_checkout,requirements.txt)
	@touch $@

$(VENV)/.test: requirements-test.txt pyproject.toml | $(VENV)/bin/python
	@echo "installing into $(VENV), with what the tests need (once)"
	$(call install_checkout,requirements-test.txt)
	@$(BIN)/pip check --disable-pip-version-check
	@touch $@ $(VENV)/.run
