# Every target sets up what it needs, so the first one in a fresh clone takes a minute longer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS := $(VENV)/.peers
EVIDENCE := $(VENV)/.evidence
PAGE := $(VENV)/.page
DOCS := $(VENV)/.docs
CLUSTER := $(VENV)/.cluster
RELEASE := $(VENV)/.release
SHARE ?= 1
SECONDS ?= 60
WORKERS ?= 8

unexport PYTHONDONTWRITEBYTECODE # each child of a test would compile every module again

.DEFAULT_GOAL := help
.PHONY: help install demo test slow check format lint types arch props evidence page page-load pictures pages docs docs-look docs-serve release-check mutants torture bench bench-quick report bench-check bench-baseline bench-quiet clean cli metrics cluster cluster-chaos cluster-bench

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(READY) ## create the virtual environment with all dependencies

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "launcher-recovery needs Python 3.11 or newer; try: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[comfyui,launcher,monitor,nats,opentelemetry,prometheus,testing,web]" --group test --group lint --group bench
	@touch $(READY)

$(PEERS): $(READY)
	$(BIN)/python -m pip install --quiet --group peers --group report
	@touch $(PEERS)

$(EVIDENCE): $(READY)
	$(BIN)/python -m pip install --quiet --group evidence
	@touch $(EVIDENCE)

$(PAGE): $(READY)
	@for one in chromium npm; do command -v $$one >/dev/null || { echo "this needs $$one: apt-get install $$one"; exit 1; }; done
	$(BIN)/python -m pip install --quiet --group page
	npm install --silent --no-save --prefix $(VENV)/axe axe-core@4
	@touch $(PAGE)

$(DOCS): $(READY)
	@command -v promtool >/dev/null || { echo "this needs promtool: apt-get install prometheus"; exit 1; }
	$(BIN)/python -m pip install --quiet --group docs
	@touch $(DOCS)

$(CLUSTER): $(READY)
	$(BIN)/python -m pip install --quiet --group cluster
	@touch $(CLUSTER)

$(RELEASE): $(READY)
	$(BIN)/python -m pip install --quiet --group release
	@touch $(RELEASE)

demo: $(READY) ## show a launch that fails in eleven ways, is killed twice, and still succeeds (half a minute)
	$(BIN)/recovery demo

test: $(READY) ## run the tests, of very many cases a few of each kind (three minutes)
	$(BIN)/python -m pytest -n logical --dist loadfile

slow: $(READY) ## run the cases that `make test` leaves out (two minutes)
	$(BIN)/python -m pytest -n logical --dist loadfile -m slow

check: lint types arch ## run lint, types and arch: everything that needs no test

format: $(READY) ## format the code and fix what ruff can fix
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint: $(READY) ## check style and formatting (ruff)
	$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: $(READY) ## check types (mypy, strict; basedpyright, strict for tests/typing)
	$(BIN)/mypy && $(BIN)/mypy tests/typing && $(BIN)/basedpyright

arch: $(READY) ## check layers and import circles (import-linter)
	$(BIN)/lint-imports

props: $(READY) ## run the property tests alone, with 3000 examples each
	HYPOTHESIS_PROFILE=thorough $(BIN)/python -m pytest -m "" --timeout 900 tests/properties

evidence: $(EVIDENCE) ## ask twenty libraries for their errors, on the loopback (half a minute)
	$(BIN)/python -m pytest tests/evidence

page: $(PAGE) ## test the web page in Debian's Chromium, with axe-core (a minute; chromium and npm)
	$(BIN)/python -m pytest tests/page

page-load: $(PAGE) ## measure the page with 1000 live calls (a minute; SECONDS=600: ten)
	$(BIN)/python -m tests.page.load --seconds $(SECONDS)

pictures: $(PAGE) ## write docs/pictures: the page at both widths, light and dark
	$(BIN)/python -m tests.page.pictures

metrics: $(READY) ## run the alert rules and the dashboard's queries in a real Prometheus (ten seconds; Debian's prometheus)
	$(BIN)/python -m pytest tests/prometheus

cluster: $(CLUSTER) ## test several machines on real nats-servers, killed, stopped and cut off (two minutes and a half; Debian's openssl)
	$(BIN)/python -m pytest -n logical --dist loadfile tests/cluster

cluster-chaos: CALLS ?= 1000
cluster-chaos: SECONDS = 600
cluster-chaos: SLOWDOWN = 1
cluster-chaos: $(CLUSTER) ## kill and stop servers and workers for ten minutes, and print what was lost (CALLS=150 SECONDS=60: two minutes; SLOWDOWN=2: a busy machine)
	$(BIN)/python -m tests.cluster.chaos --calls $(CALLS) --workers $(WORKERS) --seconds $(SECONDS) --slowdown $(SLOWDOWN)

cluster-bench: CALLS ?= 100000
cluster-bench: $(CLUSTER) ## measure servers with 100000 waiting calls, and submissions a second (three minutes; CALLS=10000: one)
	$(BIN)/python -m tests.cluster.bench --calls $(CALLS)

docs: $(DOCS) ## build the documentation into site/, check it, and run its slow examples (four minutes; Debian's prometheus)
	$(BIN)/python -m tests.docs.site
	$(BIN)/python -m pytest -n logical --dist worksteal -m docs --timeout 600 tests/docs

docs-look: $(DOCS) $(PAGE) ## test the built documentation in Debian's Chromium (two minutes; chromium and npm)
	$(BIN)/python -m pytest tests/site

docs-serve: $(DOCS) ## serve the documentation at http://localhost:8000, built again after each change
	$(BIN)/python -m zensical serve -f .zensical.toml

pages: $(READY) ## write what the documentation has from the code: tables of the reference, and docs/llms.txt
	$(BIN)/python -m tests.docs.plans_page
	$(BIN)/python -m tests.docs.causes_page
	$(BIN)/python -m tests.docs.metrics_page
	$(BIN)/python -m tests.docs.events_page
	$(BIN)/python -m tests.docs.classification_page
	$(BIN)/python -m tests.docs.exceptions_page
	$(BIN)/python -m tests.docs.llms

cli: $(READY) ## write docs/reference/cli.md, tests/golden/cli and docs/pictures/status.svg: what the commands print
	$(BIN)/python -m tests.docs.cli_page

release-check: $(RELEASE) ## build dist/, install the wheel elsewhere, and test it there (eight minutes; FORM=--short: two)
	$(BIN)/python -m tests.release $(FORM)

mutants: $(READY) ## plant each known bug, and check that its test fails (four minutes)
	$(BIN)/python -m tests.mutants

torture: $(CLUSTER) ## kill, stall and flood the journal and the servers, and print what was lost (thirty-eight minutes; SHARE=0.05: two)
	$(BIN)/python -m tests.torture $(ROWS) --share $(SHARE)

bench: $(PEERS) ## measure and print all figures, beside other libraries (six minutes)
	$(BIN)/python -m bench table

bench-quick: $(PEERS) ## the same in fewer rounds (a minute)
	$(BIN)/python -m bench table --quick

report: $(PEERS) ## measure all figures, and write docs/explanation/performance.md, .json and charts (seven minutes)
	$(BIN)/python -m bench report

bench-check: $(READY) ## fail if a ratio is 20 % worse than bench/baseline.json or a count has grown (three quarters of a minute)
	$(BIN)/python -m bench check

bench-baseline: $(READY) ## write the figures of this tree to bench/baseline.json (two minutes and a half)
	$(BIN)/python -m bench baseline

bench-quiet: $(READY) ## test bench-check for false alarms: 20 checks on a busy machine (twenty minutes)
	$(BIN)/python -m bench quiet

clean: ## delete everything that the targets created
	rm -rf $(VENV) .cache build site dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
