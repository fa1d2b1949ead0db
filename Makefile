# make demo   the whole journey on an embedded L1, every wei checked
# make test   formatting, lints, types, layers, all tests (make pytest: the tests alone)
# make soak   the long runs
# make bench-plugins  what plugins cost, beside a MetaMask snap
# make bench  the proxy and its peers side by side (benchmarks/README.md); wants nginx and wrk
# PYTHON=/path/to/python3.11 chooses the interpreter, VENV=dir where the environment goes.

VENV ?= .venv
BIN := $(VENV)/bin
CANDIDATES := python3.11 python3.12 python3 $(wildcard $(HOME)/.pyenv/versions/3.11.*/bin/python3.11) $(wildcard $(HOME)/.pyenv/versions/3.12.*/bin/python3.12)
PYTHON ?= $(shell for p in $(CANDIDATES); do "$$p" -c 'import sys, venv; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' >/dev/null 2>&1 && { echo "$$p"; break; }; done)
INSTALLED := $(VENV)/.installed
# The hot path, compiled by mypyc (compile.py); L2PROXY_PURE=1 leaves it as Python.
COMPILED := $(VENV)/.compiled
HOT_PATH := $(shell sed -n 's/^    "\(\(middleware\|proxy\)\/.*\.py\)",$$/\1/p' pyproject.toml)
NODE_PACKAGES := tests/node_modules/.installed
PEER_PACKAGES := benchmarks/metamask/node_modules/.installed
SNAP_PACKAGES := benchmarks/snaps/node_modules/.installed

# A hundred processes of ours start in the tests: none compiles to bytecode what another has compiled.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test pytest soak bench bench-plugins lint lock
.DELETE_ON_ERROR:

demo: $(INSTALLED) $(COMPILED)
	$(BIN)/l2proxy demo

# The checks need one core and so does the compiler: side by side they take half the time.
test: $(INSTALLED)
	$(MAKE) -j 2 --output-sync=target lint $(COMPILED)
	$(MAKE) pytest

pytest: $(INSTALLED) $(COMPILED) $(NODE_PACKAGES)
	$(BIN)/pytest -q -n 2 --dist worksteal --ignore=tests/soak $(PYTEST_ARGS)

soak: $(INSTALLED) $(COMPILED) $(NODE_PACKAGES)
	$(BIN)/pytest -q tests/soak

bench: $(INSTALLED) $(COMPILED) $(NODE_PACKAGES) $(PEER_PACKAGES)
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

bench-plugins: $(INSTALLED) $(COMPILED) $(NODE_PACKAGES) $(SNAP_PACKAGES)
	$(BIN)/python -m benchmarks.plugins $(BENCH_ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	cd plugins/paychan && $(abspath $(BIN))/mypy --config-file ../../pyproject.toml -m channel -p paychan
	$(BIN)/lint-imports

$(INSTALLED): requirements.lock pyproject.toml sdk/python/pyproject.toml
	@test -n "$(PYTHON)" || { echo "l2proxy needs Python 3.11 or 3.12 with its venv module; install one or say make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' || { echo "l2proxy needs Python 3.11 or 3.12, and PYTHON=$(PYTHON) is another" >&2; exit 1; }
	@"$(PYTHON)" -m venv --clear $(VENV) || { echo "$(PYTHON) cannot make a virtual environment; on Debian install python3-venv" >&2; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e sdk/python -e .
	$(BIN)/python -m compileall -q proxy middleware plugins sdk/python/l2proxy_sdk
	@touch $@

$(COMPILED): $(INSTALLED) compile.py $(HOT_PATH)
	MYPY_CACHE_DIR=$(VENV)/.mypyc_cache $(BIN)/python compile.py
	@touch $@

$(NODE_PACKAGES): tests/package-lock.json
	@command -v npm >/dev/null || { echo "the tests need Node.js 20 or newer with npm" >&2; exit 1; }
	cd tests && npm ci --no-audit --no-fund
	@touch $@

$(PEER_PACKAGES) $(SNAP_PACKAGES): benchmarks/%/node_modules/.installed: benchmarks/%/package-lock.json
	@command -v npm >/dev/null || { echo "one of the benchmarks' peers needs Node.js 20 or newer with npm" >&2; exit 1; }
	cd benchmarks/$* && npm ci --no-audit --no-fund --ignore-scripts
	@touch $@

# Rewrites requirements.lock from pyproject.toml; needs uv on the PATH. No registry address goes into the file.
lock:
	uv pip compile pyproject.toml --extra dev --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-package l2proxy-sdk --no-annotate --no-header -o requirements.lock
