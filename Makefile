# Everything starts here: `make book`, `make test`, `make lab`. Each sets up what it needs.
.DEFAULT_GOAL := help
SHELL := /bin/sh
JOBS ?= 2
PROFILE ?= laptop
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PYTHONWARNINGS ?= ignore::DeprecationWarning:zmq

# The first Python that is new enough makes the environment; PYTHON=... overrides the choice.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
  2>/dev/null && { command -v $$p; break; }; done)

.PHONY: help book models-more pdf epub zip test test-site test-rest check test-dispatch test-paper lab bench lint format lock clean distclean browser

help:  ## say what can be made
	@grep -hE '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 16

$(READY): requirements.txt requirements-models.txt pyproject.toml helpers/book/environment.py
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer was not found."; \
	  echo "Debian/Ubuntu: sudo apt install python3 python3-venv   macOS: brew install python@3.13"; \
	  echo "or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12"; exit 1; }
	@"$(PYTHON)" helpers/book/environment.py $(VENV)
	@touch $@

book: $(READY)  ## run every notebook (profile laptop) and build build/html/index.html
	@$(BIN)/python -m helpers run --profile $(PROFILE) --jobs $(JOBS) --book

pdf: book browser  ## make the book one PDF, build/before-fine-tuning.pdf
	@$(BIN)/python -m helpers.book.forms pdf

epub: book  ## make the book an EPUB, build/before-fine-tuning.epub
	@$(BIN)/python -m helpers.book.forms epub

zip: book  ## pack the site to read offline, build/before-fine-tuning.zip
	@$(BIN)/python -m helpers.book.forms zip

# Hundreds of processes import our modules: each is compiled once, whatever the environment says.
test test-site test-rest check: export PYTHONDONTWRITEBYTECODE :=

test: $(READY) browser  ## run the linters and all tests, the smoke run and the built pages too
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory -j $(JOBS) test-site test-rest

# Two processes of their own: under pytest-xdist each would collect the tests of both.
test-site: $(READY)
	@$(BIN)/python -m pytest tests/test_site.py

test-rest: $(READY)
	@$(BIN)/python -m pytest --ignore tests/test_site.py

# Whole files go to processes, in the order of the files: what a file has made serves all its tests.
check: $(READY)  ## run the linters and the tests that need neither models nor the site
	@$(MAKE) --no-print-directory lint
	@$(BIN)/python -m pytest -q -m "not models and not site" \
	  -n $(JOBS) --dist loadfile --no-loadscope-reorder

test-dispatch: $(READY)  ## run the numeric tests under the arithmetic of other processors
	@$(BIN)/python tests/dispatch.py

test-paper: $(READY)  ## run every page with the models of the paper profile, tiny ones by their names
	@JOBS=$(JOBS) $(BIN)/python tests/paper_profile.py

browser: $(READY)
	@$(BIN)/python helpers/book/environment.py --browser

models-more: $(READY)  ## fetch two larger models (660 MB) for the parts that want them
	@$(BIN)/python -m helpers models-more

lab: $(READY)  ## open JupyterLab on the notebooks
	@$(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks

bench: $(READY)  ## measure the helpers against their peers
	@for b in benchmarks/[!_]*.py; do echo "== $$b"; $(BIN)/python $$b || exit 1; done

lint: $(READY)  ## check style, types of public functions and that notebooks hold no outputs
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/nbstripout --verify $(NBKEYS) notebooks/*/*.ipynb

format: $(READY)  ## format code and notebooks, and strip outputs
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .
	@$(BIN)/nbstripout --keep-id $(NBKEYS) notebooks/*/*.ipynb

NBKEYS := --keep-id --extra-keys "metadata.language_info metadata.papermill \
  cell.metadata.papermill cell.metadata.execution metadata.widgets"

lock:  ## resolve requirements.in again (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv: pip install uv"; exit 1; }
	uv pip compile --quiet --universal -p 3.11 requirements.in -o requirements.lock.tmp --no-annotate --no-header
	grep -vE '^(nvidia-|cuda-|triton)' requirements.lock.tmp > requirements.txt && rm requirements.lock.tmp

clean:  ## remove what was built, keep the environment and downloads
	rm -rf build book/notebooks book/_generated

distclean: clean  ## remove the environment too
	rm -rf $(VENV)
