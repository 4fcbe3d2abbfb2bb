# Two commands do everything: `make demo` (core environment and the main job) and `make test` (with [models]).
# Plain venv + pip; every installation passes the constraints of its Python version.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TAG := $(shell $(PYTHON) -c 'import sys; print("py%d%d" % sys.version_info[:2])')
CONSTRAINTS := constraints/$(TAG).txt
# Where torch comes from. On plain Linux the default torch carries CUDA (several GB); for the CPU build name the index
# or folder that has it, for example: make test TORCH_PIP_ARGS="--index-url <PyTorch's CPU index>"
TORCH_PIP_ARGS ?=
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Tests of a file stay on one worker, so that what they share is built once.
PYTEST_ARGS ?= -n 2 --dist loadfile

.PHONY: demo test kill-trials oracle bench lint types docs constraints clean

demo: $(VENV)/.core
	$(BIN)/cytolabe demo --out demo-out

# One thread for each worker: with more, workers wait for each other's threads, and steps of small networks take forty
# times as long. Numba has to be told by itself: where another library uses its OpenMP, it sets the number for torch, too.
test: export OMP_NUM_THREADS ?= 1
test: export NUMBA_NUM_THREADS ?= 1
test: $(VENV)/.test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# 300 ingests that are killed at seeded times and writes, and taken up again; about two seconds each.
kill-trials: $(VENV)/.test
	$(BIN)/python -W ignore tests/faults/kill_trials.py --trials 300

# The official validators of CELLxGENE, one for each version of its schema, in environments of their own (about 1.1 GB
# each), and what they say of the variants of the tests, recorded anew. Neither the tests nor the package need them.
oracle: $(VENV)/.test .venv-oracle/.made
	for peer in .venv-oracle=7.1.2 .venv-oracle-6=6.2.2 .venv-oracle-5=5.3.2; do \
	    test -x $${peer%%=*}/bin/python || $(PYTHON) -m venv $${peer%%=*} || exit 1; \
	    $${peer%%=*}/bin/python -m pip install --quiet --disable-pip-version-check cellxgene-schema==$${peer##*=} || exit 1; \
	    $(BIN)/python scripts/record_verdicts.py $${peer%%=*}/bin/python || exit 1; \
	done

# The latest of them alone, which `make bench` compares with.
.venv-oracle/.made:
	test -x .venv-oracle/bin/python || $(PYTHON) -m venv .venv-oracle
	.venv-oracle/bin/python -m pip install --quiet --disable-pip-version-check cellxgene-schema==7.1.2
	touch $@

# Speed and size beside named peers, which get environments of their own; one that cannot be installed is a row that says so. SIZE=full is the atlas of 300,000 cells and
# tables of 170 M rows instead of 20 M; MEMORY=1 ingests 3 M cells as well; REAL names a folder of h5ad files whose sizes are measured.
SIZE ?= small
BENCH_CELLS := $(if $(filter full,$(SIZE)),300000,30000)
BENCH_ROWS := $(if $(filter full,$(SIZE)),170,20)
BENCH_SECONDS := $(if $(filter full,$(SIZE)),12,6)
REAL ?= ../shared/data/h5ad

bench: $(VENV)/.test
	-$(MAKE) .venv-oracle/.made
	$(BIN)/python bench/install_peers.py
	$(BIN)/python bench/startup.py
	$(BIN)/python bench/ingest.py
	$(BIN)/python bench/synthetic.py --cells $(BENCH_CELLS)
	$(BIN)/python bench/ingest_memory.py $(BENCH_CELLS)
	$(BIN)/python bench/loaders.py $(BENCH_CELLS) $(BENCH_SECONDS)
	$(BIN)/python bench/table_queries.py $(BENCH_ROWS)
	$(BIN)/python bench/validate.py $(BENCH_CELLS)
	$(BIN)/python bench/confounding.py
	$(BIN)/python bench/splits.py
	$(BIN)/python bench/embeddings.py
	$(BIN)/python bench/embed_memory.py $(BENCH_CELLS) 3000
	$(BIN)/python bench/training.py
	$(BIN)/python bench/duplicates.py $(BENCH_CELLS)
	test ! -d $(REAL) || $(BIN)/python bench/sizes.py $(REAL)
	$(BIN)/python bench/write_page.py $(BENCH_CELLS)

lint: $(VENV)/.test
	$(BIN)/ruff check src tests scripts bench
	$(BIN)/ruff format --check src tests scripts bench
	$(BIN)/lint-imports
	$(BIN)/codespell src docs README.md CHANGELOG.md

types: $(VENV)/.test
	$(BIN)/mypy

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict

# Written by pip's own resolver; run it with each Python that is to be supported.
constraints:
	$(PYTHON) scripts/write_constraints.py

$(CONSTRAINTS):
	@echo "There is no $(CONSTRAINTS): this Python was not tried yet." >&2
	@echo "Use Python 3.11 (make PYTHON=python3.11 ...) or write it: make constraints" >&2
	@exit 2

$(VENV)/.made: $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.core: pyproject.toml $(CONSTRAINTS) $(VENV)/.made
	$(PIP) -c $(CONSTRAINTS) -e .
	touch $@

# torch first and by its bare version: any other spelling pulls gigabytes of CUDA packages on a CPU machine.
$(VENV)/.test: pyproject.toml $(CONSTRAINTS) $(VENV)/.core
	$(PIP) -c $(CONSTRAINTS) $(TORCH_PIP_ARGS) "$$(grep '^torch==' $(CONSTRAINTS))"
	$(PIP) -c $(CONSTRAINTS) -e '.[models,cloud,ray,soma]'
	$(PIP) -c $(CONSTRAINTS) $$($(BIN)/python scripts/dependency_group.py test lint)
	touch $@

$(VENV)/.docs: $(VENV)/.core
	$(PIP) -c $(CONSTRAINTS) $$($(BIN)/python scripts/dependency_group.py docs)
	touch $@

clean:
	rm -rf $(VENV) demo-out site
