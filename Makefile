# make demo     find winning tickets on scikit-learn's digits, print the answer, leave the page
# make test     lint, types, import layers, tests
# make test-all the same with the slow tests: runs killed at fifty moments
# make docs     build the documentation site into site/, with nothing fetched, and check its links
# make findings write docs/findings.md anew from the committed records
# make bench    measure against others; ROWS=lenet5,mask some rows, OPEN_LTH=DIR with a clone of open_lth
# make mutants  faults made on purpose, each against the tests of its module; SEED=1 NUMBER=60
# make install  .venv with tombola and the tools for its development

PYTHON ?= python3
BIN := .venv/bin
TESTS ?=
MARKED ?= not slow
ROWS ?=
OPEN_LTH ?=
SEED ?= 0
NUMBER ?= 60

.PHONY: demo test test-all docs findings bench mutants install clean
.DEFAULT_GOAL := demo

demo: install
	$(BIN)/tombola demo

test: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m '$(MARKED)' $(TESTS)

test-all:
	$(MAKE) test MARKED=

docs: install
	$(BIN)/python -m website

findings: install
	$(BIN)/python -m findings

bench: install
	$(BIN)/python -m benchmarks --rows '$(ROWS)' --open-lth '$(OPEN_LTH)'

mutants: install
	$(BIN)/python -m mutants --seed $(SEED) --number $(NUMBER)

# The copy of pyproject.toml says what the environment was made for; it is written last.
install:
	@if ! cmp -s pyproject.toml .venv/installed.toml; then \
	    echo "setting up .venv (torch is large: a few minutes, about 6 GB)"; \
	    $(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "tombola needs Python 3.11 or newer; this is %d.%d. Name another one: make PYTHON=python3.12" % v[:2])' && \
	    $(PYTHON) -m venv .venv && \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' && \
	    cp pyproject.toml .venv/installed.toml; \
	fi

clean:
	rm -rf .venv
