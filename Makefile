# Everything a fresh clone needs is Python 3.11 or newer, pip and make: each target sets up .venv first.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
DOCS := .venv-docs

# Nothing here needs the network after the set-up: a look-up on the Hub would be a mistake, so let it fail at once.
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: help test test-all quickstart study compare lint docs format browser clean
help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' Makefile | expand -t 14

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -c constraints.txt -e ".[dev]"
	@touch $@

$(DOCS)/installed: docs/requirements.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install -r docs/requirements.txt
	@touch $@

test: $(VENV)/installed browser ## run the tests in two processes, at most 15 minutes on 2 cores
	$(RUN) -m pytest --durations=10 -n 2 --dist loadfile

test-all: $(VENV)/installed browser ## run the tests marked slow as well, in one process
	$(RUN) -m pytest --durations=10 -m ""

quickstart: $(VENV)/installed ## Shapes: SFT model, BDHS pairs, DPO, evaluation, report; at most 10 minutes
	$(RUN) recipes/shapes/run.py

study: $(VENV)/installed ## the quickstart over several seeds and settings
	$(RUN) recipes/shapes/run.py --study

compare: $(VENV)/installed ## Shapes: the comparison of the paper, pairs, judges and rewards of all kinds over three seeds
	$(RUN) recipes/shapes/compare.py

lint: $(VENV)/installed ## check style, imports and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

docs: $(DOCS)/installed ## build the documentation into site/, in an environment of its own
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs build --strict

format: $(VENV)/installed ## rewrite files in the house style
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

# Two tests open the report page in headless Chromium. They fail without it, so say how to get it rather than stop here.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
browser: ## find or install Chromium
	@for name in chromium chromium-browser google-chrome; do \
	  command -v $$name >/dev/null && exit 0; \
	done; \
	echo "Chromium not found, trying apt-get."; \
	{ $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq --no-install-recommends chromium; } \
	|| echo "Install Chromium or Google Chrome (for example \`apt-get install chromium\`, \`brew install chromium\`)."

clean: ## remove the environment, caches and builds; runs/ stays
	rm -rf $(VENV) $(DOCS) build dist site .pytest_cache .ruff_cache .mypy_cache .hypothesis .coverage*
