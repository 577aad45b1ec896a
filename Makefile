.DEFAULT_GOAL := help
SHELL := /bin/sh

BIN := .venv/bin
# More than there are cores: the tests wait for servers most of the time. Who is through takes tests from the others.
WORKERS ?= 6
PYTEST := .venv/bin/python -m pytest -n $(WORKERS) --dist worksteal

# Keyed on content, not on time, which a clone sets at will, and on this folder, because an environment can't be moved.
LOCKED := .venv/.locked-$(shell { cat requirements-dev.lock; pwd; } | cksum | tr ' ' '-')
INSTALLED := $(LOCKED)-$(shell cat pyproject.toml requirements*.in | cksum | tr ' ' '-')

CODE := services shared cli deploy tests docs/examples

.PHONY: help setup demo up test test-all check machine fuzz chaos-points bench chaos-drops chaos-detection chaos-faults docs clean lock fmt

help: ## say what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## make .venv and install everything into it; the other targets do it when needed
	@:

$(LOCKED):
	@python=$$(PYTHON='$(PYTHON)' .ci/find-python) || exit 1; \
	echo "making .venv with $$python" >&2; \
	"$$python" -m venv --clear .venv
	@echo "installing what requirements-dev.lock names; once, about a minute" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
		-r requirements-dev.lock
	@touch $@

$(INSTALLED): $(LOCKED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(INSTALLED) ## run an orchestration of three tasks on this machine, from nothing to its end
	@exec $(BIN)/orchestrator demo

up: $(INSTALLED) ## run the whole system on this machine until Ctrl-C
	@exec $(BIN)/orchestrator up

test: $(INSTALLED) ## run the tests
	@exec $(PYTEST) $(ARGS)

test-all: $(INSTALLED) ## run every test, those that take a minute or more as well
	@exec $(PYTEST) -m "long or not long" $(ARGS)

check: $(INSTALLED) ## run what must pass before a change: format, lint, types, tests
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy --strict $(CODE)
	$(PYTEST) $(ARGS)

machine: $(INSTALLED) ## go long ways through the REST API, each answer held against a model
	@MACHINE_EXAMPLES=$(or $(EXAMPLES),200) MACHINE_STEPS=50 exec $(BIN)/python -m pytest \
		tests/integration/api/test_rest_machine.py $(ARGS)

fuzz: $(INSTALLED) ## make up more than 5000 requests by the OpenAPI document, and check every answer
	@exec $(BIN)/python -m tests.fuzz $(ARGS)

chaos-points: $(INSTALLED) ## kill each service at each failpoint twenty times, on both versions of the API
	@exec $(BIN)/python -m tests.chaos.points $(ARGS)

bench: $(INSTALLED) ## measure speed and cost of the running system
	@exec $(BIN)/python -m tests.bench $(ARGS)

chaos-drops: $(INSTALLED) ## 1,000 attempts whose creates often get no answer, on each version of the API
	@exec $(BIN)/python -m tests.shows drops $(ARGS)

chaos-detection: $(INSTALLED) ## how soon polls alone see that agents have ended, 500 of them
	@exec $(BIN)/python -m tests.shows detection $(ARGS)

chaos-faults: $(INSTALLED) ## every fault of the simulator against the whole system
	@exec $(BIN)/python -m tests.shows faults $(ARGS)

docs: $(INSTALLED) ## write the generated pages of docs/
	@$(BIN)/python -m services.api.docs docs/openapi.json
	@$(BIN)/python -m services.api.fields docs/fields.md
	@$(BIN)/python -m services.api.permissions docs/permissions.md
	@$(BIN)/python -m services.notifier.docs docs/public-events.md
	@$(BIN)/python -m shared.transitions docs/transitions.md

fmt: $(INSTALLED) ## put the code into its one format
	@$(BIN)/ruff check --quiet --fix $(CODE)
	@$(BIN)/ruff format --quiet $(CODE)

lock: ## pin requirements*.in anew (UPGRADE=1 takes the newest versions)
	@UPGRADE='$(UPGRADE)' PYTHON='$(PYTHON)' .ci/lock

clean: ## remove what the other targets made, the data of `make up` included
	@rm -rf .venv .data build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
