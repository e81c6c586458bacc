# `make demo`, `make test` and `make check` need Python 3.11 or newer and make; nothing else has to be typed first.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DEV := .venv/.dev
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test check lint types docs site bench clean

demo: $(READY)  ## Compare models on the embedded digits, then on generated faces, and say where the reports lie
	$(BIN)/vsc demo

test: $(DEV)  ## The quick tests
	$(BIN)/python -m pytest -m "not slow" -n auto --dist worksteal

check: $(DEV) lint types docs  ## Lint, types, documentation examples and all tests
	$(BIN)/python -m pytest -n auto --dist worksteal

lint: $(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(DEV)
	$(BIN)/pyright

docs: $(DEV)  ## The examples in the docstrings, run as tests
	$(BIN)/python -m pytest --doctest-modules src -p no:cacheprovider

site: $(DEV)  ## The documentation, in docs/_build/index.html; any warning and any dead link within it is an error
	$(BIN)/python docs/tutorials.py
	$(BIN)/sphinx-build -n -W --keep-going -q -b html docs docs/_build
	$(BIN)/python docs/links.py docs/_build

bench: $(READY)  ## Speed and memory, as ratios measured in one run
	$(BIN)/python benchmarks/speed.py

clean:
	rm -rf .venv .pytest_cache .ruff_cache docs/_build docs/api docs/tutorials

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) torch==2.13.0
	$(PIP) -e .
	touch $@

$(DEV): $(READY)  # what tests and checks need besides
	$(PIP) -e '.[dev]'
	touch $@
