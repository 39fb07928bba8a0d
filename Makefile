# `make demo` and `make test` do all the set-up from a clean clone.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
CASES ?= 10000

.DEFAULT_GOAL := help

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/:.*  ## /\t/' | expand -t 12

demo: $(VENV)/.installed  ## audit an example that diverges and show the report
	@echo "+ repro-audit examples/numpy_shared_memory.py"
	@$(BIN)/repro-audit examples/numpy_shared_memory.py; status=$$?; \
	  [ $$status -eq 1 ] || { echo "the demo should end with status 1 (diverged), it ended with $$status"; exit 1; }

test: $(VENV)/.tools  ## style, types and all tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@# where Python is told to write no bytecode, each of some thousand starts would compile our sources anew
	$(BIN)/python -m compileall -q auditor
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

quick: $(VENV)/.tools  ## the tests that start no training script
	$(BIN)/pytest -m "not torch" -n $(WORKERS)

fuzz: $(VENV)/.tools  ## ten thousand damaged runs, rules, configurations and audits; CASES=n for another number
	$(BIN)/python -m tests.fuzz $(CASES)

bench: $(VENV)/.installed  ## what recording, judging and a search for causes cost, what is said of devices and which numbers matter; writes bench/results
	$(BIN)/python bench/recorder.py
	$(BIN)/python bench/judging.py
	$(BIN)/python bench/causes.py
	$(BIN)/python bench/devices.py
	$(BIN)/python bench/fidelity.py
	$(BIN)/python bench/matching.py

docs: $(VENV)/.installed  ## the reference of the trace, from its one description
	$(BIN)/python docs/reference.py

picture: $(VENV)/.installed  ## the terminal picture of the README, from a real audit
	$(BIN)/python docs/picture.py

clean:  ## remove what the other targets made
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.tools: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev --group programs
	@touch $@

.PHONY: help demo test quick fuzz bench docs picture clean
