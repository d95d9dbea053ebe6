# Everything a developer does, one word each. Nothing needs root; `make run` is all a new clone needs.

# The first Python of this machine that the engine runs on.
FITS = -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
PYTHON = $(shell for python in python3 python3.13 python3.12 python3.11; do $$python $(FITS) && echo $$python && break; done)
BIN = .venv/bin
STAMP = .venv/.installed

.PHONY: help install run check lint types floors test fuzz crash simulation bench bench-large soak lock standard clean
.DEFAULT_GOAL := help

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

install: $(STAMP) ## install the engine and everything it needs into .venv

run: install ## start the engine on this site, with simulators of its partners
	@exec $(BIN)/hl7engine run . --simulators

check: lint types floors test ## everything below, as the CI runs it

lint: install ## style of the code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install ## types of the code
	$(BIN)/mypy

floors: install ## imports go down the floors only
	$(BIN)/lint-imports

test: install ## the whole test suite
	$(BIN)/python -m pytest -n auto

fuzz: install ## look for inputs that break a parser: make fuzz MINUTES=60
	$(BIN)/python -m fuzz --minutes $(or $(MINUTES),5)

crash: install ## kill the engine 1,000 times and account for every message (KILLS= SEED= MINUTES=)
	$(BIN)/python -m tests.crash --every-point --docs docs/crash-report.md --kills $(or $(KILLS),1000) \
		--minutes $(or $(MINUTES),60) $(if $(SEED),--seed $(SEED)) $(if $(JSON),--json $(JSON))

simulation: install ## the engine in simulated worlds, 10,000 seeds (SEEDS= FROM=)
	$(BIN)/python -m simulation --seeds $(or $(SEEDS),10000) --from $(or $(FROM),1)

bench: install ## the figures of README and docs, measured here in a quarter of an hour (needs cc; ROWS= SECONDS= JSON=)
	$(BIN)/python -m benchmarks $(if $(ROWS),--rows $(ROWS)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(JSON),--json $(JSON))

bench-large: install ## traffic and searches beside ten million stored messages (20 GB, half an hour; MESSAGES= JSON=)
	$(BIN)/python -m benchmarks.ten_million --messages $(or $(MESSAGES),10000000) $(if $(JSON),--json $(JSON))

soak: install ## load that must not hurt: a dead partner, a rush, a stop, upkeep, a flood, hours (PARTS= MINUTES= JSON=)
	$(BIN)/python -m benchmarks.soak $(if $(PARTS),--parts $(PARTS)) --minutes $(or $(MINUTES),10) $(if $(JSON),--json $(JSON))

lock: ## pin every dependency anew (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--group dev --output-file requirements.lock

standard: install ## write the standard's tables anew (engine/hl7/standard)
	$(BIN)/python -m tools.standard

clean: ## remove what was built; data and .env stay
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" && $(PYTHON) $(FITS) || { echo "hl7engine needs Python 3.11, 3.12 or 3.13;" \
		"$(or $(PYTHON),python3) is none of them. Name one: make install PYTHON=/path/to/python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$$($(PYTHON) --version) cannot make virtual environments:" \
		"ensurepip or venv is missing. On Debian and Ubuntu install the package python3-venv."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv  # one that is there keeps its Python, whichever was named for it
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q engine  # as pip does with what it copies: a start compiles nothing
	@$(BIN)/python -m benchmarks.machine
	@touch $(STAMP)
