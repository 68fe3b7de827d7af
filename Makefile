# Each target first sets itself up: it makes the virtual environment .venv if that is not there yet.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
FAULTY := configs/studies/leaks_shift.yaml

.PHONY: help train test test-slow check audit format bench lessons bad-input-page clean
.DEFAULT_GOAL := help

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.run: setup.cfg constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo 'error: Python 3.10 or newer is needed'; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

train: $(VENV)/.run  ## set up, fetch the data, train and test: make train ARGS="--model.depth 3"
	$(BIN)/python scripts/train.py $(ARGS)

test: $(VENV)/.dev  ## set up and run the fast tests
	$(BIN)/python -m pytest -n 2 -m 'not slow' $(ARGS)

test-slow: $(VENV)/.dev  ## set up and run the slow tests
	$(BIN)/python -m pytest -n 2 -m slow $(ARGS)

check: $(VENV)/.dev  ## check format, lint and types, and run the fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 -m 'not slow'

audit:  ## ask whether a vulnerability is known of the packages in constraints.txt
	test -x $(VENV)-audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)-audit && $(VENV)-audit/bin/python -m pip install --quiet pip-audit; }
	@$(PYTHON) .ci/audit.py $(VENV)-audit/bin/pip-audit

format: $(VENV)/.dev  ## format the code and fix what the linter can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev  ## compare the speed with the usual ways of training: about 35 minutes
	$(BIN)/python -m benchmarks $(ARGS)

lessons: $(VENV)/.run  ## run every lesson of the notes and write docs/lessons: 50 minutes; QUICK=--quick writes a first look to runs/lessons-quick
	$(BIN)/python scripts/study.py $(filter-out $(FAULTY),$(wildcard configs/studies/*.yaml)) --workers 2 $(QUICK) $(ARGS)
	$(BIN)/python scripts/study.py $(FAULTY) --extensions configs/studies/faulty_sources.py --workers 2 $(QUICK) $(ARGS)
	$(BIN)/python scripts/report.py $(patsubst configs/studies/%.yaml,runs/studies/%$(if $(QUICK),-quick),$(wildcard configs/studies/*.yaml)) --publish $(if $(QUICK),runs/lessons-quick,docs/lessons)

bad-input-page: $(VENV)/.dev  ## write docs/bad_input.md again from its tests
	PYTHONPATH=tests $(BIN)/python -m tests.whole.test_bad_input

clean:  ## remove the virtual environment and caches; data and runs stay
	rm -rf $(VENV) $(VENV)-audit .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
