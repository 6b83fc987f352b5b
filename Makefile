# make demo       train, compile and apply a small net, from nothing
# make test       everything that CI checks
# make test-all   the slow tests too: every spec at its full width, the whole demo; random examples
# make lint       style and types
# make fuzz       damaged and hostile input, SECONDS=10 for each kind
# make bench      the figures that the README states, measured here
# make clean      remove the environment and what was built
#
# Each sets up the environment in .venv when it is missing or its requirements have changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
SECONDS := 10
# A worker that has no tests left takes some of another's.
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal -q

# Else every process compiles all that it imports: for PyTorch, ten seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-all lint style types tests fuzz bench clean
.DELETE_ON_ERROR:

demo: $(READY)
	$(BIN)/vggspec demo

# The types are checked beside the tests, since that takes a minute of one processor.
test: style
	@$(MAKE) --no-print-directory -j 2 types tests

test-all: style
	@$(MAKE) --no-print-directory -j 2 types tests \
		SELECTION="-m 'slow or not slow' --hypothesis-profile=random"

lint: style types

style: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/vggspec fmt --check specs/*.vgg

types: $(READY)
	$(BIN)/python tests/typecheck.py

tests: $(READY)
	$(PYTEST) $(SELECTION)

fuzz: $(READY)
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

bench: $(READY)
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build *.egg-info demo runs bench-out .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Python compiles what it imports; to compile all that is installed takes most of a minute.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "vggspec needs Python 3.11 or later; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile \
		-c constraints.txt --editable '.[dev]'
	touch $(READY)
