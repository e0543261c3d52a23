# Every target works from a bare `python3` (3.11 to 3.14): what it needs is installed into .venv first, and again whenever
# pyproject.toml changes. PYTHON= chooses the interpreter that .venv is made with; ARGS= goes to the target's program.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LANGGRAPH := .venvs/langgraph
BOTS := .venvs/bots
INSTALL := -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-langgraph test-bots check diagrams report-picture bench crash crash-mutants dist pythons clean
.DELETE_ON_ERROR:

help:  ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 20

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) --editable '.[dev]'
	@touch $@

venv: $(READY)  ## set up .venv with everything that the other targets need

demo: $(READY)  ## watch a session from cookies-ready to deleted, against a local service
	$(BIN)/chatlease demo $(ARGS)

test: $(READY)  ## run the tests
	$(BIN)/python -m pytest $(ARGS)

test-langgraph: $(READY)  ## run the tests that ask a real LangGraph Server, which gets an environment of its own
	@$(MAKE) --no-print-directory $(LANGGRAPH)/.ready || echo 'LangGraph Server cannot be installed here: skipping' >&2
	TESTS_LANGGRAPH_SERVER=$(CURDIR)/$(LANGGRAPH)/bin/langgraph $(BIN)/python -m pytest tests/langgraph $(ARGS)

test-bots: $(READY)  ## run the bots of engine/README.md on their real frameworks, which get an environment of their own
	@$(MAKE) --no-print-directory $(BOTS)/.ready || echo 'the frameworks of bots cannot be installed here: skipping' >&2
	TESTS_BOTS_PYTHON=$(CURDIR)/$(BOTS)/bin/python $(BIN)/python -m pytest tests/bots $(ARGS)

check: $(READY)  ## lint, formatting, types (two checkers), borders between the packages
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-logo

diagrams: $(READY)  ## draw diagrams/ again from the lifecycle table, and write the schema of the trace
	$(BIN)/chatlease diagram --write diagrams
	$(BIN)/python -m chatlease._trace_schema

report-picture: $(READY)  ## draw diagrams/report.png again: the page of a made-up trace, in Chromium
	$(BIN)/python -m tests.browser.picture diagrams/report.png

bench: $(READY)  ## cost beside plain aiohttp and the seeds' algorithm, in ten minutes (ARGS=--quick: in one)
	$(BIN)/python -m tests.bench $(ARGS)

crash crash-mutants: export TESTS_LANGGRAPH_SERVER := $(CURDIR)/$(LANGGRAPH)/bin/langgraph

crash: $(READY)  ## kill workers (KILLS=10000 SEED=1): no chat is left, no living owner is hurt
	$(BIN)/python -m tests.crash $(if $(KILLS),--kills $(KILLS)) $(if $(SEED),--seed $(SEED)) $(ARGS)

crash-mutants: $(READY)  ## break each rule of the ledger and the sweeper in turn: each must be found out
	$(BIN)/python -m tests.crash --mutants $(if $(KILLS),--kills $(KILLS)) $(if $(SEED),--seed $(SEED)) $(ARGS)

dist: $(READY)  ## build the wheel and the sdist, and look into the wheel
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/check-wheel-contents dist/*.whl

pythons: $(READY)  ## one environment in .venvs/ per CPython 3.11 to 3.14 found here, for tests that run under each
	@$(MAKE) --no-print-directory --jobs 2 $$($(BIN)/python tests/pythons.py | sed 's|\([^ ]*\) .*|.venvs/\1/.ready|')

$(LANGGRAPH)/.ready: tests/langgraph/requirements.txt
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python $(INSTALL) --requirement $<
	@touch $@

$(BOTS)/.ready: tests/bots/requirements.txt pyproject.toml
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python $(INSTALL) --requirement $<
	@touch $@

.venvs/%/.ready: pyproject.toml | $(READY)
	"$$($(BIN)/python tests/pythons.py | sed -n 's|^$* ||p')" -m venv $(@D)
	$(@D)/bin/python $(INSTALL) --editable '.[test]'
	@touch $@

clean:  ## remove what these targets made, the environments too
	rm -rf $(VENV) .venvs build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find engine adapters tests -name __pycache__ -prune -exec rm -rf {} +
