# make demo   a storm from beginning to end, on a machine with nothing but Python >= 3.11
# make run    the same parts, until Ctrl-C
# make test   all but the long tests        make lint   what must be clean before a commit
# make bench  ratios against a real Alertmanager on this machine
# make soak   six minutes of load and random faults, then a verdict (SOAK_ARGS="--minutes 1 --seed 7"; "--sink
#             kubernetes" with an API server of its own, from the folder that KUBEBUILDER_ASSETS names)
# make setup  what all of them do first: .venv with everything in it, as requirements.lock pins it

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup demo run test lint bench soak clean

# The first Python that is new enough; `make setup PYTHON=/path/to/python` to choose another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
STAMP := .venv/.installed
# -qq: errors only
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check --no-input
# Two processes on two cores; a file stays in one of them, for it shares servers among its tests.
# The long tests are for .ci/run; `make test PYTEST_ARGS=` runs them too.
PYTEST_ARGS ?= -n 2 --dist loadfile -m "not slow"
SOAK_ARGS ?=

help:
	@sed -n '1,8s/^# //p' Makefile

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "stormfold needs Python 3.11 or later, and no python3 in PATH is that new" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "stormfold needs Python 3.11 or later; $(PYTHON) is `$(PYTHON) --version 2>&1`" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) lacks the venv module (on Debian: apt-get install python3-venv)" >&2; exit 1; }
	@echo "setting up .venv ..."
	@test -x $(BIN)/python && $(BIN)/python -m pip --version >/dev/null 2>&1 || { rm -rf .venv && $(PYTHON) -m venv .venv; }
	@$(PIP) install --no-deps -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP)
	@$(BIN)/stormfold demo

run: $(STAMP)
	@$(BIN)/stormfold run

test: $(STAMP)
	@$(BIN)/pytest $(PYTEST_ARGS)

bench: $(STAMP)
	@$(BIN)/python -m tests.benchmarks

soak: $(STAMP)
	@$(BIN)/python -m tests.soak $(SOAK_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
