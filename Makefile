# Both main commands make their environment themselves; they need Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-all coverage torture bench check lint types layers schema cronjobs clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; name another with: make PYTHON=python3.12 …" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing warehouse-sync and its tools into .venv (once, about half a minute) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: .venv/installed ## Mirror a generated customer base into a sandbox audience, twice
	@$(BIN)/python configs/quickstart/demo.py

WORKERS ?= 4
PYTEST = $(BIN)/python -m pytest --numprocesses $(WORKERS)
test: .venv/installed ## Run the tests that guard a change, about 9 minutes on two cores: WORKERS=4
	@$(PYTEST)

test-all: export WAREHOUSE_SYNC_TESTS = all
test-all: .venv/installed ## Run every suite on every engine, all mutations and the large rounds of random tests
	@$(PYTEST)

coverage: export WAREHOUSE_SYNC_TESTS = all
coverage: .venv/installed ## Run all tests and list the lines and branches that none of them reaches
	@$(PYTEST) --cov --cov-report=term-missing:skip-covered

torture: .venv/installed ## Kill real workers at every point and at random: HISTORIES=1000 SEED=7 WAREHOUSE=duckdb
	@PYTHONPATH=tests $(BIN)/python -m harness.histories.torture $(if $(HISTORIES),--histories $(HISTORIES)) \
		$(if $(SEED),--seed $(SEED)) $(if $(FIRST),--first $(FIRST)) $(if $(POINTS),--points $(POINTS)) \
		$(if $(WAREHOUSE),--warehouse $(WAREHOUSE)) $(if $(STORY),--story '$(STORY)') \
		$(if $(KEEP_GOING),--keep-going)

.venv-bench/installed: pyproject.toml
	@test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	@echo "Installing what is measured beside warehouse-sync into .venv-bench (once, about a minute) …"
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@

BENCH = PYTHONPATH=tests $(BIN)/python -m benchmarks
LARGE ?= 10000000
bench: .venv/installed .venv-bench/installed ## Measure speed beside other ways: ROWS=100000,1000000 LARGE=10000000 REPEATS=3 WAREHOUSE=duckdb
	@$(BENCH) run --rows $(if $(ROWS),$(ROWS),100000,1000000) $(if $(REPEATS),--repeats $(REPEATS)) \
		$(if $(WAREHOUSE),--warehouse $(WAREHOUSE))
	@if [ -n "$(LARGE)" ]; then $(BENCH) run --rows $(LARGE) \
		--contenders "ours,ours 4 GB,start-up,floor,floor 512 MB,by hand,home-made,dlt" $(if $(REPEATS),--repeats $(REPEATS)) \
		$(if $(WAREHOUSE),--warehouse $(WAREHOUSE)); fi
	@$(BENCH) pace $(if $(WAREHOUSE),--warehouse $(WAREHOUSE))
	@$(BENCH) start-up
	@$(BENCH) report

check: lint types layers ## All static checks

lint: .venv/installed
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: .venv/installed
	@$(BIN)/mypy

layers: .venv/installed
	@$(BIN)/lint-imports

cronjobs: .venv/installed ## Write the CronJobs of the example again
	@set -a && . ./configs/kubernetes/configuration/example.env && $(BIN)/python -m warehouse_sync \
		--config configs/kubernetes/configuration/sync.yaml kubernetes > configs/kubernetes/cronjobs/cronjobs.yaml

schema: .venv/installed ## Write the JSON Schema of the configuration again
	@$(BIN)/python -m warehouse_sync.config.json_schema > docs/configuration.schema.json

clean: ## Remove the environments and what the demo and the benchmark made
	rm -rf .venv .venv-bench .demo .bench build dist *.egg-info
