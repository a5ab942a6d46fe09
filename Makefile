# Every target sets up what it needs; the first one in a fresh clone takes a minute longer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS := $(VENV)/.peers

.DEFAULT_GOAL := help
.PHONY: help install demo test check format lint types arch props mutants torture bench bench-quick report bench-check bench-baseline bench-quiet clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(READY) ## make the virtual environment, with everything in it

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "launcher-recovery needs Python 3.11 or newer; try: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[launcher,monitor,testing]" --group test --group lint --group bench
	@touch $(READY)

$(PEERS): $(READY)
	$(BIN)/python -m pip install --quiet --group peers --group report
	@touch $(PEERS)

demo: $(READY) ## a launch that fails in seven ways, is killed, and arrives whole (half a minute)
	$(BIN)/recovery demo

test: $(READY) ## every test, in a process a core (a minute and a half)
	$(BIN)/python -m pytest -n logical --dist loadfile

check: lint types arch ## all that can be said without running the code

format: $(READY) ## rewrite the code as ruff likes it
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint: $(READY) ## ruff, formatting included
	$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: $(READY) ## mypy, strict; basedpyright, strict for tests/typing
	$(BIN)/mypy && $(BIN)/mypy tests/typing && $(BIN)/basedpyright

arch: $(READY) ## the layers hold (import-linter)
	$(BIN)/lint-imports

props: $(READY) ## the laws alone, with many more examples
	HYPOTHESIS_PROFILE=thorough $(BIN)/python -m pytest tests/properties

mutants: $(READY) ## plant each known bug, and see which test kills it (four minutes)
	$(BIN)/python -m tests.mutants

torture: $(READY) ## kill, starve and flood the journal, and print what it lost (seven minutes)
	$(BIN)/python -m tests.torture

bench: $(PEERS) ## the whole table of figures, beside other libraries (five minutes)
	$(BIN)/python -m bench table

bench-quick: $(PEERS) ## the same with fewer rounds (a minute)
	$(BIN)/python -m bench table --quick

report: $(PEERS) ## measure everything, and write docs/performance.md, .json and charts (six minutes)
	$(BIN)/python -m bench report

bench-check: $(READY) ## fail if a ratio is worse than bench/baseline.json by more than 20 % (half a minute)
	$(BIN)/python -m bench check

bench-baseline: $(READY) ## make the ratios of this tree the baseline
	$(BIN)/python -m bench baseline

bench-quiet: $(READY) ## see that the gate does not cry wolf: 20 checks, a spinning process on each core (twenty minutes)
	$(BIN)/python -m bench quiet

clean: ## remove what the targets made
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
