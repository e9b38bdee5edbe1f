# Everything runs in .venv, which the first target that needs it creates. Only Python >= 3.11 and
# make must be there. Pinned versions: .ci/constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# one process more than cores, for tests also wait; one thread in each, for threads that share a core
# with others wait for each other
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
SIDE_BY_SIDE = --dist worksteal --numprocesses $(shell $(BIN)/python -c 'import os; print(min(4, os.cpu_count() + 1))')
# tests that start clusters wait most of their time, but two clusters are enough for two cores; those
# of a file share one
BY_FILE := --dist loadfile --numprocesses 2
# tests that start none
WITHOUT_RAY := tests/core tests/contracts tests/docs tests/golden tests/gpu $(addprefix tests/studies/,analysis blocks cli report search storage runner/test_without_results.py test_results.py)
# what is tested at the lowest versions: all that calls NumPy, pandas, Optuna, MLflow, Ray or Typer
TOUCHED := tests/core tests/search_spaces $(addprefix tests/studies/,analysis blocks cli report search storage)

# environments beside .venv: the tools of a release, and the lowest versions that pyproject.toml allows
DIST := .venv-dist
LOWEST := .venv-lowest
TORCH ?= torch

.PHONY: help install quickstart docs dist test test-slow test-faults test-slurm test-lowest bench calibrate gpu lint format clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

install: $(STAMP) ## create .venv and install the pinned versions, once

$(STAMP): pyproject.toml .ci/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("dynloss needs Python 3.11-3.13; set PYTHON=python3.x" if not (3, 11) <= sys.version_info < (3, 14) else 0)'
	@echo "Installing into $(VENV) (PyTorch is a large download; this happens once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .ci/constraints.txt -e '.[dev]'
	@touch $@

quickstart: $(STAMP) ## a real study on this machine: verdict, figures, where to look next
	@$(BIN)/dynloss run quickstart --resume

test: $(STAMP) ## the test suite, on every core
	$(ONE_THREAD) $(BIN)/python -m pytest $(SIDE_BY_SIDE)

test-slow: $(STAMP) ## the tests that take minutes
	$(ONE_THREAD) $(BIN)/python -m pytest -m slow $(WITHOUT_RAY) $(SIDE_BY_SIDE)
	$(BIN)/python -m pytest -m slow $(WITHOUT_RAY:%=--ignore=%) $(BY_FILE)

test-faults: $(STAMP) ## kill, fill up and interrupt studies, and count what is lost (40 minutes)
	$(BIN)/python -m pytest tests/faults -m "faults or not faults"

test-slurm: $(STAMP) ## studies as jobs of a Slurm that it starts, from Debian's packages (13 minutes)
	$(BIN)/python -m pytest tests/studies/deploy -m "slurm or not slurm"

test-lowest: ## the fast tests of what touches other packages, at their lowest versions, in .venv-lowest
	@$(PYTHON) -m venv --clear $(LOWEST)
	@$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -c .ci/constraints.txt uv
	@$(LOWEST)/bin/uv pip compile --quiet --python $(LOWEST)/bin/python --resolution lowest-direct \
		--extra dev --no-header --no-annotate --output-file $(LOWEST)/lowest.txt pyproject.toml
	@$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python -r $(LOWEST)/lowest.txt -e .
	$(ONE_THREAD) $(LOWEST)/bin/python -m pytest --numprocesses 2 --dist worksteal $(TOUCHED)

bench: $(STAMP) ## engines, curvature, images, the analysis and the driver, measured; stored as JSON
	$(BIN)/python -m tests.benchmarks.engines
	$(BIN)/python -m tests.benchmarks.curvature
	$(BIN)/python -m tests.benchmarks.images
	$(BIN)/python -m tests.benchmarks.analysis
	$(BIN)/python -m tests.benchmarks.scale
	$(BIN)/python -m tests.benchmarks.rivals

calibrate: $(STAMP) ## how often verdicts err, by simulation (half an hour); stored as JSON
	$(BIN)/python -m tests.calibration.rates

gpu: ## what a machine with an NVIDIA GPU shows in eight minutes; needs PyTorch, and not .venv
	@bash tests/gpu/run.sh

docs: $(STAMP) ## the documentation, in docs/_build; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -n -q -b html docs docs/_build

dist: $(STAMP) ## sdist and wheel in dist/, checked and tried (TORCH=torch==X.Y for another build)
	@$(PYTHON) -m venv $(DIST)
	@$(DIST)/bin/python -m pip install --quiet --disable-pip-version-check -c .ci/constraints.txt build twine
	rm -rf dist
	$(DIST)/bin/python -m build --quiet
	$(DIST)/bin/python -m twine check --strict dist/*
	$(DIST)/bin/python tests/packaging/try_wheel.py dist/*.whl --torch $(TORCH) --packages-of $(VENV)

lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## let ruff rewrite the files
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and caches; results stay
	rm -rf $(VENV) $(DIST) $(LOWEST) .mypy_cache .pytest_cache .ruff_cache build dist docs/_build
