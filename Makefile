# Every command does all its own set-up on a machine that has only Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test pytest lint docs javascript

demo: .venv/demo
	$(BIN)/limbeck demo

# Types are checked while the tests run, some of which wait for processes and pages; either one may fail.
test: .venv/ready
	$(MAKE) --no-print-directory -j2 lint pytest

# Bytecode is written even where the environment forbids it: the tests start many processes that import the package.
# Each of them takes one thread, as the tests do: more would wait for each other's cores.
# `make test COVERAGE=1` also says which share of the lines the tests run, and takes longer.
pytest: export PYTHONDONTWRITEBYTECODE =
pytest: export OMP_NUM_THREADS = 1
pytest: .venv/ready
	$(BIN)/python -m pytest $(if $(COVERAGE),-p tests.helpers.line_coverage) -n auto --dist worksteal --durations=10

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Into build/site. Material and one of its plug-ins advertise their successors at every start; they are told not to.
docs: export NO_MKDOCS_2_WARNING = true
docs: export DISABLE_MKDOCS_2_WARNING = true
docs: .venv/docs
	$(BIN)/mkdocs build --strict

# For the test of the JavaScript lines in the README of an export; without it, the test is skipped.
javascript:
	npm install --prefix build --no-audit --no-fund --ignore-scripts onnxruntime-web@1.22

.venv/demo: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[demo]'
	touch $@

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

.venv/docs: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[docs]'
	touch $@
