# `make` alone lists what can be made.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LAUNCHER := $(BIN)/python -m dossier_local
PARTS := gateway services/records services/approvals services/retention services/audit
PROJECTS := libs/common $(PARTS) services/audit/verifier services/audit/witness deploy
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
# pip spends most of its time on reading the index, so two share that; installing twice at once would not be quicker.
DOWNLOAD := $(PIP) download --quiet --no-deps --require-hashes --only-binary :all:

.DEFAULT_GOAL := help
.PHONY: help setup demo up down token status test check bench bench-long faults openapi secrets certificates lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv and install what requirements.lock names, once

# The stamp holds the digest of what was installed: touching a file, or cloning anew, installs nothing again.
DIGEST = $$(cat requirements.lock pyproject.toml $(PROJECTS:%=%/pyproject.toml) | cksum)
$(STAMP): requirements.lock pyproject.toml $(PROJECTS:%=%/pyproject.toml)
	@if [ -f $@ ] && [ "$$(cat $@)" = "$(DIGEST)" ]; then touch $@; else $(MAKE) --no-print-directory install; fi

.PHONY: install
install:
	@command -v $(PYTHON) >/dev/null 2>&1 || { echo "Dossier needs Python 3.11 or newer: install it, or name it with PYTHON=/path/to/python3."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Dossier needs Python 3.11 or newer, and $(PYTHON) is older: name another with PYTHON=/path/to/python3."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) comes without venv or ensurepip: install them (on Debian and Ubuntu: apt install python3-venv)."; exit 1; }
	@echo "Installing into $(VENV) …" >&2
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@set -e; wheels=$$(mktemp -d); trap 'rm -rf "$$wheels"' EXIT; \
	awk -v folder="$$wheels" '/^[A-Za-z0-9]/ {half = 1 - half} {print > (folder "/half" half)}' requirements.lock; \
	$(DOWNLOAD) -d "$$wheels" -r "$$wheels/half0" & first=$$!; \
	$(DOWNLOAD) -d "$$wheels" -r "$$wheels/half1"; wait $$first; \
	$(PIP) install --quiet --no-deps --require-hashes --no-compile --no-index --find-links "$$wheels" -r requirements.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation --no-index $(PROJECTS:%=-e ./%)
	@echo "$(DIGEST)" > $(STAMP)

demo: setup ## Tell the main job as a story, on real parts; 0 when every step went as told
	@$(LAUNCHER) demo

up: setup ## Start everything with the demo organisation, and stay until Ctrl-C
	@$(LAUNCHER) up

down: setup ## Stop what runs from this checkout
	@$(LAUNCHER) down

status: setup ## Say whether Dossier runs from this checkout, and where
	@$(LAUNCHER) status

token: setup ## Print an access token of a demo account: make token AS=<account>
	@if [ -z "$(AS)" ]; then echo "Say whose: make token AS=<account> (the accounts stand in .dossier/demo.json)." >&2; exit 2; fi
	@$(LAUNCHER) token "$(AS)"

test: setup ## Run the tests; DOSSIER_TEST_ORDER=7 takes their files in another order
	@$(BIN)/python -m pytest -n 2 --no-loadscope-reorder $(ARGS)

check: setup ## Lint, types, contracts between packages, migrations, OpenAPI files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy libs services gateway deploy tests
	$(BIN)/lint-imports
	$(LAUNCHER) check-migrations
	$(LAUNCHER) openapi --check

bench: setup ## Measure, as ratios in one run
	@$(BIN)/python -m pytest -p no:cacheprovider --timeout 900 -s tests/benchmarks/bench_*.py $(ARGS)

bench-long: setup ## Measure the log at ten million leaves too: hours, and 40 GB of disk
	@BENCH_LEAVES=10000,1000000,10000000 $(BIN)/python -m pytest -p no:cacheprovider --timeout 36000 -s tests/benchmarks/bench_log.py $(ARGS)

faults: setup ## Injure running stacks 200 times, and write what was lost into docs/reliability.md
	@$(BIN)/python -m tests.faults --write $(ARGS)

openapi: setup ## Write docs/api and the tables of docs from what the code declares
	@$(LAUNCHER) openapi
	@$(LAUNCHER) tables

COMPOSE := deploy/compose
secrets: setup ## Make what is missing of the secrets of compose: make secrets ISSUER=https://HOST:PORT
	@$(BIN)/dossier secrets $(COMPOSE)/secrets $(ISSUER:%=--issuer %)

certificates: setup ## Make and renew the certificates of compose: make certificates HOST="NAME …"
	@$(BIN)/dossier certificates $(COMPOSE)/certificates $(HOST:%=--host %)

# The second lock is what the image runs: the parts and the command, in the versions of the first.
IMAGE_LOCK := deploy/image/requirements.lock
IMAGE_PROJECTS := libs/common $(PARTS) deploy
OURS := $(foreach name,common approvals audit deploy gateway records retention verify witness,--no-emit-package dossier-$(name))
RESOLVE = "$$folder/bin/uv" pip compile --quiet --generate-hashes --no-header --no-emit-index-url --universal --python-version 3.11 $(OURS)

lock: ## Resolve the dependencies anew into requirements.lock and the image's (uv in a throwaway environment)
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && $(PYTHON) -m venv "$$folder" && \
	"$$folder/bin/pip" --disable-pip-version-check install --quiet uv && \
	$(RESOLVE) --group dev pyproject.toml --output-file requirements.lock $(ARGS) >/dev/null && \
	$(RESOLVE) --constraint requirements.lock --no-annotate $(IMAGE_PROJECTS:%=%/pyproject.toml) \
	  --output-file $(IMAGE_LOCK) >/dev/null

clean: ## Remove .venv, the data of this checkout and all caches
	@if [ -x $(BIN)/python ] && [ -f $(STAMP) ]; then $(LAUNCHER) clean; fi
	@rm -rf $(VENV) .dossier .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
