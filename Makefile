# `make demo` and `make test` set up everything from a clean clone.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
CASES ?= 10000

.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/:.*  ## /\t/' | expand -t 12

demo: $(VENV)/.installed  ## audit an example that diverges and show the report
	@echo "+ repro-audit examples/numpy_shared_memory.py"
	@$(BIN)/repro-audit examples/numpy_shared_memory.py; status=$$?; \
	  [ $$status -eq 1 ] || { echo "the demo should end with status 1 (diverged), but it ended with $$status"; exit 1; }

test: $(VENV)/.tools  ## style, types and all tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@# with PYTHONDONTWRITEBYTECODE, each of a few thousand process starts would compile the sources again
	$(BIN)/python -m compileall -q auditor
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

quick: $(VENV)/.tools  ## the tests that start no training script
	$(BIN)/pytest -m "not torch" -n $(WORKERS)

fuzz: $(VENV)/.tools  ## ten thousand damaged runs, rules, configurations and audits; CASES=n sets the number
	$(BIN)/python -m tests.fuzz $(CASES)

bench: $(VENV)/.installed  ## cost of recording, judging and searching for causes, and accuracy of device comparison; writes bench/results
	$(BIN)/python bench/recorder.py
	$(BIN)/python bench/judging.py
	$(BIN)/python bench/causes.py
	$(BIN)/python bench/devices.py
	$(BIN)/python bench/fidelity.py
	$(BIN)/python bench/matching.py

docs: $(VENV)/.installed  ## generate the reference of the trace format from its schema
	$(BIN)/python docs/reference.py

picture: $(VENV)/.installed  ## make the terminal picture of the README from a real audit
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
