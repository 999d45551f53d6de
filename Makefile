# Everything runs in .venv, made from $(PYTHON). Each extra that a target needs is installed when it
# is first needed; a stamp remembers it, so that a second run installs nothing and works offline.

PYTHON ?= python3
SEEDS ?= 1000
FIRST ?= 0
SECONDS ?= 20
SEED ?=
BENCH ?=
ONLY ?=
RUNS ?= 20000
KILLS ?= 100
WRITES ?= 1000000

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check install --quiet
CODE := exraft benchmarks examples tests

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo cluster shell test check bench simulate mutants fuzz stress soak clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.package ## watch a cluster elect, replicate, crash and recover
	@$(PY) -m exraft demo

cluster: $(VENV)/.package ## watch three processes be a cluster, one of them killed
	@$(PY) -m exraft cluster

shell: $(VENV)/.package ## type at a cluster of three servers
	@$(PY) -m exraft shell

test: $(VENV)/.test ## run the tests
	$(PY) -m pytest

check: $(VENV)/.dev ## lint, format, types, and the floors of the architecture
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy --strict $(CODE)
	$(VENV)/bin/lint-imports

bench: $(VENV)/.bench ## measure against the machine and PySyncObj (BENCH="--quick")
	@$(PY) -m benchmarks $(BENCH)

simulate: $(VENV)/.package ## let simulated clusters live through faults (SEEDS=1000, FIRST=0)
	@$(PY) -m exraft simulate --seeds $(SEEDS) --first $(FIRST)

mutants: $(VENV)/.test ## break each rule in turn, and see what notices (ONLY=pattern)
	@$(PY) -m tests.mutants $(if $(ONLY),--only '$(ONLY)')

fuzz: $(VENV)/.fuzz ## give the core every message there is (RUNS=20000)
	FUZZ_EXAMPLES=$(RUNS) $(PY) -m pytest -q --timeout 0 tests/fuzz/test_core.py
	$(PY) -m tests.fuzz.atheris_core -runs=$(RUNS)

stress: $(VENV)/.test ## run the stress tests (SECONDS=20, SEED=any)
	STRESS_SECONDS=$(SECONDS) $(if $(SEED),STRESS_SEED=$(SEED)) $(PY) -m pytest -m stress

soak: $(VENV)/.test $(VENV)/.bench ## kill processes, write a million times (KILLS=100, WRITES=1000000)
	$(PY) -m tests.distributed $(if $(SEED),--seed $(SEED))
	$(PY) -m tests.kills --kills $(KILLS) $(if $(SEED),--seed $(SEED))
	$(PY) -m tests.soak --writes $(WRITES) --plot benchmarks/results/soak.png

clean: ## remove the environment, caches and builds
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "exraft needs Python 3.11 or newer, and '$(PYTHON)' is not one:" \
			"name one that is, as in 'make PYTHON=python3.11'" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || { \
		echo "'$(PYTHON)' cannot make a virtual environment:" \
			"install its venv module (Debian: python3-venv)" >&2; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.package: $(VENV)/.made setup.cfg pyproject.toml
	@echo "installing exraft"
	@$(PIP) --editable '.[nodes]'
	@touch $@

$(VENV)/.test: $(VENV)/.package
	@echo "installing what the tests need"
	@$(PIP) --editable '.[test]'
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	@echo "installing what the checks need"
	@$(PIP) --editable '.[dev]'
	@touch $@

$(VENV)/.fuzz: $(VENV)/.test
	@echo "installing what fuzzing by coverage needs"
	@$(PIP) --editable '.[fuzz]'
	@touch $@

$(VENV)/.bench: $(VENV)/.package
	@echo "installing what the benchmarks need"
	@$(PIP) --editable '.[bench]'
	@touch $@
