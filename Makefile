# fraudstream: `make up` starts the platform, `make test` runs every test. `make help` lists the rest.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.12 >/dev/null 2>&1 && python3.12 -c '' 2>/dev/null && echo python3.12 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
UV := $(BIN)/uv

.DEFAULT_GOAL := help
.PHONY: help up down status test test-containers bench faults audit lint dashboards lock jars-lock

help:  ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v <= (3, 12) and f"Python 3.11 or 3.12 is needed, {sys.executable} is {v[0]}.{v[1]}: make up PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@grep -A 60 '^uv==' requirements.lock | sed '/^    # via/,$$d' > $(VENV)/uv.lock
	@test -x $(UV) || $(BIN)/python -m pip install --quiet --require-hashes --no-deps -r $(VENV)/uv.lock
	@$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

up: $(INSTALLED)  ## Start the whole platform on this machine; DEMO=no without simulated data
	@$(BIN)/fraudstream up $(if $(filter no,$(DEMO)),--no-demo)

down:  ## Stop it (fraudstream down --wipe deletes its state, too)
	@$(BIN)/fraudstream down

status:  ## Services, streams, counts, champion
	@$(BIN)/fraudstream status

test: $(INSTALLED)  ## Run every test
	@$(BIN)/python -m pytest

test-containers: $(INSTALLED)  ## Run docker-compose.yaml for real, with kills and a restore (Docker, half an hour)
	@$(BIN)/python -m pytest -m containers tests/containers -s

bench: $(INSTALLED)  ## Measure speed, side by side with a plain alternative
	@$(BIN)/fraudstream bench

faults: $(INSTALLED)  ## Kill, pause and cut, then count: nothing lost, nothing twice
	@$(BIN)/fraudstream faults

audit: $(INSTALLED)  ## Known vulnerabilities of the locked packages
	@$(BIN)/python .ci/audit.py

lint: $(INSTALLED)  ## Check the code's style and its types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

dashboards: $(INSTALLED)  ## Write grafana/dashboards and grafana/provisioning/alerting anew from include/grafana
	@$(BIN)/python -m include.grafana.build

lock:  ## Resolve requirements.lock anew from pyproject.toml
	@$(UV) pip compile --quiet --universal --generate-hashes --python-version 3.11 --extra test \
		--custom-compile-command "make lock" pyproject.toml -o requirements.lock

jars-lock: $(INSTALLED)  ## Write include/platform/jars.sha256 anew from ivy.xml
	@$(BIN)/python -c 'import tempfile, pathlib; from include.platform import jars; jars.write_lock(pathlib.Path(tempfile.mkdtemp()))'
