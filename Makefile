# Everything runs in a virtual environment of its own, made from nothing but Python and pip.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SERVERS := tests/interop/servers
NODE_STAMP := $(SERVERS)/node_modules/.installed
ARGS ?=

.PHONY: help test core lowest interop compatibility soak mutants lint format demo docs site bench build clean

help:
	@echo "make demo [ENDPOINT=https://…]  watch the client come through trouble"
	@echo "make test [ARGS='-k retry']      the whole test suite"
	@echo "make lowest                      the core of it on the lowest versions that pyproject admits"
	@echo "make core PYTHON=python3.12      the same tests on another Python"
	@echo "make soak [SOAK_SEED=8]          an hour of bad weather, or SOAK_SECONDS"
	@echo "make interop                     the JavaScript servers that some tests need (npm)"
	@echo "make compatibility               docs/compatibility.md, from a run against real servers and proxies"
	@echo "make lint                        formatter, linter, strict types, the floors of the house"
	@echo "make format                      format and fix what can be fixed"
	@echo "make docs                        the site, into site/, and the pages that are made of the code"
	@echo "make bench                       price of a call, side by side"
	@echo "make mutants [ARGS='*.retry.*']  how many small changes of the deciding modules the tests notice"
	@echo "make build                       wheel and sdist in dist/"

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

test: $(STAMP)
	$(BIN)/python -m pytest -n auto --dist loadgroup $(ARGS)

# What the floors of the dependencies have to carry: settings, the retry table, sessions, the wire, credentials, spans,
# and subscriptions that are lost, refused and ended, on both backends. A minute and a half on two cores.
LOWEST := .venv-lowest
LOWEST_TESTS := \
	tests/test_config.py tests/test_sources.py tests/test_secrets_dir.py tests/test_settings_files.py \
	tests/test_retry_decision.py tests/retries tests/test_operations.py \
	tests/test_sessions.py tests/test_wire.py tests/test_credentials.py tests/test_unsendable_headers.py \
	tests/telemetry_spans/test_telemetry_spans_of_calls.py::test_answers \
	tests/telemetry_spans/test_telemetry_spans_sdk.py::test_never_doubled \
	tests/test_upgrades.py tests/test_subscriptions_refusals.py \
	tests/subscription_reconnects/test_subscription_reconnects_going_on.py::TestGoingOn \
	tests/subscription_ends/test_subscription_ends_closing.py::TestClosingTheClient

# The same tests on another Python: make core PYTHON=python3.12
CORE := .venv-$(notdir $(PYTHON))

$(CORE)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(CORE)
	$(CORE)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e '.[httpx,yaml,starlette,demo]' pytest pytest-asyncio pytest-timeout pytest-xdist hypothesis \
		opentelemetry-sdk trustme
	@touch $@

core: $(CORE)/.installed
	$(CORE)/bin/python -m pytest -n auto --dist loadgroup -q $(LOWEST_TESTS) $(ARGS)

$(LOWEST)/.installed: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: \
		-r constraints-lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-lowest.txt \
		-e '.[httpx,yaml,starlette,demo]'
	@touch $@

lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python -m pytest -n auto --dist loadgroup -q $(LOWEST_TESTS) $(ARGS)

# No lock file: it would hold the addresses of whatever registry it was made with. Scripts of packages do not run.
$(NODE_STAMP): $(SERVERS)/package.json
	cd $(SERVERS) && npm install --no-package-lock --ignore-scripts --omit=optional --no-audit --no-fund --loglevel=error
	@touch $@

interop: $(NODE_STAMP)

# A test that fails is a cell that says so, and the last command fails.
compatibility: $(STAMP) $(NODE_STAMP)
	-REQUIRE_PROGRAMS=1 $(BIN)/python -m pytest -n auto --dist loadgroup -q tests/interop \
		-o junit_family=xunit1 --junitxml=build/interop.xml $(ARGS)
	$(BIN)/python docs/compatibility.py build/interop.xml

soak: $(STAMP)
	SOAK_SECONDS=$(or $(SOAK_SECONDS),3600) SOAK_SEED=$(or $(SOAK_SEED),$$(date +%s)) \
		$(BIN)/python -m pytest -s tests/test_chaos.py $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python docs/architecture.py

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# What the demo needs, and no more. Where the whole environment is there already, it serves.
DEMO := $(if $(wildcard $(STAMP)),$(VENV),.venv-demo)

.venv-demo/.installed: pyproject.toml constraints.txt
	@echo "installing into .venv-demo what the demo needs"
	@$(PYTHON) -m venv .venv-demo
	@.venv-demo/bin/python -m pip install --disable-pip-version-check --progress-bar off -c constraints.txt \
		-e '.[httpx,demo]' | while read -r line; do printf .; done; echo " done"
	@.venv-demo/bin/python -c "import graphql_prod"
	@touch $@

demo: $(DEMO)/.installed
	$(DEMO)/bin/python -m graphql_prod demo $(if $(ENDPOINT),--endpoint '$(ENDPOINT)') $(ARGS)

docs: $(STAMP)
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/draw_trace.py
	$(BIN)/python docs/draw_diagrams.py
	$(BIN)/python tests/error_texts.py
	$(MAKE) --no-print-directory site

# Broken links, missing names and unlisted pages are errors.
site: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "site/index.html"

bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks

mutants: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[mutants]'
	HYPOTHESIS_PROFILE=mutants $(BIN)/mutmut run $(ARGS)
	$(BIN)/python docs/mutants.py

build: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt build
	$(BIN)/python -m build --outdir dist .

clean:
	rm -rf $(VENV) $(LOWEST) .venv-* site dist build mutants $(SERVERS)/node_modules *.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
