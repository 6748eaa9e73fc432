# Two commands do everything on a fresh clone: `make build-sft-data` and `make test`. Each makes the virtual environment
# itself when it is missing.
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready
BUILD_ARGS ?=

.PHONY: build-sft-data test test-parity check teacher

build-sft-data: $(READY)
ifdef OMR_TEACHER_URL
	$(BIN)/omr build recipes/omr_sft_874k.py $(BUILD_ARGS)
else
	@echo 'No teacher is configured, so this builds the tiny set with the embedded teacher. The full set:'
	@echo '    OMR_TEACHER_URL=http://HOST:8000/v1 make build-sft-data'
	$(BIN)/omr build recipes/omr_sft_tiny.py $(BUILD_ARGS)
endif

test: $(READY)
	$(BIN)/python -m pytest

# The policy losses against TRL's own code, in an environment that has it.
test-parity: .venv-parity/.ready
	.venv-parity/bin/python -m pytest -n 0 tests/parity

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Trains the embedded teacher again, from scratch (about 45 minutes on two cores), and replaces its weights.
teacher: $(READY)
	$(BIN)/python -m omr_data.teachers.tiny.train

# torch is installed first and by its exact version: an unpinned torch pulls a CUDA stack of several GB.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

.venv-parity/.ready: pyproject.toml constraints.txt
	test -x .venv-parity/bin/python || $(PYTHON) -m venv .venv-parity
	.venv-parity/bin/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	.venv-parity/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,parity]'
	touch .venv-parity/.ready
