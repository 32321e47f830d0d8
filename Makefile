# `make demo` and `make test` each set up all they need on a machine that has Python 3.11, make and a package index.
PYTHON ?= python3.11
VENV   ?= .venv
# elsewhere than here the index may offer torch with CUDA; for the smaller wheel:
#   make PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu" test
PIP_FLAGS ?=
BIN := $(VENV)/bin
JOBS ?= 2

.PHONY: chromium help install demo picture docs test test-slow lint format clean

help:
	@echo "make demo | picture | docs | test | test-slow | lint | format | clean"

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt torch setuptools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e ".[dev]"
	touch $@

install: $(VENV)/.installed

demo: install
	$(BIN)/python scripts/demo.py --output_dir demo

# the README's picture, from a demonstration of its own
picture: demo
	cp demo/story.png docs/img/demo.png

# the site, into build/site; a broken link or a docstring that does not fit its function fails
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) -m "not slow"

# the pages are looked at in Debian's Chromium; where it is not there and cannot be installed those tests are skipped
chromium:
	command -v chromium || (apt-get update && apt-get install -y --no-install-recommends chromium) || true

test-slow: install chromium
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) -m slow

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info demo
