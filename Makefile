# Each target sets up .venv by itself; nothing has to be installed by hand but Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(shell cksum pyproject.toml constraints.txt | cksum | cut -d' ' -f1)

# RAPIDS' wheels install and import without a GPU. They are large, and kept here between environments.
WHEELS ?= $(HOME)/.cache/rooms-engine/wheels
GPU_VENV := .venv-gpu
KERNELS_VENV := .venv-kernels
WHEEL_VENV := build/venv-wheel

.PHONY: demo docs kernels test wheel test-wheel coverage test-gpu-contract test-gpu-kernels lint bench setup clean
setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	rm -f $(VENV)/.installed-*
	touch $@

demo: setup
	$(BIN)/rooms demo --rows 1000000 --out rooms-demo --overwrite

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

# A wheel with compiled kernels, for this Python and this platform, in dist/: decisions/0036.
wheel: setup
	rm -rf build dist
	$(BIN)/python -m engine.pipeline.ship_kernels build/kernels
	ROOMS_COMPILED_KERNELS=$(CURDIR)/build/kernels $(BIN)/python -m pip wheel --quiet --disable-pip-version-check \
		--no-deps --wheel-dir dist .

# The wheel in an environment of its own: the first fit compiles nothing and takes little longer than the second.
test-wheel: wheel
	rm -rf $(WHEEL_VENV) && $(PYTHON) -m venv $(WHEEL_VENV)
	$(WHEEL_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt dist/*.whl
	PYTHONPATH=tests $(WHEEL_VENV)/bin/python -P tests/wheel.py

# Branches of the core that its own tests and those of the commands reach; the settings are in pyproject.toml.
coverage: setup
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -n0 -q tests/tables tests/features tests/pca tests/kmeans tests/model tests/explain \
		tests/execution tests/lineage tests/utils tests/pipeline tests/bad_input tests/cli
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --show-missing --skip-covered

# The engine in the environment of a GPU machine, on a machine without one: signatures, then the tests of the GPU path.
test-gpu-contract:
	test -x $(GPU_VENV)/bin/python || $(PYTHON) -m venv $(GPU_VENV)
	mkdir -p $(WHEELS)
	$(GPU_VENV)/bin/python -m pip download --quiet --disable-pip-version-check --find-links $(WHEELS) --dest $(WHEELS) '.[cuda13-dask]'
	$(GPU_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --find-links $(WHEELS) --editable '.[cuda13-dask]' \
		pytest hypothesis polars
	# Without what it runs on, which is as large as RAPIDS again: only its source is looked at.
	$(GPU_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps flash-kmeans
	$(GPU_VENV)/bin/python tests/gpu/contract.py
	$(GPU_VENV)/bin/python -m pytest -p no:cacheprovider tests/gpu tests/backends

# The Triton kernels without a GPU: in the interpreter against plain loops, with mutants; and compiled for every GPU.
test-gpu-kernels: $(KERNELS_VENV)/.installed-$(shell cksum kernels/cuda/requirements.txt | cut -d' ' -f1)
	$(KERNELS_VENV)/bin/python -m pytest -p no:cacheprovider --confcutdir=tests/kernels/cuda tests/kernels/cuda

# Compile the Triton kernels again, after their source has changed: their archives are committed.
kernels: $(KERNELS_VENV)/.installed-$(shell cksum kernels/cuda/requirements.txt | cut -d' ' -f1)
	$(KERNELS_VENV)/bin/python -m engine.kernels.cuda.build kernels/cuda/cubins

$(KERNELS_VENV)/.installed-%: kernels/cuda/requirements.txt
	test -x $(KERNELS_VENV)/bin/python || $(PYTHON) -m venv $(KERNELS_VENV)
	$(KERNELS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement kernels/cuda/requirements.txt
	$(KERNELS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

# mypy sees the package as it is installed: engine/ with kernels/ inside, built from links.
lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf .build/types && mkdir -p .build/types/engine
	ln -s $(CURDIR)/engine/* .build/types/engine/ && ln -s $(CURDIR)/kernels .build/types/engine/kernels
	cd .build/types && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache -p engine

# The documentation as a site, in .build/docs; a warning is an error.
docs: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python -m sphinx --builder html --quiet --fail-on-warning --keep-going --conf-dir docs/site . .build/docs

bench: setup
	$(BIN)/python -m pytest benchmarks --benchmark-only

clean:
	rm -rf $(VENV) $(GPU_VENV) $(KERNELS_VENV) .build build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
