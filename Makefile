# Two commands on a fresh machine with Python 3.11 or newer: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test lint type bench pages docs clean

setup: $(READY)

# torch comes first, pinned: left to the resolver, its newest build brings gigabytes of CUDA along.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: setup
	HF_HUB_OFFLINE=1 $(BIN)/bort demo

# Processes of one thread each: most tests are too small for two.
test: setup
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: setup
	$(BIN)/mypy

bench: setup
	$(BIN)/python -m benchmarks.speed.startup
	$(BIN)/python -m benchmarks.speed.pretrain_step
	$(BIN)/python -m benchmarks.speed.finetune_batches
	$(BIN)/python -m benchmarks.speed.teacher_cache
	$(BIN)/python -m benchmarks.quality.scarce

# The pages of results, the figures in README and docs, and the reference of the commands.
pages: setup
	$(BIN)/python -m benchmarks.pages
	$(BIN)/python -m tools.reference

docs: setup
	$(BIN)/python -m tools.site

clean:
	rm -rf $(VENV) site build runs .mypy_cache .ruff_cache .hypothesis
