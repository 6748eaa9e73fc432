# Two commands do everything on a fresh clone; each makes the virtual environment itself when it is missing.
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready

.PHONY: test check

test: $(READY)
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)
