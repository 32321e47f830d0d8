# `make demo` and `make test` each set up all they need on a machine that has Python 3.11, make and a package index.
PYTHON ?= python3.11
VENV   ?= .venv
# elsewhere than here the index may offer torch with CUDA; for the smaller wheel:
#   make PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu" test
PIP_FLAGS ?=
BIN := $(VENV)/bin
JOBS ?= 2

.PHONY: container dist sbom chromium pacs fuzz help install demo picture docs test test-common test-slow test-lowest lint format clean

help:
	@echo "make demo | picture | docs | container | dist | sbom | fuzz | test | test-common | test-slow | test-lowest | lint | format | clean"

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

# what the package brings along: CycloneDX SBOM and licences of the runtime and the extras, into build/supply_chain
sbom: install
	$(BIN)/python scripts/supply_chain.py --output_dir build/supply_chain

# wheel and sdist, the same bytes from the same files
dist: install
	$(BIN)/python -m build --no-isolation

# the steps of .devcontainer/Containerfile in an environment of their own, then predict and the page on a root that cannot
# be written to, with no network: needs root for that part
container: dist
	$(PYTHON) scripts/container.py build/container

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile -m "not slow"

# the pages are looked at in Debian's Chromium; where it is not there and cannot be installed those tests are skipped
chromium:
	command -v chromium || (apt-get update && apt-get install -y --no-install-recommends chromium) || true

# transformers' own common tests on our classes and on stock Swin, for a version that pyproject.toml admits
VERSION ?= $(shell $(BIN)/python -c "import transformers; print(transformers.__version__)")
test-common: install
	OMP_NUM_THREADS=1 $(BIN)/python scripts/common_tests.py --version $(VERSION)

# the plug-in for a PACS, and what its loop is tried with: Orthanc, dcmtk, dicom3tools; skipped where they cannot be had
pacs: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt ./plugins/mammo-hf-pacs
	command -v dciodvfy && command -v Orthanc || (apt-get update && \
		apt-get install -y --no-install-recommends orthanc orthanc-dicomweb dcmtk dicom3tools) || true

# the quick tests of plug-ins are run here too: what they need is not installed for `make test`
test-slow: install chromium pacs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) -m slow
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) -m "not slow" tests/plugins

# damaged files by the thousand, of other seeds than the tests': DICOM by bytes, elements and frames, and pictures
COUNT ?= 20000
SEED  ?= 1000000
fuzz: install
	mkdir -p build
	OMP_NUM_THREADS=1 $(BIN)/python tests/dicom/fuzz.py $(SEED) $(COUNT) 2> build/fuzz.log

# the oldest versions that pyproject.toml admits, in an environment of their own; torch's wheels with CUDA are gigabytes:
#   make PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu" test-lowest
LOWEST ?= .venv-lowest
LOWEST_EXTRAS ?= codecs download onnx ray tensorboard
LOWEST_TESTS ?= tests/dicom tests/data tests/evaluation tests/explainers tests/inference tests/test_*.py
comma := ,
space := $(subst ,, )

$(LOWEST)/.installed: pyproject.toml scripts/lowest_versions.py
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check packaging
	$(LOWEST)/bin/python scripts/lowest_versions.py $(LOWEST_EXTRAS) > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c $(LOWEST)/lowest.txt \
		-e ".[$(subst $(space),$(comma),$(LOWEST_EXTRAS))]" pytest pytest-xdist hypothesis \
		pylibjpeg pylibjpeg-openjpeg python-gdcm
	touch $@

test-lowest: $(LOWEST)/.installed
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -q -n $(JOBS) -m "not slow" $(LOWEST_TESTS)

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(LOWEST) build dist *.egg-info demo
